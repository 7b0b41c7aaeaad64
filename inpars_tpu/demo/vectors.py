"""Word vectors of the general text, for monoT5 to begin with.

Pieces that explain each other get like vectors. A T5 learns such from reading
long enough; a small one has no such time on two cores.

Axes: V vocabulary, D model dim.
"""

from collections.abc import Sequence

import numpy as np

from inpars_tpu import tokenizer

# How much oftener than by chance, at least e**2 times, so that 'every' is not
# like all that it stands beside.
_MIN_LOG_RATIO = 2.0
# Of a known piece, so that it differs from those that mean the same. Of one
# that is in no explanation, a place's, all is noise.
_MEANING, _NOISE = 0.8, 0.6


def make(
  tokens: tokenizer.T5Tokenizer,
  sentences: Sequence[str],
  num_rows: int,
  num_dims: int,
  rng: np.random.Generator,
  *,
  min_log_ratio: float = _MIN_LOG_RATIO,
) -> np.ndarray:
  """Vectors of all pieces, of mean square 1 as T5's embedding has.

  A random projection of positive pointwise mutual information: the angles of
  its rows stay as they are, to 1 / sqrt(D), whatever the number of meanings.

  Args:
    tokens: encodes the sentences.
    sentences: of the general text; pieces of one are met together.
    num_rows: V, of the embedding; rows of no piece are noise.
    num_dims: D.
    rng: of the noise and the projection.
    min_log_ratio: two pieces that are met e to this times as often as by
      chance, or less, have nothing in common.

  Returns:
    [V, D] float32.
  """
  counts = np.zeros((num_rows, num_rows), np.float32)
  for ids in tokens.encode(list(sentences)):
    met = np.unique(ids)
    counts[np.ix_(met, met)] += 1
  totals = counts.sum(axis=1, keepdims=True)
  chance = totals * totals.T / max(counts.sum(), 1)
  with np.errstate(divide='ignore', invalid='ignore'):
    ratios = np.where(counts > 0, np.log(counts / chance), 0)
  ratios = np.maximum(ratios - min_log_ratio, 0)
  is_known = ratios.any(axis=1, keepdims=True)
  meanings = _to_length(ratios @ rng.normal(size=(num_rows, num_dims)))
  noise = _to_length(rng.normal(size=(num_rows, num_dims)))
  vectors = np.where(is_known, _MEANING * meanings + _NOISE * noise, noise)
  return (vectors * np.sqrt(num_dims)).astype(np.float32)


def _to_length(vectors: np.ndarray) -> np.ndarray:
  """Each of length 1, or 0 where it is all zeros."""
  lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
  return vectors / np.maximum(lengths, 1e-9)
