"""Two real processes, on the CPU, that train one model."""

import os
import re
import signal
import subprocess
import sys

import numpy as np

from inpars_tpu import cli, manifest, recipe, train
from tests import test_processes, test_train

SETTINGS = test_train.SETTINGS | {'TRAIN_BATCH_SIZE': '8'}
# Sends itself a SIGNAL after its checkpoint of step 2.
DRIVER = """
import os, sys, time
from inpars_tpu import checkpoints, cli, together
together._LOST_SECONDS = 15.0
save = checkpoints.Checkpoints.save
def save_and_die(self, step, state):
  save(self, step, state)
  if step == 2 and 'SIGNAL' in os.environ:
    os.kill(os.getpid(), int(os.environ['SIGNAL']))
    time.sleep(3)  # The runtime looks for it each second.
checkpoints.Checkpoints.save = save_and_die
cli.run_and_exit()
"""
inputs = test_train.inputs  # A model, and pairs.


def run_two(inputs, output, signals=()):
  """Two processes of two devices each; signals: process -> what it gets.

  Returns:
    Exit code and stderr of each.
  """
  address = f'127.0.0.1:{test_processes.free_port()}'
  started = []
  for i in range(2):
    environment = os.environ | {
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': '--xla_force_host_platform_device_count=2',
      'JAX_COMPILATION_CACHE_DIR': str(inputs / 'compiled'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }
    if i in signals:
      environment['SIGNAL'] = str(int(signals[i]))
    command = [
      sys.executable, '-c', DRIVER, 'train', f'--pairs={inputs}/pairs',
      f'--model={inputs}/model', f'--output={output}', f'--process_id={i}',
      '--num_processes=2', f'--coordinator_address={address}',
      *(f'--gin.{name}={value}' for name, value in SETTINGS.items()),
    ]  # fmt: skip
    process = subprocess.Popen(
      command, env=environment, stderr=subprocess.PIPE, text=True
    )
    started.append(process)
  stderr = [process.communicate(timeout=300)[1] for process in started]
  return list(
    zip([process.returncode for process in started], stderr, strict=True)
  )


def last_step(output) -> int:
  steps = [p.name for p in (output / 'checkpoints').iterdir()]
  return max(int(name) for name in steps if name.isdecimal())


def test_terminated_killed_and_gone_on(inputs, tmp_path):
  two, one = tmp_path / 'two', tmp_path / 'one'
  # Lost: the other says so in bounded time.
  (code, stderr), (killed, _) = run_two(inputs, two, {1: signal.SIGKILL})
  assert killed == -signal.SIGKILL
  assert code == cli.INTERRUPTED, stderr[-2_000:]
  assert 'inpars-tpu: process 1 of 2 was lost, and training stops' in stderr
  # Terminated: both stop after one step, which is saved.
  done = run_two(inputs, two, {1: signal.SIGTERM})
  assert [code for code, _ in done] == [cli.INTERRUPTED] * 2, done
  assert 2 < last_step(two) < 6
  assert manifest.read(two) is None
  done = run_two(inputs, two)
  assert [code for code, _ in done] == [cli.DONE] * 2, done
  assert re.search('goes on after step [345]', done[1][1])
  train.train(
    inputs / 'pairs', inputs / 'model', one, recipe.load([], SETTINGS)
  )
  losses = [
    [record['loss'] for record in test_train.metrics(output)]
    for output in (two, one)
  ]
  assert len(losses[0]) == 6
  np.testing.assert_allclose(*losses, rtol=1e-5)
  assert sorted(p.name for p in (two / 'model').iterdir()) == sorted(
    p.name for p in (one / 'model').iterdir()
  )
