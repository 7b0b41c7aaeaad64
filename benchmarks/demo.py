"""What the demo's numbers are worth: several seeds, filter on and off.

  python -m benchmarks.demo --seeds=1,2,3

A seed draws the target's documents and questions, and the training's batches;
the checkpoints are those that ship. Each demo is a process of its own; without
the filter the first NUM_PAIRS queries are kept, and what comes before the
filter is taken over. The control trains on these queries too, each with the
document of another. Prints one JSON line: nDCG@10 and the share of synthetic
queries that their document answers, of each seed, and means with the standard
deviation over the seeds.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import process
from inpars_tpu import files
from inpars_tpu.demo import words, world

# What the filter and all that follows it writes.
_AFTER_FILTER = (
  'filtered.jsonl', 'validation.jsonl', 'pairs', 'model', 'checkpoints',
  'tensorboard', 'metrics.jsonl', 'manifest.json', 'manifest.partial.json',
  'reranked.trec', 'metrics.json', 'report.html', 'report.md',
)  # fmt: skip
_MEANS = (
  'bm25', 'before', 'after', 'after_without_filter', 'after_shuffled',
  'answered', 'answered_after_filter',
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
  """Runs the demo of one seed with the filter, without, and the control."""
  settings = [f'SEED={seed}', *gin]
  spent = run(folder / 'on', settings)
  shutil.copytree(folder / 'on', folder / 'off', dirs_exist_ok=True)
  for name in _AFTER_FILTER:
    path = folder / 'off' / 'world' / name
    if path.is_dir():
      shutil.rmtree(path)
    path.unlink(missing_ok=True)
    manifest = path.with_name(f'{name}.manifest.json')
    manifest.unlink(missing_ok=True)
  run(folder / 'off', [*settings, "FILTER_BY='none'"])
  run_shuffled(folder / 'off', folder / 'shuffled', settings)
  ndcg = {
    side: {
      name: values['nDCG@10']
      for name, values in files.read_json(
        folder / path / 'metrics.json', 'metrics'
      ).items()
    }
    for side, path in (
      ('on', 'on/world'), ('off', 'off/world'), ('shuffled', 'shuffled')
    )
  }  # fmt: skip
  queries = sorted((folder / 'on' / 'world' / 'queries').glob('*.jsonl'))
  return {
    'seed': seed,
    'bm25': ndcg['on']['bm25'],
    'before': ndcg['on']['reranked_base'],
    'after': ndcg['on']['reranked'],
    'after_without_filter': ndcg['off']['reranked'],
    'after_shuffled': ndcg['shuffled']['reranked'],
    'answered': share_answered(queries, seed),
    'answered_after_filter': share_answered(
      [folder / 'on' / 'world' / 'filtered.jsonl'], seed
    ),
    **{name: round(value, 1) for name, value in spent.items()},
  }


def run(work_dir: pathlib.Path, settings: Iterable[str]) -> dict[str, float]:
  """Runs `inpars-tpu demo`; what `process.measure` found."""
  command = process.inpars_tpu('demo', work_dir=work_dir)
  return process.measure([*command, *(f'--gin.{s}' for s in settings)])


def run_shuffled(
  done: pathlib.Path, folder: pathlib.Path, settings: Sequence[str]
) -> None:
  """Goes on from a demo's kept queries, each with another one's document."""
  kept = [
    row for _, row in files.read_jsonl(done / 'world/filtered.jsonl', 'queries')
  ]
  folder.mkdir(exist_ok=True)
  files.write_jsonl(folder / 'filtered.jsonl', shuffle(kept))
  data = done / 'data' / 'world'
  gin = ['--gin_file=gin/demo.gin', *(f'--gin.{s}' for s in settings)]
  for verb, flags in (
    ('negatives', {
      'queries': folder / 'filtered.jsonl', 'corpus': data / 'corpus.jsonl',
      'index': done / 'world/index', 'output': folder / 'pairs',
    }),
    ('train', {
      'pairs': folder / 'pairs', 'model': done / 'models/monot5',
      'output': folder / 'trained',
    }),
    ('rerank', {
      'model': folder / 'trained/model', 'run': done / 'world/bm25.trec',
      'corpus': data / 'corpus.jsonl', 'queries': data / 'queries.jsonl',
      'output': folder / 'reranked.trec',
    }),
    ('evaluate', {
      'run': folder / 'reranked.trec', 'qrels': data / 'qrels/test.tsv',
      'output': folder / 'metrics.json',
    }),
  ):  # fmt: skip
    process.measure([*process.inpars_tpu(verb, **flags), *gin])


def shuffle(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """The same queries and documents; no query with its own document."""
  order = np.random.default_rng(1).permutation(len(rows))
  after = dict(zip(order, np.roll(order, 1), strict=True))
  return [
    {**row, **{name: rows[after[i]][name] for name in ('doc_id', 'text')}}
    for i, row in enumerate(rows)
  ]


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
    'after_minus_shuffled': ('after_without_filter', 'after_shuffled'),
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
