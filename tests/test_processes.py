"""Several real processes, on the CPU, that write one output."""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from inpars_tpu import cli, errors, processes
from tests import store, test_generate

NUM_SHARDS = 10
# Shards of 4 documents. A process ends itself, as `kill -9` would (or another
# SIGNAL), before (or after: KILL_AFTER) the KILL_AT-th file whose name has
# KILL_NAME in it gets its name; MEET_SECONDS is how long it waits for others.
DRIVER = """
import os, signal, sys
from inpars_tpu import cli, files, generate, processes
generate.SHARD_DOCUMENTS = 4
processes._MEET_SECONDS = int(os.environ.get('MEET_SECONDS', 60))
rename, count = files._rename, 0
def rename_or_die(temporary, path, shared):
  global count
  count += os.environ.get('KILL_NAME', '') in path.name
  is_last = count == int(os.environ.get('KILL_AT', -1))
  if not is_last or 'KILL_AFTER' in os.environ:
    rename(temporary, path, shared)
  if is_last:
    os.kill(os.getpid(), int(os.environ.get('SIGNAL', signal.SIGKILL)))
files._rename = rename_or_die
cli.run_and_exit()
"""


def parse(**flags) -> processes.Processes:
  names = ('shard_index', 'num_shards', 'process_id', 'num_processes',
           'coordinator_address')  # fmt: skip
  return processes.from_flags(
    argparse.Namespace(**(dict.fromkeys(names) | flags))
  )


def test_flags():
  assert parse() == processes.Processes()
  assert parse(shard_index='2', num_shards='3') == processes.Processes(2, 3)
  assert parse(
    process_id='0', num_processes='4', coordinator_address='10.0.0.1:8476'
  ) == processes.Processes(0, 4, '10.0.0.1:8476')
  assert parse(coordinator_address='auto') == processes.Processes(
    coordinator_address=processes.AUTO
  )


@pytest.mark.parametrize('flags,words', [
  ({'shard_index': '2', 'num_shards': '2'},
   '--shard_index=2 must be below --num_shards=2'),
  ({'num_shards': '2'}, '--num_shards: give --shard_index --num_shards, or'),
  ({'num_processes': '2', 'process_id': '0'},
   '--process_id --num_processes: give'),
  ({'num_processes': '2', 'process_id': '-1', 'coordinator_address': 'a:1'},
   '--process_id=-1 is no number'),
  ({'num_processes': '2', 'process_id': '1', 'coordinator_address': 'a'},
   '--coordinator_address=a is not HOST:PORT'),
  ({'num_shards': '2', 'shard_index': '0', 'coordinator_address': 'a:1'},
   'or none of them'),
  ({'num_shards': '2', 'shard_index': '0', 'coordinator_address': 'auto'},
   '--coordinator_address=auto alone'),
])  # fmt: skip
def test_flags_that_do_not_fit(flags, words):
  with pytest.raises(errors.InputError, match=re.escape(words)):
    parse(**flags)


def test_plain_numbers_take_places_among_all():
  shares = processes.Processes(1, 3).share(8, lambda n: n not in (1, 2, 6))
  assert shares.numbers == [[0, 3], [4, 7], [5]]
  assert shares.own == [4, 7]
  assert shares.name == ' (process 1 of 3)'
  assert (
    shares.describe([0, 3, 5]) == '2 to process 0 (0, 3), 1 to process 2 (5)'
  )


def test_alone_takes_all_that_is_missing():
  for alone in (processes.ALONE, processes.Processes()):
    shares = alone.share(4, lambda n: n > 1)
    assert shares == processes.Shares(0, [[2, 3]])
    assert shares.name == ''
    assert alone.share(4, lambda n: False).own == []


def test_many_left_are_not_all_named():
  shares = processes.Shares(0, [[0], list(range(1, 9))])
  assert shares.describe(range(1, 9)) == '8 to process 1 (1, 2, 3, 4, 5, ...)'


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  """A model, documents, and the shards that one process writes of them."""
  return World(tmp_path_factory.mktemp('processes'))


class World:
  """Starts processes; compares what they wrote with one process's shards."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    config = dataclasses.replace(test_generate.CONFIG, num_layers=1)
    test_generate.write_model(folder / 'model', config)
    test_generate.write_documents(folder / 'documents.jsonl', 4 * NUM_SHARDS)
    (folder / 'prompt.txt').write_text(test_generate.PROMPT.build('{document}'))
    process = self.start('one')
    assert finish(process)[0] == cli.DONE
    self.expected = read(folder / 'one')
    assert len(self.expected) == NUM_SHARDS
    self.counts = json.loads((folder / 'one' / 'manifest.json').read_text())

  def start(self, output: str, *flags: str, **environment) -> subprocess.Popen:
    """A process of `inpars-tpu generate`."""
    bindings = test_generate.BINDINGS | {
      'PROMPT': f"'{self.folder}/prompt.txt'"
    }
    return subprocess.Popen(
      [
        sys.executable, '-c', DRIVER, 'generate',
        f'--documents={self.folder}/documents.jsonl',
        f'--model={self.folder}/model', f'--output={self.folder}/{output}',
        *(f'--gin.{name}={value}' for name, value in bindings.items()), *flags,
      ],
      stderr=subprocess.PIPE,
      text=True,
      env=os.environ | {
        'JAX_COMPILATION_CACHE_DIR': f'{self.folder}/compiled',
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',  # Compiles in half the time.
      } | {name: str(value) for name, value in environment.items()},
    )  # fmt: skip

  def start_jax(self, output: str, count: int, **environment):
    """Processes of JAX's runtime; `environment` (name -> id -> value)."""
    address = f'127.0.0.1:{store.free_port()}'
    return [
      self.start(
        output,
        f'--process_id={i}',
        f'--num_processes={count}',
        f'--coordinator_address={address}',
        **{name: value[i] for name, value in environment.items() if i in value},
      )
      for i in range(count)
    ]

  def start_plain(self, output: str, count: int) -> None:
    """Processes of plain numbers, at once; waits for them."""
    started = [
      self.start(output, f'--shard_index={i}', f'--num_shards={count}')
      for i in range(count)
    ]
    for process in started:
      code, stderr = finish(process)
      assert code == cli.DONE, stderr

  def check(self, output: str) -> None:
    """Everything is there, equal to one process's, and nothing else."""
    folder = self.folder / output
    assert read(folder) == self.expected
    record = json.loads((folder / 'manifest.json').read_text())
    assert record['counts'] == self.counts['counts']
    assert len(list(folder.iterdir())) == NUM_SHARDS + 1


def read(folder: pathlib.Path) -> dict[str, bytes]:
  return {p.name: p.read_bytes() for p in folder.glob('*.jsonl')}


def finish(process: subprocess.Popen) -> tuple[int, str]:
  """Exit code, stderr."""
  _, stderr = process.communicate(timeout=120)
  return process.returncode, stderr


def test_two_processes_of_jax_that_find_each_other(world):
  # As Slurm starts them.
  port = store.free_port()
  started = [
    world.start(
      'jax2', '--coordinator_address=auto', JAX_COORDINATOR_PORT=port,
      SLURM_JOB_ID=1, SLURM_NTASKS=2, SLURM_PROCID=i, SLURM_LOCALID=i,
      SLURM_STEP_NODELIST='localhost',
    )
    for i in range(2)
  ]  # fmt: skip
  done = [finish(process) for process in started]
  assert [code for code, _ in done] == [cli.DONE, cli.DONE]
  for index, (_, stderr) in enumerate(done):
    assert f'generate (process {index} of 2): 20 of 20 documents' in stderr
  world.check('jax2')


def test_four_processes_and_one_is_killed(world):
  started = world.start_jax('jax4', 4, KILL_AT={2: 1}, KILL_NAME={2: 'queries'})
  done = [finish(process) for process in started]
  assert [code for code, _ in done] == [0, 0, -signal.SIGKILL, 0]
  # Shards 2 and 6 were the killed one's, which died writing the first.
  assert len(read(world.folder / 'jax4')) == NUM_SHARDS - 2
  left = 'of 10 shards these are left: 2 to process 2 (2, 6).'
  assert any(left in stderr for _, stderr in done)
  assert not (world.folder / 'jax4' / 'manifest.json').exists()
  # Another number of them, told apart in the other way.
  world.start_plain('jax4', 3)
  world.check('jax4')


def test_two_processes_of_plain_numbers(world):
  world.start_plain('plain2', 2)
  world.check('plain2')


def test_killed_at_any_moment(world):
  """One output, whose process is killed again and again."""
  draw = random.Random(1)
  kills = [
    {'KILL_AT': 1, 'KILL_NAME': 'manifest.partial'},
    {'KILL_AT': draw.randrange(1, 5), 'KILL_NAME': 'queries'},
    {'KILL_AT': draw.randrange(1, 5), 'KILL_NAME': 'queries', 'KILL_AFTER': 1},
    # Between the last shard and the manifest; then before what is left of
    # earlier ones is cleared away.
    {'KILL_AT': 1, 'KILL_NAME': 'manifest.json'},
    {'KILL_AT': 1, 'KILL_NAME': 'manifest.json', 'KILL_AFTER': 1},
  ]
  for kill in kills:
    assert finish(world.start('killed', **kill))[0] == -signal.SIGKILL, kill
    is_whole = 'KILL_AFTER' in kill and kill['KILL_NAME'] == 'manifest.json'
    assert (world.folder / 'killed' / 'manifest.json').exists() == is_whole
  assert finish(world.start('killed'))[0] == cli.DONE
  world.check('killed')


def test_killed_by_the_clock(world):
  draw, output = random.Random(2), world.folder / 'clock'
  for _ in range(2):
    process = world.start('clock')
    wait_for(process, output)
    time.sleep(draw.uniform(0, 1.5))
    process.kill()
    finish(process)
    whole = read(output)
    assert whole == {name: world.expected[name] for name in whole}
  assert finish(world.start('clock'))[0] == cli.DONE
  world.check('clock')


def wait_for(process: subprocess.Popen, path: pathlib.Path) -> None:
  while not path.exists():
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.01)


def test_the_others_do_not_come(world):
  flags = [
    '--num_processes=2',
    f'--coordinator_address=127.0.0.1:{store.free_port()}',
  ]
  code, stderr = finish(
    world.start('alone', *flags, '--process_id=1', MEET_SECONDS=2)
  )
  assert code == cli.WRONG_INPUT
  assert 'the processes did not meet (waited 2 s)' in stderr.splitlines()[-1]
  assert read(world.folder / 'alone') == {}


@pytest.mark.parametrize('moment', ['waiting', 'writing'])
def test_a_process_of_jax_is_terminated(world, moment):
  count = 2 if moment == 'waiting' else 1
  process = world.start(
    moment, f'--num_processes={count}', '--process_id=0',
    f'--coordinator_address=127.0.0.1:{store.free_port()}',
    **({'KILL_AT': 3, 'KILL_NAME': 'queries', 'SIGNAL': signal.SIGTERM.value}
       if moment == 'writing' else {}),
  )  # fmt: skip
  if moment == 'waiting':
    assert 'waiting for all processes' in process.stderr.readline()
    process.terminate()
  code, stderr = finish(process)
  assert code == cli.INTERRUPTED, stderr
  assert 'inpars-tpu: interrupted' in stderr
  assert len(read(world.folder / moment)) == (0 if moment == 'waiting' else 2)
