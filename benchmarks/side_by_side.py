"""Runs ours and the peer's by turns, each in a process of its own.

The peer is the PyTorch `inpars` toolkit: INPARS_TPU_PEER_PYTHON is the Python
of an environment that has it, INPARS_TPU_TEST_DATA/peers its scripts.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

Record = dict[str, Any]


def test_data() -> pathlib.Path:
  """The folder of collections, tokenizers and peers."""
  folder = os.environ.get('INPARS_TPU_TEST_DATA')
  if not folder:
    sys.exit('INPARS_TPU_TEST_DATA must name the shared collections')
  return pathlib.Path(folder)


def peer_command(script: str, *args: object) -> list[str] | None:
  """The command line of a peer's script; None where there is no peer."""
  python = os.environ.get('INPARS_TPU_PEER_PYTHON')
  if not python:
    return None
  return [python, str(test_data() / 'peers' / script), *map(str, args)]


def run(command: Sequence[str], num_threads: int) -> Record:
  """Runs a command on so many cores; returns its last line as JSON."""
  threads = str(num_threads)
  flags = f'--xla_cpu_multi_thread_eigen={str(num_threads > 1).lower()}'
  environment = dict(
    os.environ,
    OMP_NUM_THREADS=threads,
    MKL_NUM_THREADS=threads,
    XLA_FLAGS=f'{os.environ.get("XLA_FLAGS", "")} {flags}'.strip(),
  )
  cores = sorted(os.sched_getaffinity(0))[:num_threads]
  done = subprocess.run(
    ['taskset', '--cpu-list', ','.join(map(str, cores)), *command],
    capture_output=True,
    text=True,
    env=environment,
  )
  if done.returncode:
    sys.exit(f'{" ".join(command)}\n{done.stderr[-3000:]}')
  return json.loads(done.stdout.strip().splitlines()[-1])


def interleave(
  commands: dict[str, Callable[[], Record]], rounds: int
) -> dict[str, list[Record]]:
  """Runs every command once a round, one after the other."""
  found: dict[str, list[Record]] = {name: [] for name in commands}
  for _ in range(rounds):
    for name, command in commands.items():
      found[name].append(command())
  return found


def median(records: Sequence[Record], field: str) -> float:
  """Median of a field over rounds."""
  return statistics.median(record[field] for record in records)
