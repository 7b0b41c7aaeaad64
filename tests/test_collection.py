import json

import numpy as np
import pytest

from inpars_tpu import collection, errors


@pytest.fixture
def write(tmp_path):
  def write_lines(*records, name='file'):
    path = tmp_path / name
    lines = (r if isinstance(r, str) else json.dumps(r) for r in records)
    path.write_text(''.join(f'{line}\n' for line in lines))
    return path

  return write_lines


def test_documents_by_position_and_by_id(write):
  path = write(
    {'_id': 'b', 'title': 'Title', 'text': 'body'},
    '',
    {'_id': 'ä', 'text': 'no title', 'metadata': {'url': 'x'}},
    {'_id': 'c', 'title': None, 'text': ''},
  )
  path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())  # Byte order mark.
  corpus = collection.Corpus(path)
  assert len(corpus) == 3
  assert [d.doc_id for d in corpus] == ['b', 'ä', 'c']
  assert corpus[0] == collection.Document('b', 'Title', 'body')
  assert corpus[2] == collection.Document('c', '', '')
  assert [corpus.find(name) for name in ('c', 'ä', 'b', 'B')] == [2, 1, 0, None]
  assert corpus.text('b') == 'Title body'
  assert corpus.text('ä') == 'no title'
  np.testing.assert_array_equal(corpus.num_chars, [10, 8, 0])  # With the blank.
  with pytest.raises(errors.InputError, match="file has no document 'B'"):
    corpus.text('B')


def test_finds_many_at_once(write, monkeypatch):
  names = ['b', 'ä', 'c', 'a']
  path = write(*({'_id': name, 'text': name} for name in names))
  corpus = collection.Corpus(path)
  found = corpus.find_all(['c', 'x', 'ä', 'c', 'b'])
  assert found.tolist() == [2, -1, 1, 2, 0]
  assert corpus.find_all([]).tolist() == []
  # Documents whose hashes are equal are told apart by reading them.
  monkeypatch.setattr(collection, '_key', lambda doc_id: 7)
  corpus = collection.Corpus(path)
  found = corpus.find_all(['c', 'x', 'ä', 'c', 'b'])
  assert found.tolist() == [2, -1, 1, 2, 0]


def test_a_line_ends_at_a_newline_only(write):
  path = write('{"_id": "a", "text": "one\u2028two\x85"}\r')
  corpus = collection.Corpus(path)
  assert len(corpus) == 1
  assert corpus[0].body == 'one\u2028two\x85'


def test_text_is_repaired_and_the_body_is_not(write):
  path = write({'_id': 'a', 'title': 'It\u2019s', 'text': 'cafÃ© \ud83d'})
  document = collection.Corpus(path)[0]
  assert document.body == 'cafÃ© \ud83d'
  assert document.text == "It's café \ufffd"


GOOD = {'_id': 'a', 'text': 'x'}


@pytest.mark.parametrize(
  ('record', 'message'),
  [
    ('{"_id": "b", "text": "x"', 'not JSON: '),
    ('["b", "x"]', 'not a JSON object'),
    ({'text': 'x'}, "field '_id' is missing"),
    ({'_id': 5, 'text': 'x'}, "field '_id' is not a string"),
    ({'_id': 'b'}, "field 'text' is missing"),
    ({'_id': 'b', 'text': None}, "field 'text' is not a string"),
    ({'_id': 'b', 'text': 'x', 'title': ['t']}, "field 'title' is not a str"),
    ({'_id': '', 'text': 'x'}, "id '' is empty or has white space"),
    ({'_id': 'b c', 'text': 'x'}, "id 'b c' is empty or has white space"),
    ({'_id': 'b\x00', 'text': 'x'}, "id 'b\\x00' has characters that do not"),
    ({'_id': '\ud800', 'text': 'x'}, "id '\\ud800' has characters that do no"),
  ],
)
def test_a_malformed_document_is_said_with_its_line(write, record, message):
  path = write(GOOD, '', record)
  with pytest.raises(errors.InputError) as caught:
    collection.Corpus(path)
  assert str(caught.value).startswith(f'{path}:3: {message}')


def test_wrong_corpora(write, tmp_path):
  with pytest.raises(
    errors.InputError, match="file:3: _id 'a' is there twice, first in line 1"
  ):
    collection.Corpus(write(GOOD, {'_id': 'b', 'text': 'y'}, GOOD))
  with pytest.raises(errors.InputError, match='file: no documents'):
    collection.Corpus(write('', ''))
  with pytest.raises(errors.InputError, match='^no corpus at .*absent'):
    collection.Corpus(tmp_path / 'absent')
  with pytest.raises(errors.InputError, match='is a folder; corpus is a file'):
    collection.Corpus(tmp_path)


def test_a_corpus_that_is_not_utf8(tmp_path):
  (tmp_path / 'latin').write_bytes(b'{"_id": "a", "text": "caf\xe9"}\n')
  with pytest.raises(errors.InputError, match='latin:1: not UTF-8'):
    collection.Corpus(tmp_path / 'latin')


def test_queries_are_read_as_they_stand(write):
  path = write({'_id': 'q2', 'text': ' cafÃ©'}, {'_id': 'q1', 'text': ''})
  assert collection.read_queries(path) == {'q2': ' cafÃ©', 'q1': ''}
  with pytest.raises(errors.InputError, match=":2: _id 'a' is there twice"):
    collection.read_queries(write(GOOD, GOOD))
  with pytest.raises(errors.InputError, match='file: no queries'):
    collection.read_queries(write())


def test_qrels_of_beir_and_of_trec(write):
  beir = write(
    'query-id\tcorpus-id\tscore', 'q1\td1\t1', 'q2\td1\t0', 'q1\td2\t-2'
  )
  expected = {'q1': {'d1': 1, 'd2': -2}, 'q2': {'d1': 0}}
  assert collection.read_qrels(beir) == expected
  trec = write('q1 0 d1 1', 'q2 0 d1 0', 'q1\t0\td2\t-2')
  assert collection.read_qrels(trec) == expected


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    (
      ['query_id\tdoc_id\tscore'],
      ":1: the header must be query-id<tab>corpus-id<tab>score, not 'query_i",
    ),
    (['q1\td1\t1'], ':1: the header must be query-id<tab>'),
    (['q1 0 d1 1', 'q1 d1 1 0 x'], ':2: 5 columns, not query-id, corpus-id, s'),
    (['q1 0 d1 1', 'q1 0 d2 yes'], ":2: score 'yes' is not an integer"),
    (['q1 0 d1 1', 'q1 0 d2 0.5'], ":2: score '0.5' is not an integer"),
    (['q1 0 d1 1', 'q1 0 d2 --1'], ":2: score '--1' is not an integer"),
    (['q1 0 d1 1', 'q1 0 d2 ²'], ":2: score '²' is not an integer"),
    (['query-id\tcorpus-id\tscore'], ': no judgements'),
  ],
)
def test_malformed_qrels_are_said_with_their_line(write, lines, message):
  path = write(*lines)
  with pytest.raises(errors.InputError) as caught:
    collection.read_qrels(path)
  assert str(caught.value).startswith(f'{path}{message}')


def test_documents(write):
  path = write({'doc_id': 'a', 'text': 'x', 'more': 1})
  assert collection.read_documents(path) == [{'doc_id': 'a', 'text': 'x'}]
  twice = write({'doc_id': 'a', 'text': 'x'}, {'doc_id': 'a', 'text': 'y'})
  with pytest.raises(errors.InputError, match=":2: doc_id 'a' is there twice"):
    collection.read_documents(twice)


def test_missing():
  assert collection.missing(['c', 'a', 'b'], {'a': 1}) == ['c', 'b']


@pytest.mark.shared_data
def test_scifact_is_all_there(shared_data):
  folder = shared_data / 'data' / 'beir' / 'scifact'
  corpus = collection.Corpus(folder / 'corpus.jsonl')
  assert len(corpus) == 5183
  assert [corpus[i].doc_id for i in (0, 9, 5182)] == [
    '4983',
    '70490',
    '198309074',
  ]
  assert corpus[0].title.startswith('Microstructural development of human new')
  assert corpus.find('198309074') == 5182
  assert len(collection.read_queries(folder / 'queries.jsonl')) == 1109
  qrels = collection.read_qrels(folder / 'qrels' / 'test.tsv')
  assert len(qrels) == 300
  assert sum(map(len, qrels.values())) == 339


def test_lone_surrogates_of_documents_are_replaced(tmp_path):
  path = tmp_path / 'documents.jsonl'
  path.write_text('{"doc_id": "a", "text": "x\\ud800y\\u0000"}\n')
  (document,) = collection.read_documents(path)
  assert document == {'doc_id': 'a', 'text': 'x\ufffdy\x00'}


def test_windows_files(tmp_path):
  """A byte order mark, CRLF, ids that look like numbers."""
  corpus, queries, qrels = (tmp_path / name for name in ('c', 'q', 'r'))
  bom = '\ufeff'
  corpus.write_text(
    f'{bom}{{"_id": "007", "text": "x"}}\n{{"_id": "7", "text": "y"}}\n',
    newline='\r\n',
  )
  queries.write_text(f'{bom}{{"_id": "1e3", "text": "z"}}\n', newline='\r\n')
  qrels.write_text(
    f'{bom}query-id\tcorpus-id\tscore\n1e3\t007\t1\n', newline='\r\n'
  )
  opened = collection.Corpus(corpus)
  assert [opened.find('7'), opened.find('007')] == [1, 0]
  assert opened[0].body == 'x'
  assert collection.read_queries(queries) == {'1e3': 'z'}
  assert collection.read_qrels(qrels) == {'1e3': {'007': 1}}


def test_judgements_of_no_use_are_counted_and_listed(write, caplog):
  corpus = collection.Corpus(write(*({'_id': i, 'text': 'x'} for i in 'abc')))
  qrels = {
    'q1': {'a': 1, 'z': 1},
    'q2': {'a': 0, 'b': -1},
    **{f'u{i}': {'c': 1} for i in range(7)},
  }
  with caplog.at_level('INFO', 'inpars_tpu'):
    collection.check_qrels('Q', qrels, {'q1', 'q2', 'q3'}, corpus)
  assert caplog.messages == [
    "Q: 7 of 9 judged queries have no text: 'u0', 'u1', 'u2', 'u3', 'u4' and "
    '2 more',
    "Q: 1 of 4 judged documents are not in the corpus: 'z'",
    "Q: 1 of 9 judged queries have no relevant document, and count 0: 'q2'",
  ]
  with pytest.raises(errors.InputError, match='all 9 judged queries have no t'):
    collection.check_qrels('Q', qrels, {'q3'})
  with pytest.raises(errors.InputError, match='all 2 judged documents are not'):
    collection.check_qrels('Q', {'q1': {'y': 1, 'z': 1}}, {'q1'}, corpus)
