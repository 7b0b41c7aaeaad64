"""A corpus of any size whose words are as frequent as those of a language.

What it costs Lucene to search depends on how often the words of a query are,
so a dozen words, or random letters, would not do.
"""

import json
import pathlib
from collections.abc import Iterator

import numpy as np

MEAN_WORDS = 79  # Of a document, as long as a passage of MS MARCO.
_NUM_WORDS = 200_000  # Of the vocabulary.
_EXPONENT = 1.07  # The word of rank r is drawn by 1 / (r + 2.7)^1.07.
_SYLLABLES = tuple(c + v for c in 'bdfgklmnprstvz' for v in 'aeiou')
_CHUNK = 5_000


def documents(num_documents: int, seed: int = 1) -> Iterator[dict[str, str]]:
  """Yields {'_id': 'd0', 'title': two words, 'text': 79 words on average}."""
  words = np.array([_word(rank) for rank in range(_NUM_WORDS)], object)
  weights = (np.arange(_NUM_WORDS) + 1 + 2.7) ** -_EXPONENT
  cumulative = np.cumsum(weights / weights.sum())
  random = np.random.default_rng(seed)
  for start in range(0, num_documents, _CHUNK):
    # Whole chunks are drawn, so that a corpus begins like a smaller one.
    mean = (MEAN_WORDS - 2.5) / 4
    lengths = 3 + random.gamma(4.0, mean, _CHUNK).astype(int)
    drawn = np.searchsorted(cumulative, random.random(lengths.sum()))
    texts = words[np.minimum(drawn, _NUM_WORDS - 1)]
    ends = np.cumsum(lengths)
    for i in range(min(_CHUNK, num_documents - start)):
      text = texts[ends[i] - lengths[i] : ends[i]]
      yield {
        '_id': f'd{start + i}',
        'title': ' '.join(text[:2]),
        'text': ' '.join(text[2:]),
      }


def write(path: pathlib.Path, num_documents: int) -> None:
  """Writes them as a corpus.jsonl."""
  with path.open('w') as stream:
    for document in documents(num_documents):
      stream.write(json.dumps(document) + '\n')


def _word(rank: int) -> str:
  """The more frequent, the shorter: _word(0) -> 'ba', _word(70) -> 'baba'."""
  word, rank = _SYLLABLES[rank % len(_SYLLABLES)], rank // len(_SYLLABLES)
  while rank:
    rank -= 1
    word = _SYLLABLES[rank % len(_SYLLABLES)] + word
    rank //= len(_SYLLABLES)
  return word
