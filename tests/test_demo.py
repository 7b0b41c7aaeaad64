"""`inpars-tpu demo` with the checkpoints that ship, on fewer documents."""

import json

import numpy as np
import pytest

from inpars_tpu import MonoT5, cli, collection, files, manifest, model_dir
from inpars_tpu.demo import lessons, words, world
from inpars_tpu.demo import main as demo

SMALLER = {
  'NUM_DOCUMENTS': 120,
  'NUM_PAIRS': 60,
  'TRAIN_STEPS': 4,
  'TRAIN_BATCH_SIZE': 16,
  'RERANK_HITS': 10,
}


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  """The folder of a whole demo with smaller numbers."""
  folder = tmp_path_factory.mktemp('demo')
  gin = [f'--gin.{name}={value}' for name, value in SMALLER.items()]
  assert cli.main(['demo', f'--work_dir={folder}', *gin]) == cli.DONE
  return folder


def test_bm25_neither_wins_nor_fails(done):
  metrics = json.loads((done / 'world' / 'metrics.json').read_text())
  assert 0.1 < metrics['bm25']['nDCG@10'] < 0.6


def test_generator_writes_questions_that_the_document_answers(done):
  things = {
    thing.name.lower(): thing
    for thing in world.draw_things(words.TARGET, 1, world.NUM_THINGS)
  }
  rows = [
    row
    for path in sorted((done / 'world' / 'queries').glob('*.jsonl'))
    for _, row in files.read_jsonl(path, 'queries')
  ]
  answered = [
    world.answers(words.TARGET, row['query'], things[row['doc_id']])
    for row in rows
  ]
  assert len(rows) == 120
  assert sum(answered) / len(answered) > 0.9


def test_no_synthetic_query_is_copied(done):
  for _, row in files.read_jsonl(done / 'world' / 'filtered.jsonl', 'queries'):
    assert row['query'] not in row['text']


def test_says_nothing_of_random_weights(done):
  assert 'untrained' not in (done / 'world' / 'report.md').read_text()


def test_corpus_is_the_target_alone(done):
  for document in collection.Corpus(done / 'data' / 'world' / 'corpus.jsonl'):
    assert any(place in document.text for place in words.TARGET.places)


def test_models_are_those_that_ship(done):
  record = manifest.read(done / 'world')
  assert record['inputs']['model']['path'] == str(done / 'models' / 'monot5')
  for path in files.list_files(demo.CHECKPOINTS):
    copy = done / 'models' / path.relative_to(demo.CHECKPOINTS)
    assert copy.read_bytes() == path.read_bytes()


def test_shipped_checkpoints_are_small():
  paths = files.list_files(demo.CHECKPOINTS)
  assert sum(path.stat().length for path in paths) < 9_000_000
  num_parameters = 0
  for name in ('gptj', 'monot5'):
    folder = demo.CHECKPOINTS / name
    reader = model_dir.TensorReader(folder)
    num_parameters += sum(int(np.prod(s)) for s in reader.shapes.values())
    config = json.loads((folder / 'config.json').read_text())
    assert config['torch_dtype'] == 'bfloat16'
    card = (folder / 'README.md').read_text()
    assert 'No question of the target domain was read.' in card
  assert num_parameters < 4_000_000


def test_shipped_monot5_knows_the_source_domains():
  """What it was trained on, as drawn from another seed."""
  rng = np.random.default_rng(7)
  drawn = [
    lessons.draw(world.choose(words.SOURCES, rng), 5, rng) for _ in range(200)
  ]
  reranker = MonoT5.load(demo.CHECKPOINTS / 'monot5')
  scores = reranker.score_pairs([(d.text, d.document) for d in drawn])
  is_right = [
    (score > np.log(0.5)) == bool(lesson.label)
    for score, lesson in zip(scores, drawn, strict=True)
  ]
  assert np.mean(is_right) > 0.9
