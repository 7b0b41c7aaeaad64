"""Bytes of arrays as a TPU has them: in tiles of 8 x 128 numbers.

Read from the layouts that its compiler gives programs (libtpu 0.0.42.1, v3): an
axis that is narrow is padded, so that 4 numbers may take the place of 128.
"""

import math
from collections.abc import Sequence

_LANES, _SUBLANES = 128, 8
_VECTOR_BYTES = 1_024  # What one axis is a multiple of.


def as_rows(shape: Sequence[int], itemsize: int) -> int:
  """Bytes where the last axis is in the lanes, as a lookup of rows wants it.

  as_rows([262_144, 4], 4) -> 134_217_728, 128 lanes for 4 numbers
  """
  if len(shape) < 2:
    return _up(math.prod(shape) * itemsize, _VECTOR_BYTES)
  *outer, rows, lanes = shape
  # Where there are few rows the tile is as low.
  height = min(_SUBLANES, 1 << max(rows - 1, 0).bit_length())
  return math.prod(outer) * _up(rows, height) * _up(lanes, _LANES) * itemsize


def as_it_lies(shape: Sequence[int], itemsize: int) -> int:
  """Bytes of an argument: of its last two axes that in the lanes which fits.

  as_it_lies([32_128, 32], 4) -> 4_112_384, 32 sublanes of 32,128 lanes
  """
  turned = (*shape[:-2], *shape[:-3:-1])
  return min(as_rows(shape, itemsize), as_rows(turned, itemsize))


def padded_copy(shape: Sequence[int], itemsize: int) -> int:
  """Bytes of an argument once more, as rows, where it does not lie so."""
  rows = as_rows(shape, itemsize)
  return rows if rows > as_it_lies(shape, itemsize) else 0


def _up(number: int, multiple: int) -> int:
  return -(-number // multiple) * multiple
