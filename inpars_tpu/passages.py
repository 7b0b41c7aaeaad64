"""Documents longer than the reranker's input, in passages of which the best
counts (MaxP: Dai and Callan, arXiv:1905.09217).

A passage is words in a row, as many as there is room for beside the query; the
next begins where it ends. The title, which stands first, is in the first alone.
"""

from collections.abc import Callable, Sequence

import numpy as np


def split(
  encode: Callable[[Sequence[str]], list[list[int]]],
  text: str,
  room: int,
  max_passages: int,
) -> list[str]:
  """Cuts a text into passages of at most `room` tokens.

  With one token a word: split(.., 'a b c d e', 2, 9) -> ['a b', 'c d', 'e'];
  with max_passages = 2: ['a b', 'c d e'], whose end is cut as a long document's
  is.

  Args:
    encode: tokens of each text; a piece never reaches over a blank, so words
      have in a text the tokens that they have alone.
    text: of the document.
    room: most tokens of a passage; a longer word is a passage of its own.
    max_passages: the last passage holds all the rest.

  Returns:
    One passage or more.
  """
  words = text.split()
  passages, begin, used = [], 0, 0
  for i, tokens in enumerate(encode(words)):
    if i > begin and used + len(tokens) > room:
      if len(passages) + 1 == max_passages:
        break
      passages.append(' '.join(words[begin:i]))
      begin, used = i, 0
    used += len(tokens)
  return [*passages, ' '.join(words[begin:])]


def best(scores: Sequence[float], counts: Sequence[int]) -> list[float]:
  """The highest score of each document's passages.

  best([-3.0, -1.0, -2.0], [2, 1]) -> [-1.0, -2.0]
  """
  if not len(counts):
    return []
  starts = np.cumsum([0, *counts[:-1]])
  return np.maximum.reduceat(np.asarray(scores), starts).tolist()
