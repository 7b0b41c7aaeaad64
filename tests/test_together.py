"""Real processes, on the CPU, that train one model."""

import os
import pickle
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from inpars_tpu import cli, manifest, recipe, train
from inpars_tpu import reranker as reranker_lib
from tests import store, test_train

SETTINGS = test_train.SETTINGS | {
  'TRAIN_BATCH_SIZE': '8',
  'LENGTH_BUCKETS': 'False',  # One program.
}
# Sends itself a SIGNAL after its checkpoint of step 2, or fails before step 1.
# It gets the examples from a file, and logs no events: TensorFlow, which takes
# longer to import than all else, has nothing to do with several processes.
DRIVER = """
import os, pickle
from inpars_tpu import checkpoints, cli, errors, metrics_log, together, train
together._LOST_SECONDS, together._BEAT_SECONDS = 15.0, 0.5
def read(*_):
  if os.environ.get('SIGNAL') == 'error':
    raise errors.InputError('no such thing')
  return pickle.load(open(os.environ['EXAMPLES'], 'rb'))
train._read = read
metrics_log._Events = lambda _: None
save = checkpoints.Checkpoints.save
def save_and_die(self, step, state):
  save(self, step, state)
  if step == 2 and 'SIGNAL' in os.environ:
    os.kill(os.getpid(), int(os.environ['SIGNAL']))
checkpoints.Checkpoints.save = save_and_die
cli.run_and_exit()
"""
inputs = test_train.inputs  # A model, and pairs.
compilation_cache = test_train.compilation_cache


@pytest.fixture(scope='module')
def environment(inputs, compilation_cache) -> dict[str, str]:
  """Of every process: two devices, the examples, the programs of others."""
  spec, *_ = reranker_lib.check(inputs / 'model')
  examples = train._read(
    inputs / 'pairs',
    inputs / 'model' / 'spiece.model',
    spec,
    recipe.load([], SETTINGS),
  )
  path = inputs / 'examples.pickle'
  path.write_bytes(pickle.dumps(examples))
  return {
    **os.environ,
    **compilation_cache,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': '--xla_force_host_platform_device_count=2',
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',  # Compiles in half the time.
    'EXAMPLES': str(path),
  }


def run(inputs, environment, output, count, signals=()):
  """So many processes, of two devices each; signals: process -> what it gets.

  Returns:
    Exit code and stderr of each.
  """
  address = f'127.0.0.1:{store.free_port()}'
  started = []
  for i in range(count):
    command = [
      sys.executable, '-c', DRIVER, 'train', f'--pairs={inputs}/pairs',
      f'--model={inputs}/model', f'--output={output}', f'--process_id={i}',
      f'--num_processes={count}', f'--coordinator_address={address}',
      *(f'--gin.{name}={value}' for name, value in SETTINGS.items()),
    ]  # fmt: skip
    signalled = {'SIGNAL': str(signals[i])} if i in signals else {}
    started.append(
      subprocess.Popen(
        command,
        env=environment | signalled,
        stderr=subprocess.PIPE,
        text=True,
      )
    )
  stderr = [process.communicate(timeout=300)[1] for process in started]
  return list(
    zip([process.returncode for process in started], stderr, strict=True)
  )


def last_step(output) -> int:
  steps = [p.name for p in (output / 'checkpoints').iterdir()]
  return max(int(name) for name in steps if name.isdecimal())


def test_killed_terminated_and_gone_on(inputs, environment, tmp_path):
  many, one = tmp_path / 'many', tmp_path / 'one'
  # Lost: the other says so in bounded time.
  (code, stderr), (killed, _) = run(
    inputs, environment, many, 2, {1: int(signal.SIGKILL)}
  )
  assert killed == -signal.SIGKILL
  assert code == cli.INTERRUPTED, stderr[-2_000:]
  assert 'inpars-tpu: process 1 of 2 was lost, and this one stops' in stderr
  # Terminated: both stop after one step, which is saved.
  done = run(inputs, environment, many, 2, {1: int(signal.SIGTERM)})
  assert [code for code, _ in done] == [cli.INTERRUPTED] * 2, done
  assert last_step(many) == 5  # Caught after step 3: the second after that.
  assert manifest.read(many) is None
  # Another number of them goes on.
  done = run(inputs, environment, many, 4)
  assert [code for code, _ in done] == [cli.DONE] * 4, done
  assert re.search('goes on after step 5', done[3][1])
  train.train(
    inputs / 'pairs', inputs / 'model', one, recipe.load([], SETTINGS)
  )
  losses = [
    [record['loss'] for record in test_train.metrics(output)]
    for output in (many, one)
  ]
  assert len(losses[0]) == 6
  np.testing.assert_allclose(*losses, rtol=1e-5)
  assert sorted(p.name for p in (many / 'model').iterdir()) == sorted(
    p.name for p in (one / 'model').iterdir()
  )


def test_one_that_fails_ends_the_other(inputs, environment, tmp_path):
  failed, other = run(inputs, environment, tmp_path / 'out', 2, {0: 'error'})
  assert failed[0] == other[0] == cli.WRONG_INPUT, (failed, other)
  assert 'inpars-tpu: no such thing' in failed[1]
  assert 'process 0 of 2 has ended, its own line says why' in other[1]
