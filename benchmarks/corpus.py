"""Memory and time of a corpus of millions, read as rerank reads it.

  python -m benchmarks.corpus --num_documents=5_000_000

Writes a synthetic corpus of short documents and a run over it, then opens the
corpus in a process of its own, finds every document of the run and reads some
of them. One JSON line: peak_rss_mb is that process's.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np

_WORDS = 'sand mill tide wool goat lamp reed fog oven pilot guild salt'.split()
_WRITE_LINES = 100_000


def main() -> None:
  """Parses, writes the files, measures in another process."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--num_documents', type=int, default=5_000_000)
  parser.add_argument('--num_queries', type=int, default=1_000)
  parser.add_argument('--hits', type=int, default=1_000)
  parser.add_argument('--num_reads', type=int, default=20_000)
  parser.add_argument('--folder', default=None, help='kept if given')
  parser.add_argument('--measure', default=None, help='measure there alone')
  args = parser.parse_args()
  if args.measure:
    print(json.dumps(measure(pathlib.Path(args.measure), args.num_reads)))
    return
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(args.folder or temporary)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, args.num_documents, args.num_queries, args.hits)
    done = subprocess.run(
      [
        sys.executable, '-m', 'benchmarks.corpus', f'--measure={folder}',
        f'--num_reads={args.num_reads}',
      ],
      stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
  print(done.stdout.strip())


def write(
  folder: pathlib.Path, num_documents: int, num_queries: int, hits: int
) -> None:
  """Writes corpus.jsonl, queries.jsonl and bm25.trec; documents at random."""
  random = np.random.default_rng(1)
  with (folder / 'corpus.jsonl').open('w') as stream:
    for start in range(0, num_documents, _WRITE_LINES):
      stop = min(start + _WRITE_LINES, num_documents)
      words = random.choice(_WORDS, (stop - start, 24))
      stream.writelines(
        json.dumps({'_id': f'doc-{i}', 'title': row[0], 'text': ' '.join(row)})
        + '\n'
        for i, row in zip(range(start, stop), words.tolist(), strict=True)
      )
  with (folder / 'queries.jsonl').open('w') as stream:
    stream.writelines(
      json.dumps({'_id': f'q{i}', 'text': 'which mill'}) + '\n'
      for i in range(num_queries)
    )
  with (folder / 'bm25.trec').open('w') as stream:
    for query in range(num_queries):
      chosen = random.choice(num_documents, hits, replace=False)
      stream.writelines(
        f'q{query} Q0 doc-{document} {rank} {hits - rank} bm25\n'
        for rank, document in enumerate(chosen.tolist(), 1)
      )


def measure(folder: pathlib.Path, num_reads: int) -> dict[str, object]:
  """Opens, finds, reads; seconds of each and the peak of memory."""
  from inpars_tpu import collection, rerank, trec

  lap = _Laps()
  corpus = collection.Corpus(folder / 'corpus.jsonl')
  lap('open_seconds')
  rss_open = _peak_rss_mb()
  run = trec.read_run(folder / 'bm25.trec')
  lap('read_run_seconds')
  positions = rerank.find_documents(corpus, run)
  lap('find_seconds')
  reads = [int(p) for places in positions.values() for p in places[:100]]
  reads = reads[:num_reads]
  for position in reads:
    assert corpus[position].text
  lap('read_seconds')
  return {
    'documents': len(corpus),
    'run_lines': sum(map(len, run.values())),
    'reads': len(reads),
    **lap.seconds,
    'open_peak_rss_mb': rss_open,
    'peak_rss_mb': _peak_rss_mb(),
  }


class _Laps:
  """Wall seconds between calls, by name."""

  def __init__(self):
    self.seconds: dict[str, float] = {}
    self._last = time.perf_counter()

  def __call__(self, name: str) -> None:
    now = time.perf_counter()
    self.seconds[name] = round(now - self._last, 2)
    self._last = now


def _peak_rss_mb() -> int:
  """Of this program; ru_maxrss would be the parent's where that was larger."""
  status = pathlib.Path('/proc/self/status').read_text()
  return round(int(re.search(r'VmHWM:\s*(\d+)', status)[1]) / 1024)


if __name__ == '__main__':
  main()
