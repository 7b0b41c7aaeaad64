"""Wall time of `inpars-tpu generate` by one process, and by two together.

  python -m benchmarks.hosts --num_documents=4096

A random gptj_10m asks about SciFact's documents. Each process has one core of
its own and one thread of XLA's, and all programs are in the cache before
anything is measured. One JSON line: `ratio` is of wall seconds, starting the
processes included. Where others use the cores too (`load`), what stands is
`cpu_ratio`: CPU seconds of the one process, over those of the busier of two.

The two share nothing but the output (--shard_index, --num_shards), or meet in
JAX's runtime (--share=runtime). There only process 0 writes to the cache, so
that the other one compiles in the measured time.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks import generator_checkpoint, side_by_side
from inpars_tpu import files
from tests import store

_CONFIG = 'gptj_10m'
_XLA = '--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1'
_BINDINGS = {'PROMPT': "'gbq'", 'GENERATOR_DTYPE': "'float32'"}


def main() -> None:
  """Parses, makes the inputs, measures, prints."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--num_documents', type=int, default=4096)
  parser.add_argument(
    '--folder', type=pathlib.Path, help='keeps the checkpoint for the next call'
  )
  parser.add_argument(
    '--share', choices=('output', 'runtime'), default='output'
  )
  args = parser.parse_args()
  model = generator_checkpoint.write(
    _CONFIG, side_by_side.folder(args) / _CONFIG
  )
  with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    files.write_jsonl(
      work / 'documents.jsonl',
      generator_checkpoint.documents(args.num_documents),
    )
    _generate(model, work, 1, args.share)  # Compiles.
    (alone,) = _generate(model, work, 1, args.share)
    two = _generate(model, work, 2, args.share)
    same = _read(work / 'out2') == _read(work / 'out1')
  wall = max(seconds for seconds, _ in two)
  print(
    json.dumps(
      {
        'documents': args.num_documents,
        'share': args.share,
        'seconds': [round(alone[0], 1), round(wall, 1)],
        'ratio': round(alone[0] / wall, 2),
        'cpu_seconds': [round(cpu, 1) for _, cpu in (alone, *two)],
        'cpu_ratio': round(alone[1] / max(cpu for _, cpu in two), 2),
        'equal_bytes': same,
        'load': [round(value, 1) for value in os.getloadavg()],
      }
    )
  )


def _generate(
  model: pathlib.Path, work: pathlib.Path, count: int, share: str
) -> list[tuple[float, float]]:
  """Wall and CPU seconds of each of so many processes, a core each."""
  output = work / f'out{count}'
  subprocess.run(['rm', '-rf', output], check=True)
  command = [
    sys.executable, '-m', 'inpars_tpu', 'generate', f'--model={model}',
    f'--documents={work}/documents.jsonl', f'--output={output}',
    *(f'--gin.{name}={value}' for name, value in _BINDINGS.items()),
  ]  # fmt: skip
  environment = os.environ | {
    'XLA_FLAGS': _XLA,
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': str(work / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'TOKENIZERS_PARALLELISM': 'false',
  }
  address, start, started = f'127.0.0.1:{store.free_port()}', time.time(), {}
  for i in range(count):
    if share == 'output':
      flags = [f'--shard_index={i}', f'--num_shards={count}']
    elif count > 1:
      flags = [
        f'--process_id={i}',
        f'--num_processes={count}',
        f'--coordinator_address={address}',
      ]
    else:
      flags = []
    process = subprocess.Popen(
      ['taskset', '-c', str(i), *command, *flags],
      env=environment,
    )
    started[process.pid] = i, process
  spent = {}
  while started:
    pid, status, used = os.wait3(0)
    number, process = started.pop(pid)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f'process {number}: {process.returncode}'
    spent[number] = time.time() - start, used.ru_utime + used.ru_stime
  return [spent[i] for i in range(count)]


def _read(folder: pathlib.Path) -> dict[str, bytes]:
  return {path.name: path.read_bytes() for path in folder.glob('*.jsonl')}


if __name__ == '__main__':
  main()
