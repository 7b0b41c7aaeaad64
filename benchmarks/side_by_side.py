"""Ours beside the peer's, by turns, or alone beside a plain matrix product.

Each side runs in a process of its own; ours alone in this one.
The peer is the PyTorch `inpars` toolkit: INPARS_TPU_PEER_PYTHON is the Python
of an environment that has it, INPARS_TPU_TEST_DATA/peers its scripts.
"""

import argparse
import functools
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Record = dict[str, Any]

_MATMUL_DIM = {'cpu': 1_024}
_MATMUL_DIM_ELSEWHERE = 8_192
_MATMUL_REPEATS = 20


def test_data() -> pathlib.Path:
  """The folder of collections, tokenizers and peers."""
  folder = os.environ.get('INPARS_TPU_TEST_DATA')
  if not folder:
    sys.exit('INPARS_TPU_TEST_DATA must name the shared collections')
  return pathlib.Path(folder)


def add_flags(
  parser: argparse.ArgumentParser, *, config: str, peer_batch_sizes: str
) -> None:
  """The flags that every measurement has, with these defaults."""
  parser.add_argument('--config', default=config)
  parser.add_argument('--rounds', type=int, default=1)
  parser.add_argument('--threads', type=int, default=1)
  parser.add_argument('--peer_batch_sizes', default=peer_batch_sizes)
  parser.add_argument('--dtype', default='float32')
  parser.add_argument('--folder', default=None, help='where checkpoints are')
  parser.add_argument('--ours', default=None, help='measure ours alone there')
  parser.add_argument(
    '--alone', action='store_true', help='random weights, FLOP/s, no peer'
  )


def folder(args: argparse.Namespace) -> pathlib.Path:
  """Where checkpoints and outputs are kept from call to call."""
  default = pathlib.Path(tempfile.gettempdir()) / 'inpars_tpu_benchmark'
  made = pathlib.Path(args.folder or default)
  made.mkdir(parents=True, exist_ok=True)
  return made


def peer_command(script: str, *args: object) -> list[str] | None:
  """The command line of a peer's script; None where there is no peer."""
  python = os.environ.get('INPARS_TPU_PEER_PYTHON')
  if not python:
    return None
  return [python, str(test_data() / 'peers' / script), *map(str, args)]


def run(
  command: Sequence[str],
  num_threads: int,
  environment: Mapping[str, str] = types.MappingProxyType({}),
) -> Record:
  """Runs a command on so many cores; returns its last line as JSON.

  `environment` is beside this process's own.
  """
  threads = str(num_threads)
  flags = f'--xla_cpu_multi_thread_eigen={str(num_threads > 1).lower()}'
  whole = dict(
    os.environ,
    **environment,
    OMP_NUM_THREADS=threads,
    MKL_NUM_THREADS=threads,
    XLA_FLAGS=f'{os.environ.get("XLA_FLAGS", "")} {flags}'.strip(),
  )
  cores = sorted(os.sched_getaffinity(0))[:num_threads]
  pinned = ['taskset', '--cpu-list', ','.join(map(str, cores)), *command]
  # A shell in between: a process begins with the peak of memory of the one
  # that it was forked from, which here may hold a checkpoint.
  done = subprocess.run(
    ['sh', '-c', '"$@"; exit $?', 'sh', *pinned],
    capture_output=True,
    text=True,
    env=whole,
  )
  if done.returncode:
    sys.exit(f'{" ".join(command)}\n{done.stderr[-3000:]}')
  return json.loads(done.stdout.strip().splitlines()[-1])


def measure_twice(work: Callable[[], Any]) -> tuple[Any, Record]:
  """Runs `work` with compiling, then without.

  Returns:
    What it returned the second time, and seconds and CPU seconds of it, of the
    compiling (the difference), and this process's peak of memory.
  """

  def timed():
    started, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - started, time.process_time() - cpu

  _, first_seconds, first_cpu = timed()
  result, seconds, cpu = timed()
  return result, {
    'seconds': seconds,
    'cpu_seconds': cpu,
    'compile_seconds': first_seconds - seconds,
    'compile_cpu_seconds': first_cpu - cpu,
    'peak_rss_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
  }


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


def summarise(
  unit: str,
  count: int,
  ours: Sequence[Record],
  peers: Mapping[str, Sequence[Record]],
) -> Record:
  """Rates and costs of ours; beside the best of the peer's, where there is one.

  Args:
    unit: 'document' or 'pair', for the names of fields.
    count: how many of them each side did.
    ours: a record for each round.
    peers: the same for each of the peer's batch sizes.
  """
  seconds, cpu = median(ours, 'seconds'), median(ours, 'cpu_seconds')
  summary: Record = {
    f'{unit}s_per_s': round(count / seconds, 3),
    f'cpu_ms_per_{unit}': round(1e3 * cpu / count, 2),
    'compile_seconds': round(median(ours, 'compile_seconds'), 1),
    'compile_cpu_seconds': round(median(ours, 'compile_cpu_seconds'), 1),
    'peak_rss_mb': round(median(ours, 'peak_rss_mb')),
  }
  if not peers:
    return summary
  fastest = min(median(records, 'seconds') for records in peers.values())
  leanest = min(median(records, 'cpu_seconds') for records in peers.values())
  return summary | {
    f'peer_{unit}s_per_s': round(count / fastest, 3),
    'ratio': round(fastest / seconds, 2),
    'cpu_ratio': round(leanest / cpu, 2),
    f'peer_cpu_ms_per_{unit}': {
      name: round(1e3 * median(records, 'cpu_seconds') / count, 1)
      for name, records in peers.items()
    },
    'peer_peak_rss_mb': {
      name: round(median(records, 'peak_rss_mb'))
      for name, records in peers.items()
    },
  }


def beside_matmul(
  needed_flops: int, record: Record, dtype: str, num_devices: int
) -> Record:
  """Says what ours alone made of the devices.

  Args:
    needed_flops: of work that had to be done, in `record`'s seconds.
    record: from `measure_twice`.
    dtype: of the matrix product to compare with.
    num_devices: that ours ran on; the product is timed on one.
  """
  matmul = num_devices * matmul_flops_per_s(dtype)
  rate = needed_flops / record['seconds']
  memory = jax.local_devices()[0].memory_stats() or {}
  return {
    'device': jax.devices()[0].device_kind,
    'devices': num_devices,
    'seconds': round(record['seconds'], 3),
    'compile_seconds': round(record['compile_seconds'], 1),
    'tflops_per_s': tera(rate),
    'matmul_tflops_per_s': tera(matmul),
    'share_of_matmul': float(f'{rate / matmul:.4g}'),
    'peak_device_mb': round(memory.get('peak_bytes_in_use', 0) / 2**20),
  }


def tera(number: float) -> float:
  """Divides by 10^12; four digits."""
  return float(f'{number / 1e12:.4g}')


def matmul_flops_per_s(dtype: str) -> float:
  """Best rate of one large matrix product, of so many in a row."""
  backend = jax.default_backend()
  size = _MATMUL_DIM.get(backend, _MATMUL_DIM_ELSEWHERE)
  a = normal(jax.random.key(2), (size, size), jnp.dtype(dtype), 1.0)
  product = jax.jit(lambda x, y: (x @ y).astype(x.dtype))
  b = product(a, a).block_until_ready()
  rates = []
  for _ in range(3):
    started = time.perf_counter()
    for _ in range(_MATMUL_REPEATS):
      b = product(a, a)
    b.block_until_ready()
    seconds = time.perf_counter() - started
    rates.append(_MATMUL_REPEATS * 2 * size**3 / seconds)
  return max(rates)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def normal(key, shape, dtype, std: float, place=None) -> jax.Array:
  """Random numbers, drawn on the devices where they lie (None: on one)."""
  drawn = (jax.random.normal(key, shape, jnp.float32) * std).astype(dtype)
  if place is None:
    return drawn
  return jax.lax.with_sharding_constraint(drawn, place)


def random_lengths(
  random: np.random.Generator, count: int, *, mean: int, low: int, high: int
) -> list[int]:
  """Lengths like those of real texts: `mean` on average, to the token.

  A gamma distribution of shape 4, cut to low .. high; then moved by a token
  here and there until the mean is right.
  """
  lengths = random.gamma(4.0, mean / 4, count).round().astype(int)
  lengths = lengths.clip(low, high)
  missing = mean * count - int(lengths.sum())
  while missing:
    step = 1 if missing > 0 else -1
    free = np.flatnonzero((lengths + step >= low) & (lengths + step <= high))
    lengths[free[: abs(missing)]] += step
    missing = mean * count - int(lengths.sum())
  return lengths.tolist()
