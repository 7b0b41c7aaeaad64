"""Time and memory of drawing documents from a corpus of a million.

  python -m benchmarks.sample --num_documents=1_000_000

Writes a synthetic corpus of documents of 80 words, then runs `inpars-tpu
sample` over it with the paper's numbers (100,000 documents) in a process of its
own. One JSON line: peak_rss_mb and the seconds are that process's; with
--num_documents twice as large their slope is seen.
"""

import argparse
import json
import pathlib
import tempfile

import numpy as np

from benchmarks import process

_WRITE_LINES = 50_000
_NUM_WORDS = 80


def main() -> None:
  """Parses, writes the corpus, measures."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--num_documents', type=int, default=1_000_000)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    print(json.dumps(measure(pathlib.Path(folder), args.num_documents)))


def measure(folder: pathlib.Path, num_documents: int) -> dict[str, object]:
  """Writes and samples; counts, sizes, seconds, the peak of memory."""
  corpus = folder / 'corpus.jsonl'
  write(corpus, num_documents)
  drawn = folder / 'documents.jsonl'
  found = process.measure(
    process.inpars_tpu('sample', corpus=corpus, output=drawn)
  )
  with drawn.open('rb') as stream:
    num_drawn = sum(1 for _ in stream)
  return {
    'documents': num_documents,
    'drawn': num_drawn,
    'corpus_mb': round(corpus.stat().st_size / 1e6),
    'seconds': round(found['seconds'], 1),
    'cpu_seconds': round(found['cpu_seconds'], 1),
    'peak_rss_mb': round(found['peak_rss_mb']),
  }


def write(path: pathlib.Path, num_documents: int) -> None:
  """Writes a corpus whose words are a few letters of 26, at random."""
  random = np.random.default_rng(1)
  letters = np.frombuffer(b'etaoin shrdlu cmfwyp gb vk', np.uint8)
  with path.open('wb') as stream:
    for start in range(0, num_documents, _WRITE_LINES):
      stop = min(start + _WRITE_LINES, num_documents)
      texts = random.choice(letters, (stop - start, 6 * _NUM_WORDS))
      stream.writelines(
        b'{"_id": "doc-%d", "title": "a title", "text": "%s"}\n'
        % (number, text.tobytes())
        for number, text in zip(range(start, stop), texts, strict=True)
      )


if __name__ == '__main__':
  main()
