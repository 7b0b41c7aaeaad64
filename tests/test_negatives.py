import json
import logging

import pytest

from inpars_tpu import bm25, errors, files, manifest, negatives, pairs, recipe

CORPUS = {
  'a': 'river water boat',
  'b': 'water wheel',
  'c': 'stone bird',
  'd': 'river stone',
}


class FakeIndex:
  """Draws the other documents, in the order of their ids."""

  def draw(self, queries, *, hits, num, seed):
    for query_id, text, source in queries:
      found = [d for d in CORPUS if d != source] if text != 'nothing' else []
      yield query_id, found[:num]


@pytest.fixture
def work(tmp_path):
  files.write_jsonl(
    tmp_path / 'My-Set' / 'corpus.jsonl',
    [{'_id': k, 'title': '', 'text': v} for k, v in CORPUS.items()],
  )
  (tmp_path / 'index').mkdir()
  (tmp_path / 'index' / 'data').write_text('lucene')
  return tmp_path


def write_queries(work, queries, name='filtered.jsonl'):
  files.write_jsonl(
    work / name,
    [{'doc_id': d, 'query': q, 'text': f'{d} text'} for d, q in queries],
  )


def mine(work, monkeypatch=None, index=None, name=None, **macros):
  if monkeypatch:
    monkeypatch.setattr(
      bm25, 'open_index', lambda *args, **kwargs: index or FakeIndex()
    )
  bindings = {key: str(value) for key, value in macros.items()}
  negatives.mine(
    work / 'filtered.jsonl',
    work / 'My-Set' / 'corpus.jsonl',
    work / 'index',
    work / 'pairs',
    recipe.load([], bindings),
    name=name,
  )


def read(work, split='train', name='inpars_my_set'):
  import tensorflow_datasets as tfds

  builder = tfds.builder_from_directory(work / 'pairs' / name / '1.0.0')
  rows = []
  for row in builder.as_dataset(split=split).as_numpy_iterator():
    text = {k: v.decode() for k, v in row.items() if isinstance(v, bytes)}
    numbers = {k: int(v) for k, v in row.items() if k not in text}
    rows.append(pairs.Pair(**text, **numbers))
  return sorted(rows, key=lambda pair: (pair.group, -pair.label, pair.doc_id))


def test_a_positive_and_its_negatives_share_a_group(work, monkeypatch, caplog):
  write_queries(work, [('c', 'what bird'), ('a', 'nothing'), ('a', 'boat')])
  write_queries(work, [('b', 'wheel'), ('a', 'more')], 'validation.jsonl')
  with caplog.at_level(logging.INFO, 'inpars_tpu'):
    mine(work, monkeypatch, NUM_NEGATIVES=2)
  assert 'kept 4 of 5: 1 without hits' in caplog.text
  assert read(work) == [
    pairs.Pair('what bird', 'c text', 1, 'c', 'c', 0),
    pairs.Pair('what bird', 'river water boat', 0, 'c', 'a', 0),
    pairs.Pair('what bird', 'water wheel', 0, 'c', 'b', 0),
    pairs.Pair('boat', 'a text', 1, 'a-2', 'a', 1),
    pairs.Pair('boat', 'water wheel', 0, 'a-2', 'b', 1),
    pairs.Pair('boat', 'stone bird', 0, 'a-2', 'c', 1),
  ]
  assert [(p.query_id, p.label, p.group) for p in read(work, 'validation')] == [
    ('b', 1, 2), ('b', 0, 2), ('b', 0, 2),
    ('a-3', 1, 3), ('a-3', 0, 3), ('a-3', 0, 3),
  ]  # fmt: skip
  record = manifest.read(work / 'pairs')
  assert record['counts'] == {
    'in': 5,
    'out': 4,
    'dropped': {'without hits': 1},
    'with fewer negatives than NUM_NEGATIVES': 0,
    'train pairs': 6,
    'validation pairs': 6,
  }
  assert sorted(record['inputs']) == [
    'corpus', 'index', 'queries', 'validation',
  ]  # fmt: skip


def test_complete_pairs_are_left_alone(work, monkeypatch):
  write_queries(work, [('a', 'boat')])
  mine(work, monkeypatch)
  before = (work / 'pairs' / 'manifest.json').read_bytes()
  monkeypatch.setattr(bm25, 'open_index', None)
  mine(work)
  assert (work / 'pairs' / 'manifest.json').read_bytes() == before
  with pytest.raises(errors.InputError, match='NUM_NEGATIVES = 1 there and 3'):
    mine(work, NUM_NEGATIVES=3)


def test_an_id_for_every_query():
  def query(doc_id):
    return negatives.Query(doc_id, 'q', doc_id, 't')

  numbered = negatives.number(
    {
      'train': [query('a'), query('a'), query('a-2'), query('a')],
      'validation': [query('a'), query('b')],
    }
  )
  ids = {k: [query.query_id for query in v] for k, v in numbered.items()}
  assert ids == {
    'train': ['a', 'a-3', 'a-2', 'a-4'],  # 'a-2' is another document.
    'validation': ['a-5', 'b'],
  }


def test_drawn_by_lucene(work):
  write_queries(work, [('a', 'river'), ('b', 'water'), ('c', 'wheel zebra')])
  bm25.build_index(work / 'My-Set' / 'corpus.jsonl', work / 'lucene')
  (work / 'index' / 'data').unlink()
  (work / 'index').rmdir()
  (work / 'lucene').rename(work / 'index')
  mine(work, name='other')
  assert [
    (p.query, p.doc_id, p.label) for p in read(work, name='inpars_other')
  ] == [
    ('river', 'a', 1),
    ('river', 'd', 0),  # The only other one with a river.
    ('water', 'b', 1),
    ('water', 'a', 0),
    ('wheel zebra', 'c', 1),
    ('wheel zebra', 'b', 0),
  ]


def test_no_query_with_a_negative(work, monkeypatch):
  write_queries(work, [('a', 'nothing')])
  with pytest.raises(
    errors.InputError,
    match='no query has a negative: kept 0 of 1: 1 without hits',
  ):
    mine(work, monkeypatch)
  assert not (work / 'pairs').exists()


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ({'doc_id': 'a', 'query': 'q'}, ":1: field 'text' is missing"),
    ({'doc_id': 'a b', 'query': 'q', 'text': 't'}, ":1: id 'a b' is empty or"),
    (None, 'no queries'),
  ],
)
def test_malformed_queries(work, monkeypatch, line, message):
  (work / 'filtered.jsonl').write_text(f'{json.dumps(line)}\n' if line else '')
  with pytest.raises(errors.InputError, match=message):
    mine(work, monkeypatch)
  assert not (work / 'pairs').exists()


def test_missing_index(work):
  write_queries(work, [('a', 'boat')])
  (work / 'index' / 'data').unlink()
  (work / 'index').rmdir()
  with pytest.raises(errors.InputError, match='no index at'):
    mine(work)


def test_a_negative_that_the_corpus_lacks(work, monkeypatch):
  class OtherIndex:
    def draw(self, queries, **_):
      return ((query_id, ['z']) for query_id, _, _ in queries)

  write_queries(work, [('a', 'boat')])
  with pytest.raises(errors.InputError, match="has no document 'z'"):
    mine(work, monkeypatch, index=OtherIndex())
  assert not (work / 'pairs').exists()
