"""Kills `inpars-tpu run` at random moments, and compares what it ends in.

  python -m benchmarks.kills --kills=20 --seed=1 [--store]

A small world and random models. One run is left alone. Others are ended, by
turns by SIGKILL and SIGTERM, each in the next of the stages, at a random moment
of the time that the stage took undisturbed; started again, the run goes on to
the next kill; after the last stage it ends, and its files are compared. One
JSON line: `identical` of `kills`, whose run ended in equal files (a manifest
but for its times; but for the index, checkpoints, events and the report, whose
bytes hold times), and the longest that a SIGTERM took.

--store: work_dir, data_dir and models are on a stand-in for gs://.
"""

import argparse
import collections
import contextlib
import itertools
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

from inpars_tpu import files, stores
from inpars_tpu.demo import world
from tests import world_models

_NAME = 'world'
_BINDINGS = {
  'PROMPT': "'gbq'",
  'NUM_DOCUMENTS': '1100',  # Two shards.
  'MAX_NEW_TOKENS': '16',
  'GENERATOR_DTYPE': "'float32'",
  'MIN_QUERY_TOKENS': '1',
  'NUM_PAIRS': '64',
  'MAX_INPUT_TOKENS': '64',
  'RERANKER_DTYPE': "'float32'",
  'TRAIN_STEPS': '6',
  'TRAIN_BATCH_SIZE': '4',
  'TRAIN_DTYPE': "'float32'",
  'CHECKPOINT_STEPS': '2',
  'RERANK_HITS': '20',
}
# Bytes that hold times, or that Lucene and Orbax draw.
_LEFT_OUT = ('index/', 'checkpoints/', 'tensorboard/', 'report.')
_BEGUN = re.compile(r'run: (\w+)$')
_INTERRUPTED = 75


def main() -> None:
  """Parses, makes the inputs, kills, prints."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--seed', type=int, default=1)
  parser.add_argument('--store', action='store_true')
  args = parser.parse_args()
  with contextlib.ExitStack() as stack:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    root = place = pathlib.Path(folder)
    world.write(root / 'data' / _NAME, 1, num_things=1200, num_questions=40)
    world_models.make(root)
    if args.store:
      from tests import store  # Which stands for the store in the tests.

      os.environ |= stack.enter_context(store.serve(root / 'copies'))
      place = f'gs://{store.BUCKET}'
      for name in ('data', 'models'):
        for file in files.list_files(root / name):
          files.copy(file, f'{place}/{file.relative_to(root)}')
    record = measure(str(place), args.kills, random.Random(args.seed))
  print(json.dumps({'store': args.store, 'seed': args.seed, **record}))


def measure(place: str, num_kills: int, rng: random.Random) -> dict:
  """Kills so many runs below `place`; see the module."""
  alone = Run(place, 'alone')
  assert alone.wait() == 0, alone.lines[-20:]
  expected = outputs(f'{place}/alone/{_NAME}')
  identical, done = 0, []
  for chain in itertools.count():
    work, kills = f'chain{chain}', []
    for number in range(len(alone.begun)):
      if len(done) + len(kills) < num_kills:
        kill = _kill(alone, Run(place, work), number, len(kills) % 2, rng)
        kills += [kill] if kill else []
    last = Run(place, work)
    assert last.wait() == 0, last.lines[-20:]
    found = outputs(f'{place}/{work}/{_NAME}')
    names = found.keys() | expected.keys()
    unlike = sorted(n for n in names if found.get(n) != expected.get(n))
    if unlike:
      print(f'{work}: {unlike}', file=sys.stderr)
    else:
      identical += len(kills)
    done += kills
    if len(done) >= num_kills:
      return {
        'kills': len(done),
        'identical': identical,
        'files': len(expected),
        'by_stage': dict(collections.Counter(kill['stage'] for kill in done)),
        'exit_codes': dict(collections.Counter(k['code'] for k in done)),
        'max_seconds_to_exit': max(
          (k['seconds'] for k in done if k['code'] == _INTERRUPTED),
          default=None,
        ),
      }
  raise AssertionError


class Run:
  """One `inpars-tpu run` in a process of its own."""

  def __init__(self, place: str, work: str):
    """Starts it."""
    self.lines: list[str] = []
    self.begun: list[tuple[str, float]] = []  # Stage, seconds.
    self.ended = 0.0
    command = [
      sys.executable, '-m', 'inpars_tpu', 'run', f'--dataset={_NAME}',
      f'--data_dir={place}/data', f'--work_dir={place}/{work}',
      f'--generator={place}/models/gptj', f'--reranker={place}/models/monot5',
      *(f'--gin.{name}={value}' for name, value in _BINDINGS.items()),
    ]  # fmt: skip
    self.process = subprocess.Popen(
      command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    self._thread = threading.Thread(target=self._read)
    self._thread.start()

  def wait(self) -> int:
    """The exit code."""
    self._thread.join()
    code = self.process.wait()
    self.process.stderr.close()
    return code

  def _read(self) -> None:
    for line in self.process.stderr:
      self.lines.append(line)
      if found := _BEGUN.search(line):
        self.begun.append((found[1], time.monotonic()))
    self.ended = time.monotonic()


def _kill(
  alone: Run, run: Run, number: int, is_sigterm: bool, rng: random.Random
) -> dict | None:
  """Ends a run in one of its stages; None: it had ended before."""
  ends = [begun for _, begun in alone.begun[1:]] + [alone.ended]
  moment = rng.uniform(0, ends[number] - alone.begun[number][1])
  while len(run.begun) <= number and run.process.poll() is None:
    time.sleep(0.001)
  time.sleep(moment)
  stage = run.begun[-1][0] if run.begun else 'start'
  sent = time.monotonic()
  run.process.send_signal(signal.SIGTERM if is_sigterm else signal.SIGKILL)
  code = run.wait()
  if code == 0:
    return None
  wanted = _INTERRUPTED if is_sigterm else -signal.SIGKILL
  assert code == wanted, (code, run.lines[-20:])
  return {'stage': stage, 'code': code, 'seconds': round(run.ended - sent, 2)}


def outputs(folder: str) -> dict[str, bytes | dict]:
  """Relative path -> what must be equal of each file."""
  root, found = stores.local(folder), {}
  for path in files.list_files(root):
    name = '/'.join(path.relative_to(root).parts)
    if name.startswith(_LEFT_OUT):
      continue
    if name.endswith('manifest.json'):
      record = json.loads(path.read_bytes())
      for value in (record, *record['inputs'].values()):
        for key in ('seconds', 'path'):
          value.pop(key, None)
      found[name] = record
    else:
      found[name] = path.read_bytes()
  return found


if __name__ == '__main__':
  main()
