"""t5x checkpoints, read and written without t5x: folders `checkpoint_<step>/`.

Two forms are read: Orbax's, a database of arrays below `state/`, and the older
one, a zarr folder for each array and a msgpack file `checkpoint` that names
them. The older one, which t5x reads still, is written: one tensor in memory at
a time. Names are 'target/...' of parameters, 'state/step' and
'state/param_states/...' of the optimizer's; their meaning is others' business.
"""

import contextlib
import errno
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from inpars_tpu import errors, files, flax_msgpack, model_dir

TARGET, STATE = 'target', 'state'
STEP, SLOTS = f'{STATE}/step', f'{STATE}/param_states'
_UNUSED_SLOT = np.zeros(1, np.float32)
UNUSED_SLOTS = dict.fromkeys(('m', 'v', 'v_col', 'v_row'), _UNUSED_SLOT)

_FOLDER = re.compile(r'checkpoint_\d+')
# 'checkpoint_5.tmp-170000' and 'checkpoint_5.orbax-checkpoint-tmp-0'.
_UNFINISHED = re.compile(r'checkpoint_\d+\..*tmp.*')
_INDEX = 'checkpoint'  # Of the older form.
_COMMITTED = 'commit_success.txt'  # Of Orbax's; each form writes its own last.
_TENSORFLOW = b'model_checkpoint_path'  # TensorFlow has a `checkpoint` too.
_VERSION = 3  # Of the older form; since 2021.
_CHUNK_BYTES = 64 << 20  # As t5x has it.
_MIN_FACTORED = 128  # Adafactor's min_dim_size_to_factor.


def find(directory: files.PathLike) -> epath.Path | None:
  """Finds the checkpoint that a model directory holds, or is.

  What t5x leaves of one that it did not finish has another name, and does not
  count beside a finished one.

  Returns:
    The folder; None where there is nothing of t5x.

  Raises:
    InputError: several checkpoints, or an unfinished one alone.
  """
  directory = files.must_exist(directory, 'model directory')
  if not directory.is_dir():
    return None
  if _UNFINISHED.fullmatch(directory.name):
    raise _unfinished(directory)
  if _is_checkpoint(directory):
    return directory
  names = sorted(entry.name for entry in directory.iterdir())
  finished = [name for name in names if _FOLDER.fullmatch(name)]
  if len(finished) > 1:
    raise errors.InputError(
      f'{directory} holds {", ".join(finished)}: copy config.json and the '
      f'tokenizer into the one that is meant, and give that folder'
    )
  if finished:
    return directory / finished[0]
  for name in names:
    if _UNFINISHED.fullmatch(name):
      raise _unfinished(directory / name)
  return None


def must_have_config(
  directory: files.PathLike, checkpoint: files.PathLike
) -> None:
  """Raises InputError that says where the config.json of a checkpoint goes.

  t5x writes none, and its arrays do not tell which activation they are for.

  Args:
    directory: the model directory that was given.
    checkpoint: what `find` found in it.
  """
  directory = epath.Path(directory)
  if (directory / 'config.json').exists():
    return
  parent = directory.parent
  if _is_checkpoint(directory) and (parent / 'config.json').exists():
    raise errors.InputError(f'give {parent}, which has the config.json of it')
  raise errors.InputError(
    f'{directory} has no config.json: put that of the model there, with '
    'spiece.model and reranker.json; or convert it: inpars-tpu convert '
    f'--from_format=t5x --to_format=hf --model={checkpoint} --config=... '
    '--tokenizer=... --output=...'
  )


class Reader:
  """Arrays of one checkpoint by name, read one at a time.

  Raises:
    InputError: the checkpoint is half-written; what is missing.
  """

  def __init__(self, directory: files.PathLike):
    import tensorstore

    self._directory = epath.Path(directory)
    root = self._directory / STATE
    is_orbax = root.is_dir()
    if not is_orbax:
      root = self._directory
    last = _COMMITTED if is_orbax else _INDEX
    if not (self._directory / last).exists():
      raise errors.InputError(
        f'{self._directory} has no {last}, which is written last: this t5x '
        'checkpoint is not whole'
      )
    self._tensorstore = tensorstore
    self._context = tensorstore.Context()
    self._store = tensorstore.KvStore.open(
      _key_value_store(root), context=self._context
    ).result()
    self._small, listed = _read_index(root / _INDEX)
    folders = self._list_folders()
    self._folders = {_name(folder): folder for folder in folders}
    missing = sorted(listed - folders.keys()) + self._missing_chunks(folders)
    if missing:
      raise errors.InputError(
        f'{self._directory} is not whole: {_shorten(missing)} missing'
      )
    self.shapes: dict[str, tuple[int, ...]] = {
      **{name: array.shape for name, array in self._small.items()},
      **{_name(f): tuple(record['shape']) for f, record in folders.items()},
    }

  def read(self, name: str) -> np.ndarray:
    """One array, in the dtype that the checkpoint has.

    Raises:
      InputError: its bytes are damaged.
    """
    if name not in self._folders:
      return self._small[name].read()
    store = self._store / f'{self._folders[name]}/'
    spec = {'driver': 'zarr', 'kvstore': store.spec().to_json()}
    try:
      opened = self._tensorstore.open(spec, context=self._context, read=True)
      array = opened.result().read().result()
    except ValueError as error:  # Whatever is wrong in the file.
      reason = ' '.join(str(error).split())[:200]
      raise errors.InputError(
        f'{self._directory}: {name} is damaged: {reason}'
      ) from None
    # Before version 3 bfloat16 was kept so, having no name in zarr.
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.uint16 else array

  def _list_folders(self) -> dict[str, Mapping[str, Any]]:
    """Folder of each array -> what its .zarray says."""
    try:
      self._keys = {key.decode() for key in self._store.list().result()}
      suffix = '/.zarray'
      folders = sorted(
        key.removesuffix(suffix) for key in self._keys if key.endswith(suffix)
      )
      records = [self._store.read(folder + suffix) for folder in folders]
      return {
        folder: json.loads(record.result().value)
        for folder, record in zip(folders, records, strict=True)
      }
    except ValueError as error:
      reason = ' '.join(str(error).split())[:200]
      raise errors.InputError(
        f'{self._directory} is not whole, or damaged: {reason}'
      ) from None

  def _missing_chunks(self, folders: Mapping[str, Any]) -> list[str]:
    """Chunks that are not there, which tensorstore would read as zeros."""
    return [
      f'{folder}/{chunk}'
      for folder, record in folders.items()
      if record['fill_value'] is None  # Else left out where they equal it.
      for chunk in _chunks(record)
      if f'{folder}/{chunk}' not in self._keys
    ]


class Writer:
  """Writes one checkpoint of the older form; `close` gives it its name."""

  def __init__(self, directory: files.PathLike, step: int):
    """Begins `directory/checkpoint_<step>`, in place of one that is there."""
    directory = epath.Path(directory)
    self._final = directory / f'checkpoint_{step}'
    self._written = contextlib.ExitStack()
    self._folder = self._written.enter_context(
      files.directory_writer(self._final, last=(_INDEX,))
    )
    self._leaves: dict[str, Any] = {}

  def add(self, name: str, array: np.ndarray) -> None:
    """Adds an array; the step, and slots of one axis, go into the index.

    t5x has there what it does not shard, and can read it from nowhere else.
    """
    if name.startswith(f'{TARGET}/') or array.ndim > 1:
      self._leaves[name] = self._write(name.replace('/', '.'), array)
    else:
      self._leaves[name] = np.array(array)

  def close(self) -> None:
    """Writes the index, then gives the folder its name."""
    from flax import serialization, traverse_util

    tree = traverse_util.unflatten_dict(self._leaves, sep='/')
    content = serialization.msgpack_serialize(
      {'version': _VERSION, 'optimizer': tree}
    )
    with self._written, files.atomic_writer(self._folder / _INDEX) as stream:
      stream.write(content)

  def _write(self, folder: str, array: np.ndarray) -> dict[str, Any]:
    """Writes a zarr folder; returns its entry in the index."""
    import tensorstore

    row_bytes = array.nbytes // max(len(array), 1)
    num_rows = max(1, min(len(array), _CHUNK_BYTES // max(row_bytes, 1)))
    spec = {
      'driver': 'zarr',
      'dtype': array.dtype.name,
      'metadata': {
        'shape': list(array.shape),
        'chunks': [num_rows, *array.shape[1:]],
        'compressor': None,  # Weights hardly get smaller.
      },
    }
    store = _file_store(self._folder / folder)
    try:
      opened = tensorstore.open({**spec, 'kvstore': store}, create=True)
      opened.result().write(array).result()
    except ValueError as error:
      if os.strerror(errno.ENOSPC) not in str(error):
        raise
      raise OSError(
        errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder)
      ) from None
    # t5x puts its own folder, and driver, in front of the path.
    return {**spec, 'kvstore': {'driver': 'file', 'path': f'{folder}/'}}


def empty_slots(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
  """What t5x's Adafactor has for a parameter before its first step.

  It factors a matrix whose sides are 128 or more: v_row is over the shorter
  side, v_col over the longer; over the first and the second of a square one.
  """
  if len(shape) < 2 or min(shape) < _MIN_FACTORED:
    return UNUSED_SLOTS | {'v': np.zeros(shape, np.float32)}
  return UNUSED_SLOTS | {
    'v_row': np.zeros(min(shape), np.float32),
    'v_col': np.zeros(max(shape), np.float32),
  }


def _is_checkpoint(directory: epath.Path) -> bool:
  if (directory / STATE).is_dir():
    return True
  if _FOLDER.fullmatch(directory.name):
    return not model_dir.has_weights(directory)
  index = directory / _INDEX
  if not index.exists() or index.is_dir():
    return False
  with index.open('rb') as stream:
    return stream.read(len(_TENSORFLOW)) != _TENSORFLOW


def _unfinished(directory: epath.Path) -> errors.InputError:
  return errors.InputError(
    f'{directory} is a t5x checkpoint whose writing was cut off: it still has '
    'a temporary name'
  )


def _key_value_store(root: epath.Path) -> dict[str, Any]:
  """The store that holds the arrays below a folder."""
  store = _file_store(root)
  has_database = (root / 'manifest.ocdbt').exists()
  return {'driver': 'ocdbt', 'base': store} if has_database else store


def _file_store(directory: epath.Path) -> dict[str, Any]:
  path = os.fspath(directory)
  if path.startswith('gs://'):
    bucket, _, path = path.removeprefix('gs://').partition('/')
    return {'driver': 'gcs', 'bucket': bucket, 'path': f'{path}/'}
  return {'driver': 'file', 'path': f'{os.path.abspath(path)}/'}


def _read_index(
  path: epath.Path,
) -> tuple[dict[str, flax_msgpack.Array], set[str]]:
  """Name -> array kept in the index, and the folders that it names."""
  if not path.exists():
    return {}, set()  # Orbax's database needs none.
  tree = flax_msgpack.read(path)
  small, folders = {}, set()
  for name, leaf in _leaves(tree.get('optimizer', tree), ''):
    if isinstance(leaf, flax_msgpack.Array):
      small[name] = leaf
    elif isinstance(leaf, dict):
      folders.add(name.replace('/', '.'))
  return small, folders


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
  """Name -> what is not a map, or is a specification of tensorstore's."""
  for key, value in tree.items():
    if isinstance(value, dict) and 'kvstore' not in value:
      yield from _leaves(value, f'{prefix}{key}/')
    else:
      yield f'{prefix}{key}', value


def _name(folder: str) -> str:
  return folder.replace('.', '/')


def _chunks(record: Mapping[str, Any]) -> Iterator[str]:
  """Names of the chunks that an array has, of what its .zarray says."""
  separator = record.get('dimension_separator', '.')
  numbers = [
    range(-(-size // chunk))
    for size, chunk in zip(record['shape'], record['chunks'], strict=True)
  ]
  if not numbers:
    yield '0'  # A scalar.
    return
  for place in itertools.product(*numbers):
    yield separator.join(map(str, place))


def _shorten(names: list[str]) -> str:
  shown = ', '.join(names[:10])
  more = f' and {len(names) - 10} more' if len(names) > 10 else ''
  return f'{shown}{more} {"is" if len(names) == 1 else "are"}'
