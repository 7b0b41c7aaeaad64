import argparse
import json

import pytest

from inpars_tpu import bm25, errors, index, manifest

DOCUMENTS = [
  {'_id': 'a', 'title': 'Cats', 'text': 'the cat sat'},
  {'_id': 'b', 'title': '', 'text': 'a dog'},
  {'_id': 'c', 'title': '', 'text': ''},
]


@pytest.fixture
def corpus(tmp_path):
  path = tmp_path / 'corpus.jsonl'
  path.write_text(''.join(json.dumps(d) + '\n' for d in DOCUMENTS))
  return path


def search(index_dir, text):
  found = bm25.open_index(index_dir).search({'q': text})['q']
  return [doc_id for doc_id, _ in found]


def test_main_makes_an_index_with_its_manifest(corpus, tmp_path):
  output = tmp_path / 'index'
  index.main(
    argparse.Namespace(corpus=str(corpus), output=str(output), language='en')
  )
  record = json.loads((output / 'manifest.json').read_text())
  assert record['command'] == 'index'
  assert record['settings'] == {'language': 'en'}
  assert list(record['inputs']) == ['corpus']
  assert record['counts'] == {'in': 3, 'out': 2, 'dropped': {'empty': 1}}
  assert not (output / 'manifest.partial.json').exists()
  assert search(output, 'cat') == ['a']


def test_a_complete_index_is_left_alone(corpus, tmp_path):
  index.index_corpus(corpus, tmp_path / 'index')
  before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'index').iterdir()}
  index.index_corpus(corpus, tmp_path / 'index')
  after = {p: p.stat().st_mtime_ns for p in (tmp_path / 'index').iterdir()}
  assert after == before


def test_another_language_or_corpus_is_another_index(corpus, tmp_path):
  index.index_corpus(corpus, tmp_path / 'index')
  with pytest.raises(errors.InputError, match="language = 'en' there and 'de'"):
    index.index_corpus(corpus, tmp_path / 'index', 'de')
  corpus.write_text('{"_id": "z", "text": "zebra"}\n')
  with pytest.raises(errors.InputError, match='the input corpus = '):
    index.index_corpus(corpus, tmp_path / 'index')


@pytest.mark.parametrize('cut', ['no segments_N', 'no manifest', 'building'])
def test_what_was_cut_off_is_made_anew(corpus, tmp_path, cut):
  output = tmp_path / 'index'
  index.index_corpus(corpus, output)
  record = json.loads((output / 'manifest.json').read_text())
  (output / 'manifest.json').rename(output / 'manifest.partial.json')
  if cut == 'no segments_N':
    (output / 'segments_1').unlink()
  elif cut == 'building':
    (output / 'building' / 'lucene').mkdir(parents=True)
    (output / 'building' / 'lucene' / 'segments_1').write_text('half')
  assert manifest.read(output) is None
  index.index_corpus(corpus, output)
  again = json.loads((output / 'manifest.json').read_text())
  assert again['counts'] == record['counts']
  assert search(output, 'cat') == ['a']
  assert not (output / 'building').exists()


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    (['{"_id": "a", "text": "x"}', '{"_id": "b"'], ':2: not JSON'),
    (['{"text": "x"}'], ":1: field '_id' is missing"),
    (['{"_id": "a", "text": 5}'], ":1: field 'text' is not a string"),
    (['{"_id": "a", "text": "x"}'] * 2, "_id 'a' is there twice"),
    ([], 'no documents'),
    (['{"_id": "a", "text": " "}'], 'no document has a word to index'),
  ],
)
def test_wrong_input_writes_nothing(tmp_path, lines, message):
  corpus = tmp_path / 'corpus.jsonl'
  corpus.write_text('\n'.join(lines))
  with pytest.raises(errors.InputError, match=message) as caught:
    index.index_corpus(corpus, tmp_path / 'index')
  assert str(caught.value).startswith(str(corpus))
  assert list(tmp_path.iterdir()) == [corpus]


def test_wrong_language_writes_nothing(corpus, tmp_path):
  with pytest.raises(errors.InputError, match='unknown language'):
    index.index_corpus(corpus, tmp_path / 'index', 'english')
  assert list(tmp_path.iterdir()) == [corpus]


def test_a_folder_of_other_files_is_not_filled(corpus, tmp_path):
  (tmp_path / 'index').mkdir()
  (tmp_path / 'index' / 'thesis.tex').write_text('dear')
  with pytest.raises(errors.InputError, match='holds files that no inpars-tpu'):
    index.index_corpus(corpus, tmp_path / 'index')
  assert len(list((tmp_path / 'index').iterdir())) == 1


def test_no_corpus(tmp_path):
  with pytest.raises(errors.InputError, match='^no corpus at .*absent'):
    index.index_corpus(tmp_path / 'absent.jsonl', tmp_path / 'index')
