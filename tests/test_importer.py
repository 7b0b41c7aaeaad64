import gzip
import json
import os
import threading

import pytest
import zstandard

from inpars_tpu import cli, collection, errors, importer, manifest


def rows(path, **form):
  return [
    (number, record['_id'], record['title'], record['text'])
    for number, record in importer.read(path, 'corpus', importer.Form(**form))
  ]


def put(tmp_path, name, data):
  path = tmp_path / name
  path.write_bytes(data if isinstance(data, bytes) else data.encode())
  return path


def test_tsv_without_quotes_keeps_them(tmp_path):
  path = put(tmp_path, 'c.tsv', '1\tsay "a\n\n007\tb"\n')
  assert rows(path, columns=('_id', 'text')) == [
    (1, '1', '', 'say "a'),
    (3, '007', '', 'b"'),
  ]


def test_tsv_with_a_first_line_bom_and_crlf(tmp_path):
  path = put(tmp_path, 'c.tsv', '\ufeffkey\tbody\thead\r\n7\tx\tt\r\n')
  assert rows(
    path, id_field='key', text_field='body', title_field='head'
  ) == [(2, '7', 't', 'x')]  # fmt: skip


def test_tsv_with_quotes_around_tabs_and_newlines(tmp_path):
  data = '\ufeff_id\ttext\r\na\t"one\ttwo\nthree ""four"""\r\nb\tplain\r\n'
  path = put(tmp_path, 'c.tsv', data)
  assert rows(path, quoted=True) == [
    (3, 'a', '', 'one\ttwo\nthree "four"'),
    (4, 'b', '', 'plain'),
  ]


def test_json_with_other_names_and_numbers_as_ids(tmp_path):
  lines = [
    {'docno': 12, 'contents': 'x', 'title': None},
    {'docno': '012', 'contents': 'y'},
  ]
  data = ''.join(json.dumps(line) + '\n' for line in lines).encode()
  expected = [(1, '12', '', 'x'), (2, '012', '', 'y')]
  names = {'id_field': 'docno', 'text_field': 'contents'}
  frames = [zstandard.compress(part) for part in (data[:9], data[9:])]
  for name, packed in (
    ('c.jsonl', data),
    ('c.jsonl.gz', gzip.compress(data)),
    ('c.jsonl.zst', b''.join(frames)),
    ('c.ndjson', gzip.compress(data)),  # The bytes say so, not the name.
  ):
    assert rows(put(tmp_path, name, packed), **names) == expected


@pytest.mark.parametrize('name,data,form,words', [
  ('c.tsv', 'a\tb\tc\n', {'columns': ('_id', 'text')},
   'c.tsv:1: 3 columns, not 2: _id, text; --quoted, if'),
  ('c.tsv', 'a\tb\n', {}, "its first line has no column '_id': a, b; name"),
  ('c.tsv', '_id\ttext\na\t"b\n', {'quoted': True}, 'cannot be read: '),
  ('c.tsv', '_id\ttext\na\tb\xff'.encode('latin-1'), {}, 'c.tsv:2: not UTF-8'),
  ('c.tsv', '_id\ttext\na b\tx\n', {}, "c.tsv:2: id 'a b' is empty or has"),
  ('c.jsonl', '{"_id": 1.0, "text": "x"}', {}, "field '_id' is not a string"),
  ('c.jsonl', '{"_id": true, "text": "x"}', {}, "field '_id' is not a string"),
  ('c.jsonl', '{"_id": "a"}', {}, "c.jsonl:1: field 'text' is missing"),
  ('c.gz', '', {}, 'its name does not say what it is: give --format'),
  ('c.jsonl.gz', gzip.compress(b'{"_id": "a", "text": "x"}', mtime=0)[:-9], {},
   'cannot be read: Compressed file ended'),
  ('c.jsonl', zstandard.compress(b'{"_id": "a", "text": "x"}')[:-3], {},
   'cannot be read: it was cut off'),
  ('c.jsonl', zstandard.compress(b'')[:4] + b'\xff' * 99, {},
   'cannot be read: zstd'),
])  # fmt: skip
def test_what_cannot_be_read(tmp_path, name, data, form, words):
  with pytest.raises(errors.InputError) as caught:
    rows(put(tmp_path, name, data), **form)
  assert words in str(caught.value)


def test_a_whole_dataset(tmp_path, caplog):
  corpus = put(tmp_path, 'c.tsv', 'd1\tT\tx\nd2\t\ty\n')
  queries = put(tmp_path, 'q.tsv', '1\twhat\n2\twhy\n')
  qrels = put(tmp_path, 'qrels.txt', '1 0 d1 2\n1 0 d9 1\n3 0 d1 1\n2 0 d2 0\n')
  output = tmp_path / 'mine'
  argv = ['import', f'--corpus={corpus}', f'--queries={queries}',
          f'--qrels={qrels}', '--columns=_id,title,text',
          '--query_columns=_id,text', f'--output={output}']  # fmt: skip
  assert cli.main(argv) == cli.DONE
  opened = collection.Corpus(output / 'corpus.jsonl')
  assert [d.raw_text for d in opened] == ['T x', 'y']
  assert collection.read_queries(output / 'queries.jsonl') == {
    '1': 'what', '2': 'why',
  }  # fmt: skip
  assert collection.read_qrels(output / 'qrels' / 'test.tsv') == {
    '1': {'d1': 2, 'd9': 1}, '3': {'d1': 1}, '2': {'d2': 0},
  }  # fmt: skip
  assert manifest.read(output)['counts'] == {
    'documents': 2, 'queries': 2, 'judgements': 4,
  }  # fmt: skip
  assert cli.main(argv) == cli.DONE  # Complete.


def test_wrong_input_writes_nothing(tmp_path, capsys):
  corpus = put(tmp_path, 'c.tsv', '_id\ttext\na\tx\na\ty\n')
  output = tmp_path / 'mine'
  argv = ['import', f'--corpus={corpus}', f'--output={output}']
  assert cli.main(argv) == cli.WRONG_INPUT
  assert "_id 'a' is there twice" in capsys.readouterr().err
  assert not output.exists()
  assert cli.main([*argv, f'--qrels={corpus}']) == cli.WRONG_INPUT
  assert '--qrels needs --queries' in capsys.readouterr().err


def test_a_pipe(tmp_path):
  pipe = tmp_path / 'corpus.jsonl'
  os.mkfifo(pipe)
  with pytest.raises(errors.InputError, match='is a pipe, and documents are'):
    collection.Corpus(pipe)

  def feed():
    with open(pipe, 'w') as stream:
      stream.write('{"_id": "a", "text": "x"}\n' * 1)

  thread = threading.Thread(target=feed)
  thread.start()
  importer.import_corpus(pipe, tmp_path / 'mine', importer.Form())
  thread.join()
  assert len(collection.Corpus(tmp_path / 'mine' / 'corpus.jsonl')) == 1


def test_a_compressed_corpus_says_what_to_do(tmp_path):
  path = put(tmp_path, 'corpus.jsonl', gzip.compress(b'{}'))
  with pytest.raises(errors.InputError, match='compressed.*inpars-tpu import'):
    collection.Corpus(path)
