import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from flax import serialization

from inpars_tpu import errors, flax_msgpack

TREE = {
  'a': {'kernel': np.arange(6, dtype=np.float32).reshape(2, 3)},
  'b': np.array([1, 2], ml_dtypes.bfloat16),
  'c': np.array(7, np.int32),
  'd': {},
}


def write(path, tree):
  path.write_bytes(serialization.msgpack_serialize(tree))
  return path


def read(path):
  return {
    key: value.read() if isinstance(value, flax_msgpack.Array) else value
    for key, value in flax_msgpack.flatten(flax_msgpack.read(path)).items()
  }


def test_reads_what_flax_writes(tmp_path):
  arrays = read(write(tmp_path / 'x', TREE))
  assert list(arrays) == [('a', 'kernel'), ('b',), ('c',)]
  assert arrays['a', 'kernel'].tolist() == [[0, 1, 2], [3, 4, 5]]
  assert arrays['b',].dtype == ml_dtypes.bfloat16
  assert arrays['b',].tolist() == [1, 2]
  assert arrays['c',] == 7 and arrays['c',].shape == ()


def test_other_values_of_msgpack(tmp_path):
  values = {
    'numbers': [0, 127, 128, 300, 70_000, 2**40, -1, -33, -300, -(2**40), 0.5],
    'constants': [None, True, False],
    'text': ['', 'x' * 31, 'y' * 40, 'z' * 300, 'ü'],
    'long': list(range(20)),
  } | {f'key{i}': i for i in range(20)}
  path = tmp_path / 'x'
  path.write_bytes(serialization.msgpack.packb(values))
  assert flax_msgpack.read(path) == values


def test_joins_the_pieces_of_a_large_array(tmp_path, monkeypatch):
  monkeypatch.setattr(serialization, 'MAX_CHUNK_SIZE', 16)
  array = np.arange(15, dtype=np.float32).reshape(3, 5)
  path = write(tmp_path / 'x', {'a': array})
  assert b'__msgpack_chunked_array__' in path.read_bytes()
  found = flax_msgpack.read(path)['a']
  assert found.shape == (3, 5)
  np.testing.assert_array_equal(found.read(), array)


def test_arrays_stay_in_the_file(tmp_path):
  path = write(tmp_path / 'x', {'a': np.ones(1_000_000, np.float32)})
  tracemalloc.start()
  array = flax_msgpack.read(path)['a'].read()
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert array.nbytes == 4_000_000
  assert peak < 1_000_000


def test_every_cut_is_noticed(tmp_path):
  path = write(tmp_path / 'x', TREE)
  whole = path.read_bytes()
  for size in range(len(whole)):
    path.write_bytes(whole[:size])
    with pytest.raises(errors.InputError, match='cut short'):
      flax_msgpack.read(path)


@pytest.mark.parametrize(
  'content', [b'\xc1', b'\x01', b'{"a": 1}', b'\x81\xa1a\xd4\x07x']
)
def test_another_kind_of_file(tmp_path, content):
  (tmp_path / 'x').write_bytes(content)
  with pytest.raises(errors.InputError, match='not Flax msgpack'):
    flax_msgpack.read(tmp_path / 'x')
