"""Time and memory of the stages that read a whole corpus, at two sizes.

  python -m benchmarks.scale --num_documents=500_000,1_000_000

Writes a synthetic corpus of each size (benchmarks.zipf) and runs `inpars-tpu
sample`, `index` and `negatives` over it with the paper's numbers: 100,000
documents drawn, 10,000 queries mined 1,000 deep. One JSON line: of each size
and stage the seconds, and the peak of memory of its process, the JVM and the
mapped pages of the index included; and the line through the sizes, at ten
million. What was written is deleted.
"""

import argparse
import itertools
import json
import pathlib
import random
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from benchmarks import negatives, process, zipf
from inpars_tpu import files

STAGES = ('sample', 'index', 'negatives')
_TEN_MILLION = 10_000_000


def main() -> None:
  """Parses, measures each size, prints one line."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--num_documents', default='500_000,1_000_000')
  parser.add_argument('--num_queries', type=int, default=10_000)
  parser.add_argument('--folder', default=None, help='where to write')
  args = parser.parse_args()
  if args.folder:
    pathlib.Path(args.folder).mkdir(parents=True, exist_ok=True)
  found = []
  for size in map(int, args.num_documents.split(',')):
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
      found.append(measure(pathlib.Path(folder), size, args.num_queries))
      print(json.dumps(found[-1]), file=sys.stderr)
  print(json.dumps({'sizes': found} | extrapolate(found)))


def measure(
  folder: pathlib.Path, num_documents: int, num_queries: int
) -> dict[str, object]:
  """Runs the stages over a corpus of one size."""
  folder.mkdir(exist_ok=True)
  corpus = folder / 'corpus.jsonl'
  documents, index = folder / 'documents.jsonl', folder / 'index'
  queries = folder / 'filtered.jsonl'
  zipf.write(corpus, num_documents)
  stages = {
    'sample': process.measure(
      process.inpars_tpu('sample', corpus=corpus, output=documents)
    ),
    'index': process.measure(
      process.inpars_tpu('index', corpus=corpus, output=index)
    ),
  }
  write_queries(documents, queries, num_queries)
  stages['negatives'] = process.measure(
    process.inpars_tpu(
      'negatives', queries=queries, corpus=corpus, index=index,
      output=folder / 'pairs', name='zipf',
    )
  )  # fmt: skip
  return {
    'documents': num_documents,
    'corpus_mb': round(corpus.stat().st_size / 1e6),
    'index_mb': round(_size(index) / 1e6),
    **{
      stage: {name: round(value, 1) for name, value in record.items()}
      for stage, record in stages.items()
    },
  }


def write_queries(
  documents: pathlib.Path, path: pathlib.Path, num_queries: int
) -> None:
  """Gives the first documents a query each, as filter would write them."""
  draw = random.Random(1)
  records = files.read_jsonl(documents, 'documents')
  files.write_jsonl(
    path,
    (
      document | {'query': negatives.query_of(document['text'], draw)}
      for _, document in itertools.islice(records, num_queries)
    ),
  )


def extrapolate(sizes: Sequence[dict]) -> dict[str, object]:
  """The line through the sizes, of each stage; nothing from one size alone.

  [{'documents': 1, 'index': {'cpu_seconds': 3., 'peak_rss_mb': 7.}, ..}, ..] ->
    {'per_million': {'index': {'cpu_seconds': .., 'peak_rss_mb': ..}, ..},
     'at_ten_million': {..}}
  """
  if len(sizes) < 2:
    return {}
  millions = np.array([size['documents'] / 1e6 for size in sizes])
  slopes, values = {}, {}
  for stage in STAGES:
    slopes[stage], values[stage] = {}, {}
    for name in ('cpu_seconds', 'peak_rss_mb'):
      line = np.polyfit(millions, [size[stage][name] for size in sizes], 1)
      slopes[stage][name] = round(float(line[0]), 1)
      values[stage][name] = round(float(np.polyval(line, _TEN_MILLION / 1e6)))
  return {'per_million': slopes, 'at_ten_million': values}


def _size(directory: pathlib.Path) -> int:
  return sum(path.stat().st_size for path in directory.iterdir())


if __name__ == '__main__':
  main()
