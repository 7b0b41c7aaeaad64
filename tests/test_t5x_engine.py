"""--engine=t5x: what needs no t5x, and, marked, t5x itself beside ours."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from inpars_tpu import (
  cli,
  convert,
  errors,
  files,
  init,
  manifest,
  pairs,
  recipe,
  t5x_engine,
  t5x_rerank,
  train,
  validation,
)
from inpars_tpu import reranker as reranker_lib
from inpars_tpu.t5 import convert as t5_convert
from tests import checkpoints as words
from tests import t5_checkpoints

ROOT = pathlib.Path(__file__).parent.parent
# Every matrix but the relative biases has sides of 128 or more: factored.
CONFIG = dataclasses.replace(
  t5_checkpoints.V1_0,
  d_model=128,
  d_kv=64,
  num_heads=2,
  d_ff=256,
  num_layers=1,
  num_decoder_layers=2,
)
SETTINGS = {
  'TRAIN_STEPS': '20',
  'CHECKPOINT_STEPS': '5',
  'TRAIN_BATCH_SIZE': '4',
  'MAX_INPUT_TOKENS': '60',
  'TRAIN_DTYPE': "'float32'",
  'DROPOUT_RATE': '0.0',
}


@pytest.fixture(scope='module')
def inputs(tmp_path_factory) -> pathlib.Path:
  """`model/`, a reranker, and `pairs/`: 12 groups of two, and 4 held out."""
  directory = tmp_path_factory.mktemp('inputs')
  # With T5's own initial weights: those of t5_checkpoints are so large that a
  # rounding doubles with each step.
  t5_checkpoints.write_pieces(directory / 'pieces')
  files.write_json(directory / 'config.json', CONFIG.to_hf())
  init.init(
    str(directory / 'config.json'),
    directory / 'pieces',
    directory / 'model',
    seed=1,
  )
  texts = words.random_sentences(48, seed=1)
  rows = []
  for i in range(16):
    query = texts[i]
    rows.append(pairs.Pair(query, texts[16 + i], 1, str(i), str(i), i))
    rows.append(pairs.Pair(query, texts[32 + i], 0, str(i), f'n{i}', i))
  pairs.write(
    directory / 'pairs',
    'tiny',
    {'train': rows[:24], 'validation': rows[24:]},
    seed=1,
  )
  return directory


@pytest.fixture(scope='module')
def t5x_installed():
  pytest.importorskip('t5x', reason='t5x is not installed')


def command(inputs, output, engine='t5x', **macros) -> list[str]:
  settings = SETTINGS | {k: str(v) for k, v in macros.items()}
  return [
    'train',
    f'--pairs={inputs / "pairs"}',
    f'--model={inputs / "model"}',
    f'--output={output}',
    f'--engine={engine}',
    *(f'--gin.{name}={value}' for name, value in settings.items()),
  ]


def run(*args, **macros) -> str:
  """The command in a process of its own; returns what it says."""
  done = subprocess.run(
    [sys.executable, '-m', 'inpars_tpu', *command(*args, **macros)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout == ''
  return done.stderr


def metrics(output) -> list[dict]:
  lines = (output / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.fixture(scope='module')
def trained(inputs, t5x_installed, tmp_path_factory) -> pathlib.Path:
  output = tmp_path_factory.mktemp('work')
  run(inputs, output)
  return output


def without(monkeypatch, *names):
  monkeypatch.setattr(
    importlib.util,
    'find_spec',
    lambda name: None if name in names else object(),
  )


def test_says_how_to_get_t5x(inputs, tmp_path, monkeypatch, capsys):
  without(monkeypatch, 't5x', 'airio')
  assert cli.main(command(inputs, tmp_path / 'output')) == 2
  said = capsys.readouterr().err
  assert said.count('\n') == 1
  assert "pip install 'inpars_tpu[t5x]'" in said
  found = re.findall(
    r"pip install --no-deps '(\w+) @ git\+https://(\S+)'", said
  )
  assert found == [
    ('t5x', 'github.com/google-research/t5x@cc342d4'),
    ('airio', 'github.com/google/airio@69897df'),
    ('jestimator', 'github.com/google-research/jestimator@326824a'),
  ]
  assert not (tmp_path / 'output').exists()


def test_says_which_package_of_the_index_is_missing(monkeypatch):
  without(monkeypatch, 'clu')
  with pytest.raises(errors.InputError, match=r'needs clu: pip install'):
    t5x_engine.check(recipe.load())


def test_has_one_loss(monkeypatch):
  without(monkeypatch)
  with pytest.raises(errors.InputError, match="the loss 'monot5' alone, not"):
    t5x_engine.check(recipe.load([], {'LOSS': "'rankt5'"}))


def fake_t5x(tmp_path, monkeypatch, program: str) -> None:
  (tmp_path / 't5x').mkdir()
  (tmp_path / 't5x' / '__init__.py').touch()
  (tmp_path / 't5x' / 'train.py').write_text(program)
  paths = [str(tmp_path), os.getcwd()]
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join(paths))


@pytest.mark.parametrize(
  ('program', 'error', 'message'),
  [
    (
      'from inpars_tpu import errors; raise errors.InputError("no such file")',
      errors.InputError,
      '^no such file$',
    ),
    ('1 / 0', RuntimeError, 'with 1: ZeroDivisionError: division by zero; see'),
    (
      'import os; os.kill(os.getpid(), 9)',
      RuntimeError,
      't5x ended with -9: signal 9; see ',
    ),
  ],
)
def test_how_t5x_fails(tmp_path, monkeypatch, program, error, message):
  fake_t5x(tmp_path, monkeypatch, program)
  with pytest.raises(error, match=message):
    t5x_engine.run_t5x(['train'], tmp_path / 't5x.log', num_steps=2)


def test_shows_steps_and_keeps_what_t5x_says(tmp_path, monkeypatch, capsys):
  program = (
    'import sys\n'
    'print("hello")\n'
    'print(\'{"step": 4, "loss": 0.25}\')\n'
    'print("a warning", file=sys.stderr)\n'
  )
  fake_t5x(tmp_path, monkeypatch, program)
  t5x_engine.run_t5x(['train'], tmp_path / 't5x.log', num_steps=4)
  assert (tmp_path / 't5x.log').read_text() == 'a warning\n'
  said = capsys.readouterr().err
  assert '4/4' in said
  assert 'loss=0.2500' in said


def test_starts_at_step_0_with_slots(inputs, tmp_path):
  start = t5x_engine.convert_start(inputs / 'model', tmp_path / 'start')
  assert (start.step, start.config) == (0, CONFIG)
  assert (start.checkpoint / 'checkpoint').exists()
  # As a t5x checkpoint of parameters alone it gets slots too.
  t5_checkpoints.write_t5x(tmp_path / 'model', CONFIG)
  for name in ('spiece.model', 'reranker.json'):
    (tmp_path / 'model' / name).write_bytes(
      (inputs / 'model' / name).read_bytes()
    )
  again = t5x_engine.convert_start(tmp_path / 'model', tmp_path / 'again')
  assert sorted(p.name for p in again.checkpoint.iterdir()) == sorted(
    p.name for p in start.checkpoint.iterdir()
  )
  params = t5x_engine.load(again.checkpoint, CONFIG)
  np.testing.assert_array_equal(
    params['token_embedder']['embedding'],
    t5_checkpoints.random_weights(CONFIG)['shared.weight'],
  )


@pytest.mark.t5x
def test_losses_are_those_of_the_embedded_trainer(trained, inputs, tmp_path):
  run(inputs, tmp_path, 'embedded')
  ours, theirs = metrics(tmp_path), metrics(trained)
  assert [record['step'] for record in theirs] == list(range(1, 21))
  for name in ('loss', 'z_loss', 'grad_norm', 'update_norm'):
    np.testing.assert_allclose(
      [record[name] for record in theirs],
      [record[name] for record in ours],
      rtol=1e-3,
      err_msg=name,
    )
  accuracies = [record['accuracy'] for record in theirs]
  assert accuracies == [record['accuracy'] for record in ours]
  assert len(set(accuracies)) > 1
  _, first = t5_convert.load(tmp_path / 'model')
  _, second = t5_convert.load(trained / 'model')
  np.testing.assert_allclose(
    first['decoder']['layers_1']['mlp']['wo']['kernel'],
    second['decoder']['layers_1']['mlp']['wo']['kernel'],
    atol=1e-4,
  )


@pytest.mark.t5x
def test_what_it_writes(trained, inputs):
  assert sorted(path.name for path in trained.iterdir()) == [
    'checkpoints', 'manifest.json', 'metrics.jsonl', 'model', 't5x.gin',
    't5x.log', 'tensorboard',
  ]  # fmt: skip
  assert sorted(path.name for path in (trained / 'model').iterdir()) == [
    'README.md', 'config.json', 'model.safetensors', 'reranker.json',
    'spiece.model', 'tokenizer_config.json',
  ]  # fmt: skip
  kept = {path.name for path in (trained / 'checkpoints').iterdir()}
  assert {'checkpoint_15', 'checkpoint_20'} <= kept
  record = manifest.read(trained)
  assert record['settings']['engine'] == 't5x'
  assert record['counts']['positive'] == 12
  assert record['validation'].keys() >= {'loss'}
  before = {path: path.stat().st_mtime_ns for path in trained.rglob('*')}
  run(inputs, trained)
  assert before == {p: p.stat().st_mtime_ns for p in trained.rglob('*')}
  with pytest.raises(errors.InputError, match="engine = 't5x' there and None"):
    train.train(
      inputs / 'pairs', inputs / 'model', trained, recipe.load([], SETTINGS)
    )


@pytest.mark.t5x
@pytest.mark.parametrize('step', [2, 12])
def test_killed_and_resumed(trained, inputs, tmp_path, step):
  program = [sys.executable, '-m', 'inpars_tpu', *command(inputs, tmp_path)]
  process = subprocess.Popen(program, stderr=subprocess.DEVNULL)
  file = tmp_path / 'metrics.jsonl'
  while not (file.exists() and file.read_bytes().count(b'\n') >= step):
    assert process.poll() is None
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert manifest.read(tmp_path) is None
  run(inputs, tmp_path)
  assert file.read_bytes() == (trained / 'metrics.jsonl').read_bytes()
  name = 'model/model.safetensors'
  assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.t5x
def test_stops_where_the_loss_is_no_number(inputs, t5x_installed, tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'inpars_tpu'),
      *command(inputs, tmp_path, LEARNING_RATE=1e18, CHECKPOINT_STEPS=1),
    ],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  last_line = done.stderr.splitlines()[-1]
  assert re.match(r'inpars-tpu: \w+ is (nan|inf) at step \d+, ', last_line)
  assert not (tmp_path / 'model').exists()


def t5x(program: str, *flags: str) -> None:
  done = subprocess.run(
    [sys.executable, '-m', f't5x.{program}', *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.t5x
def test_recipes_of_tiny_train_evaluate_and_infer(t5x_installed, tmp_path):
  """By t5x's own programs, from the folder of the repository."""
  config = dataclasses.replace(
    t5_checkpoints.V1_0,
    vocab_size=512,
    d_ff=64,
    num_layers=2,
    num_decoder_layers=2,
    num_heads=4,
  )
  model = t5_checkpoints.write_reranker(tmp_path / 'model', config)
  convert.convert(model, tmp_path / 'T', from_format='hf', to_format='t5x')
  texts = words.random_sentences(24, seed=1)
  rows = [
    pairs.Pair(texts[i], texts[8 + 8 * n + i], 1 - n, str(i), f'{n}_{i}', i)
    for i in range(8)
    for n in range(2)
  ]
  pairs.write(
    tmp_path / 'pairs', 'scifact', {'train': rows, 'validation': rows}, seed=1
  )
  common = [
    f'--tfds_data_dir={tmp_path / "pairs"}',
    '--gin_file=gin/t5x/tiny.gin',
    f"--gin.VOCABULARY_FILE='{tmp_path}/T/spiece.model'",
    '--gin.MAX_INPUT_TOKENS=60',
    "--gin.TRAIN_DTYPE='float32'",
    "--gin.RERANKER_DTYPE='float32'",
  ]
  task = "--gin.MIXTURE_OR_TASK_NAME='inpars_scifact'"
  tuning = [
    *(*common, task, '--gin_file=gin/t5x/finetune.gin'),
    f"--gin.INITIAL_CHECKPOINT_PATH='{tmp_path}/T/checkpoint_0'",
    '--gin.TRAIN_BATCH_SIZE=4',
    '--gin.CHECKPOINT_STEPS=2',
    '--gin.EVAL_STEPS=1',
  ]
  for name, steps in (('whole', 4), ('parts', 2), ('parts', 4)):
    output = f"--gin.MODEL_DIR='{tmp_path}/{name}'"
    t5x('train', *tuning, output, f'--gin.TRAIN_STEPS={steps}')
  # With the place in the data that the checkpoint kept, resuming is exact.
  whole, parts = (
    t5x_engine.load(tmp_path / name / 'checkpoint_4', config)
    for name in ('whole', 'parts')
  )
  start = t5x_engine.load(tmp_path / 'T' / 'checkpoint_0', config)
  for kernel in (['encoder', 'layers_0'], ['decoder', 'layers_1']):
    a, b, c = (
      tree[kernel[0]][kernel[1]]['mlp']['wi']['kernel']
      for tree in (whole, parts, start)
    )
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()

  ours = reranker_lib.MonoT5.load(model, dtype='float32', max_tokens=60)
  expected = ours.score_pairs([(r.query, r.document) for r in rows])
  assert np.ptp(expected) > 0.01
  at = f"--gin.CHECKPOINT_PATH='{tmp_path}/T/checkpoint_0'"
  t5x(
    'eval',
    *(*common, task, at, '--gin_file=gin/t5x/eval.gin'),
    f"--gin.EVAL_OUTPUT_DIR='{tmp_path}/metrics'",
  )
  (found,) = (tmp_path / 'metrics').rglob('inpars_scifact-metrics.jsonl')
  measured = json.loads(found.read_text().splitlines()[0])
  for name, value in validation.measure(
    expected,
    np.array([r.label for r in rows]),
    np.array([r.group for r in rows]),
    is_listwise=False,
  ).items():
    assert measured[name] == pytest.approx(value, rel=1e-5), name

  lines = [
    {'query_id': r.query_id, 'doc_id': r.doc_id, 'query': r.query,
     'text': r.document}
    for r in rows
  ]  # fmt: skip
  (tmp_path / 'pairs.jsonl').write_text(
    ''.join(f'{json.dumps(line)}\n' for line in lines)
  )
  for name, more in (('ours', []), ('theirs', ['gin/t5x/t5x_network.gin'])):
    t5x(
      'infer',
      *(*common, *(f'--gin_file={file}' for file in more)),
      *('--gin_file=gin/t5x/infer.gin', at),
      f"--gin.PAIRS_FILE='{tmp_path}/pairs.jsonl'",
      f"--gin.INFER_OUTPUT_DIR='{tmp_path}/{name}'",
    )
    scores = t5x_rerank.read_scores(tmp_path / name)
    np.testing.assert_allclose(
      [scores[r.query_id, r.doc_id] for r in rows], expected, atol=2e-6
    )


PARSE = """
import importlib, sys
import gin
from t5x import gin_utils
sizes = ('tiny', 'base', 'large', '3b', 'base+t5x_network')
runs = {
  'train': ('finetune', 'finetune+engine', 'finetune+parameters_only'),
  'infer': ('infer',),
  'eval': ('eval',),
}
for program in runs:
  module = sys.modules['__main__'] = importlib.import_module(f't5x.{program}')
  for run in runs[program]:
    for size in sizes:
      gin.clear_config()
      gin_utils.parse_gin_flags(
        ['.', *module._DEFAULT_GIN_SEARCH_PATHS],
        [f'gin/t5x/{name}.gin' for name in f'{size}+{run}'.split('+')],
        [],
        finalize_config=False,
      )
      print(size, run, gin.query_parameter('%TRAIN_BATCH_SIZE'))
"""


@pytest.mark.t5x
def test_every_gin_file_parses(t5x_installed):
  done = subprocess.run(
    [sys.executable, '-c', PARSE], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr[-3000:]
  lines = done.stdout.splitlines()
  assert len(lines) == 25
  assert all(line.endswith(' 128') for line in lines)
  named = {name for line in lines for name in re.split('[ +]', line)}
  shipped = {path.stem for path in (ROOT / 'gin' / 't5x').glob('*.gin')}
  assert shipped - named == {'monot5'}  # Which the sizes include.


@pytest.mark.parametrize(
  'path', sorted((ROOT / 'gin' / 't5x').glob('*.gin')), ids=lambda p: p.stem
)
def test_every_gin_file_opens_with_its_command(path):
  lines = path.read_text().splitlines()
  header = lines[
    : next(i for i, li in enumerate(lines) if not li.startswith('#'))
  ]
  assert any('Command:  ' in line for line in header)
