"""Files of flax.serialization, mapped: a tree whose arrays stay in the file.

flax.serialization itself reads a file whole and copies each array out of it.
Knows msgpack and flax's arrays in it, and no names of any model.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from inpars_tpu import errors, files, stores

# First byte -> struct code of the number that follows.
_NUMBERS = {
  0xCA: 'f', 0xCB: 'd',
  0xCC: 'B', 0xCD: 'H', 0xCE: 'I', 0xCF: 'Q',
  0xD0: 'b', 0xD1: 'h', 0xD2: 'i', 0xD3: 'q',
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
# First byte -> what follows, struct code of its length.
_SIZED = {
  0xC4: ('bytes', 'B'), 0xC5: ('bytes', 'H'), 0xC6: ('bytes', 'I'),
  0xC7: ('extension', 'B'), 0xC8: ('extension', 'H'), 0xC9: ('extension', 'I'),
  0xD9: ('text', 'B'), 0xDA: ('text', 'H'), 0xDB: ('text', 'I'),
  0xDC: ('list', 'H'), 0xDD: ('list', 'I'),
  0xDE: ('map', 'H'), 0xDF: ('map', 'I'),
}  # fmt: skip
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_ARRAY_CODES = (1, 3)  # flax's extension types: an array, a numpy scalar.
# flax writes an array of more than 2^30 bytes as a map with this key, its
# shape, and flat pieces of it.
_CHUNKED = '__msgpack_chunked_array__'


class Array:
  """An array of a file; `read` is a view of it, or joins its pieces."""

  def __init__(
    self, shape: tuple[int, ...], dtype: np.dtype, pieces: list[memoryview]
  ):
    if sum(map(len, pieces)) != math.prod(shape) * dtype.itemsize:
      raise ValueError(f'{list(shape)} of {dtype} does not fit its bytes')
    self.shape = shape
    self.dtype = dtype
    self._pieces = pieces

  def read(self) -> np.ndarray:
    """The array, read-only where it is a view."""
    flat = [np.frombuffer(piece, self.dtype) for piece in self._pieces]
    return (flat[0] if len(flat) == 1 else np.concatenate(flat)).reshape(
      self.shape
    )


def read(path: files.PathLike) -> dict[str, Any]:
  """Maps a file; returns its tree with an `Array` for each array.

  Raises:
    InputError: another kind of file, or one cut short.
  """
  path = files.must_be_file(path, 'Flax msgpack file')
  try:
    content = np.memmap(stores.local(path), np.uint8, mode='r')
    tree = _Decoder(memoryview(content)).value()
    if not isinstance(tree, dict):
      raise ValueError('its root is no map')
  except (ValueError, TypeError, LookupError, RecursionError) as error:
    raise errors.InputError(
      f'{path}: not Flax msgpack, or cut short: {error}'
    ) from None
  return tree


def flatten(tree: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
  """Path -> leaf of a tree; an empty map has none."""
  return dict(_walk(tree, ()))


def _walk(tree, path) -> Iterator[tuple[tuple[str, ...], Any]]:
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from _walk(value, (*path, key))
    else:
      yield (*path, key), value


class _Decoder:
  """Reads msgpack values one after another; bytes and arrays are views."""

  def __init__(self, buffer: memoryview):
    self._buffer = buffer
    self._place = 0

  def value(self) -> Any:
    first = self._number('B')
    if first < 0x80:
      return first
    if first >= 0xE0:
      return first - 0x100
    if first < 0x90:
      return self._map(first & 0x0F)
    if first < 0xA0:
      return self._list(first & 0x0F)
    if first < 0xC0:
      return self._text(first & 0x1F)
    if first in _CONSTANTS:
      return _CONSTANTS[first]
    if first in _NUMBERS:
      return self._number(_NUMBERS[first])
    if first in _FIXED_EXTENSIONS:
      return self._extension(_FIXED_EXTENSIONS[first])
    if first not in _SIZED:
      raise ValueError(f'no msgpack value starts with {first:#x}')
    kind, code = _SIZED[first]
    return getattr(self, f'_{kind}')(self._number(code))

  def _bytes(self, size: int) -> memoryview:
    taken = self._buffer[self._place : self._place + size]
    if len(taken) < size:
      raise ValueError(f'ends within {size} bytes at {self._place}')
    self._place += size
    return taken

  def _number(self, code: str) -> int | float:
    code = f'>{code}'
    return struct.unpack(code, self._bytes(struct.calcsize(code)))[0]

  def _text(self, size: int) -> str:
    return str(self._bytes(size), 'utf-8')

  def _list(self, size: int) -> list[Any]:
    return [self.value() for _ in range(size)]

  def _map(self, size: int) -> dict[str, Any] | Array:
    tree = {}
    for _ in range(size):
      key = self.value()
      tree[key] = self.value()
    return _join(tree) if _CHUNKED in tree else tree

  def _extension(self, size: int) -> Array:
    code = self._number('b')
    content = self._bytes(size)
    if code not in _ARRAY_CODES:
      raise ValueError(f'extension type {code} is not an array')
    shape, name, values = _Decoder(content).value()
    return Array(tuple(shape), _dtype(name), [values])


def _dtype(name: str) -> np.dtype:
  return np.dtype(ml_dtypes.bfloat16 if name == 'bfloat16' else name)


def _join(tree: Mapping[str, Any]) -> Array:
  """The array that a map of its pieces stands for."""
  shape, chunks = tree['shape'], tree['chunks']
  arrays = [chunks[str(i)] for i in range(len(chunks))]
  pieces = [piece for array in arrays for piece in array._pieces]
  sizes = tuple(shape[str(i)] for i in range(len(shape)))
  return Array(sizes, arrays[0].dtype, pieces)
