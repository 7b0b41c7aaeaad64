"""What the demo's numbers are worth: several seeds, filter on and off.

  python -m benchmarks.demo --seeds=1,2,3

A seed draws the target's documents and questions, and the training's batches;
the checkpoints are those that ship. Each demo is a process of its own; without
the filter the first NUM_PAIRS queries are kept, and what comes before the
filter is taken over. Prints one JSON line: nDCG@10 and the share of synthetic
queries that their document answers, of each seed, and means with the standard
deviation over the seeds.
"""

import argparse
import json
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence

from inpars_tpu import files
from inpars_tpu.demo import words, world

# What the filter and all that follows it writes.
_AFTER_FILTER = (
  'filtered.jsonl', 'validation.jsonl', 'pairs', 'model', 'checkpoints',
  'tensorboard', 'metrics.jsonl', 'manifest.json', 'manifest.partial.json',
  'reranked.trec', 'metrics.json', 'report.html', 'report.md',
)  # fmt: skip
_MEANS = (
  'bm25', 'before', 'after', 'after_without_filter', 'answered',
  'answered_after_filter',
)  # fmt: skip


def main() -> None:
  """Parses, runs, prints."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--seeds', default='1,2,3')
  parser.add_argument('--folder', default=None, help='kept if given')
  parser.add_argument(
    '--gin', action='append', default=[], help='NAME=VALUE, for all runs'
  )
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(args.folder or temporary)
    rows = [
      measure(folder / seed, int(seed), args.gin)
      for seed in args.seeds.split(',')
    ]
  print(json.dumps({'seeds': rows, **summarise(rows)}))


def measure(
  folder: pathlib.Path, seed: int, gin: Iterable[str]
) -> dict[str, float]:
  """Runs the demo of one seed with the filter, then without."""
  settings = [f'SEED={seed}', *gin]
  begun, used = time.monotonic(), _of_children()
  run(folder / 'on', settings)
  seconds = time.monotonic() - begun
  cpu_seconds = _cpu_seconds(_of_children()) - _cpu_seconds(used)
  peak_kib = _of_children().ru_maxrss
  shutil.copytree(folder / 'on', folder / 'off', dirs_exist_ok=True)
  for name in _AFTER_FILTER:
    path = folder / 'off' / 'world' / name
    if path.is_dir():
      shutil.rmtree(path)
    path.unlink(missing_ok=True)
    manifest = path.with_name(f'{name}.manifest.json')
    manifest.unlink(missing_ok=True)
  run(folder / 'off', [*settings, "FILTER_BY='none'"])
  ndcg = {
    side: {
      name: values['nDCG@10']
      for name, values in files.read_json(
        folder / side / 'world' / 'metrics.json', 'metrics'
      ).items()
    }
    for side in ('on', 'off')
  }
  queries = sorted((folder / 'on' / 'world' / 'queries').glob('*.jsonl'))
  return {
    'seed': seed,
    'bm25': ndcg['on']['bm25'],
    'before': ndcg['on']['reranked_base'],
    'after': ndcg['on']['reranked'],
    'after_without_filter': ndcg['off']['reranked'],
    'answered': share_answered(queries, seed),
    'answered_after_filter': share_answered(
      [folder / 'on' / 'world' / 'filtered.jsonl'], seed
    ),
    'seconds': round(seconds, 1),
    'cpu_seconds': round(cpu_seconds, 1),
    'peak_rss_mib': peak_kib // 1024,
  }


def _of_children() -> resource.struct_rusage:
  """Of all demos that have ended."""
  return resource.getrusage(resource.RUSAGE_CHILDREN)


def _cpu_seconds(usage: resource.struct_rusage) -> float:
  return usage.ru_utime + usage.ru_stime


def run(work_dir: pathlib.Path, settings: Iterable[str]) -> None:
  """Runs `inpars-tpu demo`; its output goes to stderr."""
  command = [sys.executable, '-m', 'inpars_tpu', 'demo']
  command += [f'--work_dir={work_dir}', *(f'--gin.{s}' for s in settings)]
  subprocess.run(command, check=True, stdout=sys.stderr)


def share_answered(paths: Iterable[pathlib.Path], seed: int) -> float:
  """Of the synthetic queries, those that their document answers."""
  things = {
    thing.name.lower(): thing
    for thing in world.draw_things(words.TARGET, seed, world.NUM_THINGS)
  }
  answered = [
    world.answers(words.TARGET, row['query'], things[row['doc_id']])
    for path in paths
    for _, row in files.read_jsonl(path, 'queries')
  ]
  return round(sum(answered) / len(answered), 4)


def summarise(rows: list[dict[str, float]]) -> dict[str, list[float]]:
  """Differences over the seeds: [mean, standard deviation]."""
  differences = {
    'after_minus_before': ('after', 'before'),
    'after_minus_bm25': ('after', 'bm25'),
    'filter_on_minus_off': ('after', 'after_without_filter'),
    'answered_gain': ('answered_after_filter', 'answered'),
  }
  summary = {
    name: [row[one] - row[other] for row in rows]
    for name, (one, other) in differences.items()
  }
  summary |= {name: [row[name] for row in rows] for name in _MEANS}
  return {
    name: [round(statistics.mean(values), 4), deviation(values)]
    for name, values in summary.items()
  }


def deviation(values: Sequence[float]) -> float:
  """The standard deviation of a sample; 0 of one value."""
  return round(statistics.stdev(values), 4) if len(values) > 1 else 0.0


if __name__ == '__main__':
  main()
