import json

import numpy as np
import pytest

from inpars_tpu import errors, recipe, sample


def write_corpus(tmp_path, texts):
  path = tmp_path / 'corpus.jsonl'
  path.write_text(
    ''.join(
      json.dumps({'_id': f'd{i}', 'title': 'T' if i % 2 else '', 'text': text})
      + '\n'
      for i, text in enumerate(texts)
    )
  )
  return path


def test_draw_is_the_toolkits():
  # pandas.DataFrame(range(8)).sample(4, random_state=1).index is this list.
  drawn = sample.draw(np.full(8, 9), num_documents=4, min_chars=0, seed=1)
  np.testing.assert_array_equal(drawn, [7, 2, 1, 6])


def test_all_documents_are_drawn_in_random_order_where_there_are_fewer():
  drawn = sample.draw(np.full(5, 9), num_documents=100, min_chars=0, seed=1)
  assert sorted(drawn) == [0, 1, 2, 3, 4]
  assert list(drawn) == [2, 1, 4, 0, 3]


def test_short_documents_are_not_drawn():
  drawn = sample.draw(
    np.array([3, 300, 2, 301]), num_documents=9, min_chars=300, seed=1
  )
  assert sorted(drawn) == [1, 3]


def test_writes_text_with_title_and_counts(tmp_path):
  corpus = write_corpus(tmp_path, ['â€œone two', 'three four', 'five'])
  macros = recipe.load([], {'NUM_DOCUMENTS': '2', 'MIN_DOCUMENT_CHARS': '5'})
  output = tmp_path / 'documents.jsonl'
  sample.sample(corpus, output, macros)
  lines = map(json.loads, output.read_text().splitlines())
  rows = {record['doc_id']: record['text'] for record in lines}
  assert rows == {'d0': '"one two', 'd1': 'T three four'}
  record = json.loads((tmp_path / 'documents.jsonl.manifest.json').read_text())
  assert record['counts'] == {
    'in': 3,
    'out': 2,
    'dropped': {'too short': 1, 'not drawn': 0},
  }


def test_none_long_enough_writes_nothing(tmp_path):
  corpus = write_corpus(tmp_path, ['a', 'b'])
  macros = recipe.load([], {'MIN_DOCUMENT_CHARS': '50'})
  with pytest.raises(errors.InputError, match='MIN_DOCUMENT_CHARS = 50'):
    sample.sample(corpus, tmp_path / 'documents.jsonl', macros)
  assert [p.name for p in tmp_path.iterdir()] == ['corpus.jsonl']
