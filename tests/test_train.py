import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache as cache_lib

from inpars_tpu import (
  checkpoints,
  cli,
  errors,
  manifest,
  monot5,
  pairs,
  recipe,
  train,
  train_recipe,
  trainer,
)
from inpars_tpu import reranker as reranker_lib
from inpars_tpu.t5 import convert
from tests import checkpoints as words
from tests import t5_checkpoints

SETTINGS = {
  'TRAIN_STEPS': '6',
  'CHECKPOINT_STEPS': '2',
  'TRAIN_BATCH_SIZE': '4',
  'MAX_INPUT_TOKENS': '60',
  'TRAIN_DTYPE': "'float32'",
}
CONFIG = dataclasses.replace(
  t5_checkpoints.V1_0, num_layers=1, num_decoder_layers=1
)


@pytest.fixture(scope='module', autouse=True)
def compilation_cache(tmp_path_factory):
  """Every run here compiles the same programs."""
  directory = str(tmp_path_factory.mktemp('cache'))
  wanted = {
    'jax_compilation_cache_dir': directory,
    'jax_persistent_cache_min_compile_time_secs': 0.0,
  }
  before = {name: getattr(jax.config, name) for name in wanted}
  for name, value in wanted.items():
    jax.config.update(name, value)
  cache_lib.reset_cache()
  yield {name.upper(): str(value) for name, value in wanted.items()}
  for name, value in before.items():
    jax.config.update(name, value)
  cache_lib.reset_cache()


@pytest.fixture(scope='module')
def inputs(tmp_path_factory) -> pathlib.Path:
  """`model/`, a reranker, and `pairs/`: 12 groups of two."""
  directory = tmp_path_factory.mktemp('inputs')
  t5_checkpoints.write_reranker(directory / 'model', CONFIG)
  texts = words.random_sentences(36, seed=1)
  rows = []
  for i in range(12):
    query = texts[i]
    rows.append(pairs.Pair(query, texts[12 + i], 1, str(i), str(i), i))
    rows.append(pairs.Pair(query, texts[24 + i], 0, str(i), f'n{i}', i))
  pairs.write(directory / 'pairs', 'tiny', {'train': rows}, seed=1)
  return directory


@pytest.fixture(scope='module')
def held_out(inputs, tmp_path_factory) -> pathlib.Path:
  """As `inputs`, with a validation split of 4 queries, two negatives each."""
  directory = tmp_path_factory.mktemp('held_out')
  (directory / 'model').symlink_to(inputs / 'model')
  texts = words.random_sentences(60, seed=3)
  train_rows, validation_rows = [
    [
      pairs.Pair(
        texts[i], texts[20 + i + 10 * j], int(j == 0), f'{i}', f'{j}', i
      )
      for i in queries
      for j in range(3)
    ]
    for queries in (range(4, 10), range(4))
  ]
  pairs.write(
    directory / 'pairs',
    'tiny',
    {'train': train_rows, 'validation': validation_rows},
    seed=1,
  )
  return directory


@pytest.fixture(scope='module')
def lists(tmp_path_factory) -> pathlib.Path:
  """`pairs/`: 11 positives with three negatives each, and one with two."""
  directory = tmp_path_factory.mktemp('lists')
  texts = words.random_sentences(60, seed=2)
  rows = [
    pairs.Pair(
      texts[i], texts[12 + i + 12 * j], int(j == 0), f'{i}', f'd{j}', i
    )
    for i in range(12)
    for j in range(4 if i else 3)
  ]
  pairs.write(directory / 'pairs', 'lists', {'train': rows}, seed=1)
  return directory


@pytest.fixture(scope='module')
def trained(inputs, tmp_path_factory) -> pathlib.Path:
  """What an uninterrupted run writes, beside a file of someone else's."""
  output = tmp_path_factory.mktemp('work')
  (output / 'filtered.jsonl').write_text('{}\n')
  run(inputs, output)
  return output


def run(inputs, output, label_words=None, **macros):
  train.train(
    inputs / 'pairs',
    inputs / 'model',
    output,
    recipe.load([], SETTINGS | {k: str(v) for k, v in macros.items()}),
    label_words=label_words,
  )


def metrics(output) -> list[dict]:
  lines = (output / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def assert_same_result(output, trained):
  assert (output / 'metrics.jsonl').read_bytes() == (
    trained / 'metrics.jsonl'
  ).read_bytes()
  names = sorted(path.name for path in (trained / 'model').iterdir())
  assert sorted(path.name for path in (output / 'model').iterdir()) == names
  for name in names:
    assert (output / 'model' / name).read_bytes() == (
      trained / 'model' / name
    ).read_bytes(), name


def test_what_it_writes(trained):
  assert sorted(path.name for path in trained.iterdir()) == [
    'checkpoints', 'filtered.jsonl', 'manifest.json', 'metrics.jsonl', 'model',
    'tensorboard',
  ]  # fmt: skip
  assert sorted(path.name for path in (trained / 'model').iterdir()) == [
    'README.md', 'config.json', 'model.safetensors', 'reranker.json',
    'spiece.model',
  ]  # fmt: skip
  steps = metrics(trained)
  assert [record['step'] for record in steps] == [1, 2, 3, 4, 5, 6]
  assert set(steps[0]) == {
    'step', 'loss', 'z_loss', 'accuracy', 'grad_norm', 'update_norm',
    'learning_rate',
  }  # fmt: skip
  assert sorted(path.name for path in (trained / 'checkpoints').iterdir()) == [
    '4', '6',
  ]  # fmt: skip
  record = manifest.read(trained)
  assert record['counts'] == {
    'pairs': 24, 'positive': 12, 'negative': 12, 'documents cut': 0,
    'queries cut': 0,
  }  # fmt: skip
  assert record['epochs'] == {'positive': 1.0, 'negative': 1.0}
  assert 'CHECKPOINT_STEPS' not in record['settings']


def test_the_model_is_a_reranker_that_says_what_it_is(trained, inputs):
  config, params = convert.load(trained / 'model')
  _, before = convert.load(inputs / 'model')
  assert config == CONFIG
  changed = jax.tree.map(lambda a, b: bool((a != b).any()), params, before)
  assert all(jax.tree.leaves(changed))
  scores = reranker_lib.MonoT5.load(trained / 'model', dtype='float32').score(
    'how cold is the river', ['the river is cold', 'a bird']
  )
  assert np.isfinite(scores).all()
  card = (trained / 'model' / 'README.md').read_text()
  assert '# model, fine-tuned on inpars_tiny' in card
  assert '| LEARNING_RATE | 0.001 |' in card
  assert '24 pairs, 12 positive, 12 negative' in card
  assert str(inputs) not in card


def test_complete_training_is_left_alone(trained, inputs):
  before = {path: path.stat().st_mtime_ns for path in trained.rglob('*')}
  run(inputs, trained)
  run(inputs, trained, CHECKPOINT_STEPS=5)  # Changes no result.
  assert before == {p: p.stat().st_mtime_ns for p in trained.rglob('*')}
  with pytest.raises(errors.InputError, match=r'LEARNING_RATE = 0\.001 there'):
    run(inputs, trained, LEARNING_RATE=0.5)


def test_from_a_t5x_checkpoint_it_trains_the_same(inputs, trained, tmp_path):
  source = tmp_path / 'model'
  t5_checkpoints.write_t5x(source, CONFIG)
  for file in ('spiece.model', 'reranker.json'):
    (source / file).write_bytes((inputs / 'model' / file).read_bytes())
  (tmp_path / 'pairs').symlink_to(inputs / 'pairs')
  run(tmp_path, tmp_path / 'work')
  assert metrics(tmp_path / 'work') == metrics(trained)
  first, second = (
    (work / 'model' / 'model.safetensors').read_bytes()
    for work in (tmp_path / 'work', trained)
  )
  assert first == second


def test_interrupted_and_resumed(trained, inputs, tmp_path, monkeypatch):
  save = checkpoints.Checkpoints.save

  def save_and_stop(self, step, state):
    save(self, step, state)
    if step == 4:
      raise KeyboardInterrupt

  monkeypatch.setattr(checkpoints.Checkpoints, 'save', save_and_stop)
  with pytest.raises(KeyboardInterrupt):
    run(inputs, tmp_path)
  monkeypatch.undo()
  assert not (tmp_path / 'model').exists()
  with (tmp_path / 'metrics.jsonl').open('a') as stream:
    stream.write('{"step": 5, "loss": 9.0}\n{"st')
  with pytest.raises(errors.InputError, match='SEED = 1 there and 2 now'):
    run(inputs, tmp_path, SEED=2)
  run(inputs, tmp_path)
  assert_same_result(tmp_path, trained)


def test_terminated_and_resumed(trained, inputs, tmp_path, monkeypatch):
  step_of = trainer.Trainer.step

  def step_and_terminate(self, state, examples, step):
    if step == 3:
      signal.raise_signal(signal.SIGINT)
    return step_of(self, state, examples, step)

  monkeypatch.setattr(trainer.Trainer, 'step', step_and_terminate)
  with pytest.raises(KeyboardInterrupt):
    run(inputs, tmp_path)
  monkeypatch.undo()
  # No step of CHECKPOINT_STEPS, and whole.
  assert (tmp_path / 'checkpoints' / '3').exists()
  assert len(metrics(tmp_path)) == 3
  run(inputs, tmp_path)
  assert_same_result(tmp_path, trained)


KILLED = """
import os, signal, sys
from inpars_tpu import checkpoints, cli

save = checkpoints.Checkpoints.save

def save_and_die(self, step, state):
  save(self, step, state)  # Step 4's is still being written.
  if step == 4:
    os.kill(os.getpid(), signal.SIGKILL)

checkpoints.Checkpoints.save = save_and_die
cli.main(sys.argv[1:])
"""


def test_killed_and_resumed(trained, inputs, tmp_path, compilation_cache):
  command = [sys.executable, '-c', KILLED, 'train']
  command += [f'--pairs={inputs / "pairs"}', f'--model={inputs / "model"}']
  command += [f'--output={tmp_path}']
  command += [f'--gin.{name}={value}' for name, value in SETTINGS.items()]
  environment = os.environ | compilation_cache
  # As conftest.py sets them: the same programs.
  environment |= {
    'JAX_NUMPY_RANK_PROMOTION': 'raise',
    'JAX_NUMPY_DTYPE_PROMOTION': 'strict',
  }
  done = subprocess.run(command, env=environment, capture_output=True)
  assert done.returncode == -signal.SIGKILL, done.stderr
  assert done.stdout == b''
  assert (tmp_path / 'checkpoints' / '2').exists()
  assert manifest.read(tmp_path) is None
  run(inputs, tmp_path)
  assert_same_result(tmp_path, trained)


def test_killed_while_the_model_was_written(trained, inputs, tmp_path):
  def fail(*_):
    raise KeyboardInterrupt

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(monot5, 'write_spec', fail)
    with pytest.raises(KeyboardInterrupt):
      run(inputs, tmp_path)
  assert (tmp_path / 'model.tmp' / 'model.safetensors').exists()
  assert not (tmp_path / 'model').exists()
  run(inputs, tmp_path)
  assert not (tmp_path / 'model.tmp').exists()
  assert_same_result(tmp_path, trained)


def test_a_loss_that_is_no_number(inputs, tmp_path):
  with pytest.raises(
    errors.InputError, match=r'is (nan|inf) at step \d, .*A lower LEARNING_RATE'
  ):
    run(inputs, tmp_path, LEARNING_RATE=1e3, CHECKPOINT_STEPS=1)
  last = max(int(p.name) for p in (tmp_path / 'checkpoints').iterdir())
  assert metrics(tmp_path)[-1]['step'] == last
  assert not (tmp_path / 'model').exists()
  assert manifest.read(tmp_path) is None


def test_measures_a_validation_split(held_out, tmp_path, caplog):
  caplog.set_level('INFO')
  run(held_out, tmp_path)
  names = {'validation_loss', 'validation_accuracy', 'validation_mrr'}
  steps = metrics(tmp_path)
  assert [r['step'] for r in steps if names <= set(r)] == [2, 4, 6]
  assert [r['step'] for r in steps if not names & set(r)] == [1, 3, 5]
  # The last ones are those of the reranker that comes out, as it scores texts.
  texts = words.random_sentences(60, seed=3)
  model = reranker_lib.MonoT5.load(
    tmp_path / 'model', dtype='float32', max_tokens=60
  )
  scores = np.array(
    [
      model.score(texts[i], [texts[20 + i + 10 * j] for j in range(3)])
      for i in range(4)
    ]
  )
  positive, negatives = scores[:, :1], scores[:, 1:]
  ranks = 1 + (negatives >= positive).sum(1)
  others = np.log1p(-np.exp(negatives)).sum()
  last = steps[-1]
  assert last['validation_mrr'] == pytest.approx((1 / ranks).mean())
  assert last['validation_loss'] == pytest.approx(
    -(positive.sum() + others) / 12, rel=1e-5
  )
  assert last['validation_accuracy'] == pytest.approx(
    ((positive > np.log(0.5)).sum() + (negatives <= np.log(0.5)).sum()) / 12
  )
  record = manifest.read(tmp_path)
  assert record['validation'] == {
    'loss': last['validation_loss'],
    'accuracy': last['validation_accuracy'],
    'mrr': last['validation_mrr'],
  }
  assert record['counts']['validation pairs'] == 12
  assert record['counts']['validation lists'] == 4
  card = (tmp_path / 'model' / 'README.md').read_text()
  assert f'| mrr | {last["validation_mrr"]:.4f} |' in card
  assert '12 validation pairs' in card
  assert 'no validation split' not in caplog.text


def test_without_a_validation_split_it_says_so(inputs, tmp_path, caplog):
  caplog.set_level('INFO')
  run(inputs, tmp_path, TRAIN_STEPS=1)
  assert 'the pairs have no validation split' in caplog.text
  assert manifest.read(tmp_path)['validation'] == {}
  assert '## Scores' not in (tmp_path / 'model' / 'README.md').read_text()


@pytest.mark.parametrize('step', [4, 6])
def test_resumed_it_measures_the_same(held_out, tmp_path, monkeypatch, step):
  run(held_out, tmp_path / 'whole')
  save = checkpoints.Checkpoints.save

  def save_and_stop(self, last_step, state):
    save(self, last_step, state)
    if last_step == step:
      raise KeyboardInterrupt

  monkeypatch.setattr(checkpoints.Checkpoints, 'save', save_and_stop)
  with pytest.raises(KeyboardInterrupt):
    run(held_out, tmp_path / 'work')
  monkeypatch.undo()
  run(held_out, tmp_path / 'work')
  assert_same_result(tmp_path / 'work', tmp_path / 'whole')
  assert manifest.read(tmp_path / 'work')['validation']


RANKT5 = {'LOSS': "'rankt5'", 'NUM_NEGATIVES': 3, 'TRAIN_BATCH_SIZE': 8}


def start_from(kind: str, model: pathlib.Path) -> None:
  """A model of one's own, that says so or that says nothing."""
  t5_checkpoints.write_reranker(model, CONFIG)
  if kind == 'T5':
    (model / 'reranker.json').unlink()
  elif kind == 'RankT5':
    spec = monot5.RerankerSpec('{query} | {document}', None, 200)
    monot5.write_spec(model, spec)


@pytest.mark.parametrize('kind', ['monoT5', 'T5', 'RankT5'])
def test_rankt5(lists, tmp_path, kind):
  start_from(kind, tmp_path / 'model')
  (tmp_path / 'pairs').symlink_to(lists / 'pairs')
  output = tmp_path / 'work'
  run(tmp_path, output, **RANKT5)
  spec = monot5.read_spec(output / 'model')
  if kind == 'RankT5':
    assert spec == monot5.RerankerSpec('{query} | {document}', None, 200)
  else:  # 68 pieces, and the 89th of the sentinels behind them.
    assert spec == monot5.RerankerSpec(
      'Query: {query} Document: {document}', None, 157
    )
  steps = metrics(output)
  assert [record['step'] for record in steps] == [1, 2, 3, 4, 5, 6]
  assert {record['z_loss'] for record in steps} == {0.0}
  record = manifest.read(output)
  assert record['settings']['logit_id'] == spec.logit_id
  assert record['settings']['NUM_NEGATIVES'] == 3
  assert 'Z_LOSS' not in record['settings']
  assert record['counts'] == {
    'pairs': 47, 'positive': 12, 'negative': 35, 'documents cut': 0,
    'queries cut': 0, 'lists': 12,
    'lists with fewer negatives than NUM_NEGATIVES': 1,
  }  # fmt: skip
  assert record['epochs'] == {'lists': 1.0}
  model = reranker_lib.MonoT5.load(output / 'model', dtype='float32')
  assert model.spec.field == 'logit'
  assert np.isfinite(model.score('the river', ['the river is cold', ''])).all()
  card = (output / 'model' / 'README.md').read_text()
  assert 'A RankT5 reranker, trained' in card
  assert f'its score is the logit of token {spec.logit_id} at' in card
  assert '| NUM_NEGATIVES | 3 |' in card


def test_rankt5_interrupted_and_resumed(lists, tmp_path, monkeypatch):
  start_from('monoT5', tmp_path / 'model')
  (tmp_path / 'pairs').symlink_to(lists / 'pairs')
  run(tmp_path, tmp_path / 'whole', **RANKT5)
  save = checkpoints.Checkpoints.save

  def save_and_stop(self, step, state):
    save(self, step, state)
    raise KeyboardInterrupt

  monkeypatch.setattr(checkpoints.Checkpoints, 'save', save_and_stop)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, tmp_path / 'work', **RANKT5)
  monkeypatch.undo()
  run(tmp_path, tmp_path / 'work', **RANKT5)
  assert_same_result(tmp_path / 'work', tmp_path / 'whole')


@pytest.mark.parametrize(
  ('macros', 'message'),
  [
    (
      {'NUM_NEGATIVES': 2, 'TRAIN_BATCH_SIZE': 9},
      r'up to 3 negatives of a positive, more than 2: .*gin\.NUM_NEGATIVES=3$',
    ),
    (
      {'NUM_NEGATIVES': 6, 'TRAIN_BATCH_SIZE': 16},
      r'whole lists of 1 \+ NUM_NEGATIVES = 7: 14 or 21, not 16',
    ),
    (
      {'NUM_NEGATIVES': 6, 'TRAIN_BATCH_SIZE': 2},
      r'NUM_NEGATIVES = 7: 7, not 2',
    ),
  ],
)
def test_lists_that_do_not_fit(inputs, lists, tmp_path, macros, message):
  (tmp_path / 'pairs').symlink_to(lists / 'pairs')
  (tmp_path / 'model').symlink_to(inputs / 'model')
  with pytest.raises(errors.InputError, match=message):
    run(tmp_path, tmp_path / 'work', **RANKT5 | macros)


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--gin.TRAIN_BATCH_SIZE=5'], 'TRAIN_BATCH_SIZE must be even'),
    (
      ['--gin.WARMUP_STEPS=156'],
      'WARMUP_STEPS = 156 must be below TRAIN_STEPS',
    ),
    (['--mesh=data=2'], 'is of 2 devices and there are 1'),
    (['--pairs={inputs}/model'], 'holds no pairs'),
    (['--pairs={inputs}/none'], 'no pairs at'),
    (['--model={inputs}/pairs'], 'has no config.json'),
    (['--label_words=cold,true'], r'reranker.json says'),
  ],
)
def test_bad_input(inputs, tmp_path, capsys, flags, message):
  given = {'--pairs': f'{inputs}/pairs', '--model': f'{inputs}/model'}
  given |= dict(flag.split('=', 1) for flag in flags)
  words = [f'{k}={v}'.format(inputs=inputs) for k, v in given.items()]
  output = tmp_path / 'output'
  assert cli.main(['train', *words, f'--output={output}']) == 2
  captured = capsys.readouterr()
  assert captured.out == ''
  assert captured.err.count('\n') == 1
  assert re.search(message, captured.err)
  assert not output.exists()


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    (monot5.RerankerSpec(label_words=None, logit_id=5), 'needs two words'),
    (
      monot5.RerankerSpec('water ' * 99 + monot5.MONOT5.template),
      'max_tokens 60 has no room for the template',
    ),
    (None, 'does not say which words'),
  ],
)
def test_a_model_that_cannot_be_trained(inputs, tmp_path, spec, message):
  model = t5_checkpoints.write_reranker(tmp_path / 'other', CONFIG)
  (model / 'reranker.json').unlink()
  if spec:
    monot5.write_spec(model, spec)
  settings = recipe.load([], SETTINGS)
  with pytest.raises(errors.InputError, match=message):
    train.train(inputs / 'pairs', model, tmp_path / 'output', settings)
  assert not (tmp_path / 'output').exists()


def test_a_model_without_pieces(inputs, tmp_path, monkeypatch):
  checked = reranker_lib.check(inputs / 'model')
  model = t5_checkpoints.write_t5(tmp_path / 'other', CONFIG)
  monkeypatch.setattr(reranker_lib, 'check', lambda *_, **__: checked)
  with pytest.raises(errors.InputError, match=r'has no spiece\.model'):
    train.train(
      inputs / 'pairs', model, tmp_path / 'output', recipe.load([], SETTINGS)
    )


def test_settings_of_a_recipe():
  settings = train_recipe.make_settings(recipe.load([], SETTINGS))
  assert settings.has_length_buckets
  assert (settings.loss, settings.list_size) == ('monot5', 1)
  padded = recipe.load([], SETTINGS | {'LENGTH_BUCKETS': 'False'})
  assert not train_recipe.make_settings(padded).has_length_buckets
  settings = train_recipe.make_settings(recipe.load(['gin/rankt5.gin']))
  assert (settings.loss, settings.list_size) == ('rankt5', 8)
  train_recipe.check(recipe.load(['gin/rankt5.gin']))
