"""Hugging Face model directories: config.json, tensors, tokenizer files.

Knows no network: gptj/convert and t5/convert say which tensors they want.
"""

import contextlib
import os
import pickle
import re
from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from inpars_tpu import errors, files, flax_msgpack, stores

TOKENIZER_FILES = (
  'tokenizer.json',
  'vocab.json',
  'merges.txt',
  'spiece.model',
  'added_tokens.json',
  'special_tokens_map.json',
  'tokenizer_config.json',
)
MAX_SHARD_BYTES = 1 << 30  # One shard is in memory while it is written.

_SINGLE = 'model.safetensors'
_INDEX = f'{_SINGLE}.index.json'
_FLAX_SINGLE = 'flax_model.msgpack'
_TORCH_SINGLE = 'pytorch_model.bin'
# What is read of a directory that has several. Never by what is installed, or
# one directory would not be one model.
_SINGLES = (_SINGLE, _FLAX_SINGLE, _TORCH_SINGLE)


def read_config(
  path: files.PathLike, model_types: Iterable[str], purpose: str
) -> dict[str, Any]:
  """Reads the config.json of a model directory, or a file of that form.

  Raises:
    InputError: nothing there, no config.json, or another architecture;
      `purpose` says in the message what the model was wanted for.
  """
  path = files.must_exist(path, 'model directory')
  file = path / 'config.json' if path.is_dir() else path
  if not file.exists():
    raise errors.InputError(f'{path} has no config.json: not a model')
  config = files.read_json(file, 'config.json')
  model_types = tuple(model_types)
  found = config.get('model_type') if isinstance(config, dict) else None
  if found not in model_types:
    raise errors.InputError(
      f'{path} is a {found!r} model; {purpose} needs {" or ".join(model_types)}'
    )
  return config


def check_vocabulary(
  directory: files.PathLike, num_tokens: int, num_rows: int
) -> None:
  """Raises InputError where the tokenizer has ids beyond the embedding."""
  if num_tokens > num_rows:
    raise errors.InputError(
      f'{directory}: the tokenizer has {num_tokens} tokens and the embedding '
      f'{num_rows} rows; they do not belong together'
    )


def check_shapes(
  where: files.PathLike,
  found: Mapping[str, tuple[int, ...]],
  expected: Mapping[str, tuple[int, ...]],
  ignored: Iterable[str] = (),
) -> None:
  """Raises InputError that names each missing, extra or misshapen tensor.

  Args:
    where: what holds them, for the message.
    found: name -> shape.
    expected: name -> shape.
    ignored: regular expressions of names that may be there and are not read.
  """
  problems = [f'{name} is missing' for name in expected if name not in found]
  for name, shape in found.items():
    if name in expected:
      if shape != tuple(expected[name]):
        problems.append(f'{name} is {list(shape)}, not {list(expected[name])}')
    elif not any(re.fullmatch(pattern, name) for pattern in ignored):
      problems.append(f'{name} is not part of this architecture')
  if problems:
    shown = '; '.join(problems[:20])
    more = f'; and {len(problems) - 20} more' if len(problems) > 20 else ''
    raise errors.InputError(
      f'{where} does not fit its config.json: {shown}{more}'
    )


def has_weights(directory: files.PathLike) -> bool:
  """True where `TensorReader` finds something to read."""
  directory = epath.Path(directory)
  return any(
    (directory / name).exists()
    for single in _SINGLES
    for name in (single, f'{single}.index.json')
  )


class TensorReader:
  """Tensors of a directory by torch's name, read one at a time.

  From safetensors, flax_model*.msgpack, or, where torch is installed,
  pytorch_model*.bin; single or in shards with an index. Flax's tensors are
  given torch's names, shapes and orientation.

  Raises:
    InputError: none is there, or a shard that the index names is missing or
      cut short; .bin files without torch.
  """

  def __init__(self, directory: files.PathLike):
    self._directory = epath.Path(directory)
    self._shards: dict[str, _Shard] = {}  # File name -> open shard.
    self._shard_of = self._find_shards()
    self.shapes = {
      name: self._open(shard).shape(name)
      for name, shard in self._shard_of.items()
    }

  def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
    """One tensor, or a part of it, in the dtype that the file has."""
    return self._open(self._shard_of[name]).read(name, index)

  def check(
    self, expected: Mapping[str, tuple[int, ...]], ignored: Iterable[str] = ()
  ) -> None:
    """As `check_shapes`, of the tensors of this directory."""
    check_shapes(self._directory, self.shapes, expected, ignored)

  def _find_shards(self) -> dict[str, str]:
    """Name of each tensor -> the file that has it."""
    for single in _SINGLES:
      index = self._directory / f'{single}.index.json'
      if index.exists():
        record = files.read_json(index, 'index of tensors')
        if not isinstance(record.get('weight_map'), dict):
          raise errors.InputError(f'{index} has no weight_map')
        shards = sorted(set(record['weight_map'].values()))
        for shard in shards:
          if not (self._directory / shard).exists():
            raise errors.InputError(f'{index} names {shard}, which is missing')
        # The names are those of the shards: a Flax index has others.
        return {
          name: shard for shard in shards for name in self._open(shard).names()
        }
      if (self._directory / single).exists():
        return dict.fromkeys(self._open(single).names(), single)
    raise errors.InputError(
      f'{self._directory} has no {_SINGLE} and no {_FLAX_SINGLE} or '
      f'{_TORCH_SINGLE}, and no index of any of them'
    )

  def _open(self, name: str) -> '_Shard':
    if name not in self._shards:
      kind = _KINDS[epath.Path(name).suffix]
      self._shards[name] = kind(stores.local(self._directory / name))
    return self._shards[name]


class _SafetensorsShard:
  """One .safetensors file, mapped."""

  def __init__(self, path: epath.Path):
    import safetensors

    try:
      self._file = safetensors.safe_open(str(path), 'np')
    except safetensors.SafetensorError as error:
      raise errors.InputError(f'{path}: not safetensors: {error}') from None

  def names(self) -> list[str]:
    return list(self._file.keys())

  def shape(self, name: str) -> tuple[int, ...]:
    return tuple(self._file.get_slice(name).get_shape())

  def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
    if not index:
      return self._file.get_tensor(name)
    return self._file.get_slice(name)[index]


class _TorchShard:
  """One pytorch_model*.bin file, mapped; its pickle may hold tensors only."""

  def __init__(self, path: epath.Path):
    try:
      import torch
    except ImportError:
      raise errors.InputError(
        f'{path} is read with torch, which is not installed: pip install '
        'torch, or save the model as safetensors'
      ) from None
    try:
      self._tensors = torch.load(
        str(path), map_location='cpu', mmap=True, weights_only=True
      )
    except (RuntimeError, OSError, pickle.UnpicklingError) as error:
      reason = ' '.join(str(error).split())[:200]
      raise errors.InputError(f'{path}: not torch weights: {reason}') from None

  def names(self) -> list[str]:
    return list(self._tensors)

  def shape(self, name: str) -> tuple[int, ...]:
    return tuple(self._tensors[name].shape)

  def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
    import torch

    tensor = self._tensors[name][index]
    if tensor.dtype == torch.bfloat16:  # numpy has it from ml_dtypes.
      return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


class _FlaxShard:
  """One flax_model*.msgpack file, mapped, under torch's names."""

  def __init__(self, path: epath.Path):
    tree = flax_msgpack.read(path)
    self._arrays: dict[str, tuple[flax_msgpack.Array, bool]] = {}
    for keys, array in flax_msgpack.flatten(tree.get('params', tree)).items():
      if not isinstance(array, flax_msgpack.Array):
        raise errors.InputError(f'{path}: {"/".join(keys)} is no array')
      *module, leaf = keys
      name = '.'.join([*module, _TORCH_LEAVES.get(leaf, leaf)])
      # flax keeps [in, out], torch [out, in].
      self._arrays[name] = array, leaf == 'kernel'

  def names(self) -> list[str]:
    return list(self._arrays)

  def shape(self, name: str) -> tuple[int, ...]:
    array, is_kernel = self._arrays[name]
    return array.shape[::-1] if is_kernel else array.shape

  def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
    array, is_kernel = self._arrays[name]
    whole = array.read()  # Mapped: nothing is copied before it is wanted.
    return (whole.T if is_kernel else whole)[index]


_TORCH_LEAVES = dict.fromkeys(('kernel', 'scale', 'embedding'), 'weight')
_Shard = _SafetensorsShard | _FlaxShard | _TorchShard
_KINDS = {
  '.safetensors': _SafetensorsShard,
  '.msgpack': _FlaxShard,
  '.bin': _TorchShard,
}


class TensorWriter:
  """Writes tensors as safetensors, one shard in memory at a time.

  `close` names the shards and writes the index; a single shard gets the plain
  name, as transformers writes it.
  """

  def __init__(
    self, directory: files.PathLike, max_shard_bytes: int = MAX_SHARD_BYTES
  ):
    self._directory = epath.Path(directory)
    self._directory.mkdir(parents=True, exist_ok=True)
    self._written = contextlib.ExitStack()
    self._folder = self._written.enter_context(
      stores.local_writer(directory, last=(_INDEX,))
    )
    self._max_shard_bytes = max_shard_bytes
    self._pending: dict[str, np.ndarray] = {}
    self._num_pending = 0
    self._shards: list[list[str]] = []  # Names in each written shard.
    self._num_bytes = 0

  def add(self, name: str, tensor: np.ndarray) -> None:
    """Adds one tensor; writes a shard when the next would be too large."""
    if self._pending and (
      self._num_pending + tensor.nbytes > self._max_shard_bytes
    ):
      self._flush()
    self._pending[name] = np.ascontiguousarray(tensor)
    self._num_pending += tensor.nbytes
    self._num_bytes += tensor.nbytes

  def close(self) -> None:
    """Writes what is left, then gives the shards their names."""
    with self._written:
      self._flush()
      self._name_shards()

  def _name_shards(self) -> None:
    total = len(self._shards)
    if total == 1:
      self._temporary(0).replace(self._folder / _SINGLE)
      return
    weight_map = {}
    for number, names in enumerate(self._shards):
      shard = f'model-{number + 1:05d}-of-{total:05d}.safetensors'
      self._temporary(number).replace(self._folder / shard)
      weight_map |= dict.fromkeys(names, shard)
    files.write_json(
      self._folder / _INDEX,
      {'metadata': {'total_size': self._num_bytes}, 'weight_map': weight_map},
    )

  def _temporary(self, number: int) -> epath.Path:
    return self._folder / f'shard-{number:05d}.tmp'

  def _flush(self) -> None:
    import safetensors.numpy

    path = str(self._temporary(len(self._shards)))
    safetensors.numpy.save_file(self._pending, path, metadata={'format': 'pt'})
    os.chmod(path, 0o666 & ~_umask())  # Which safetensors leaves to the owner.
    self._shards.append(list(self._pending))
    self._pending, self._num_pending = {}, 0


def _umask() -> int:
  """What a new file's permissions lack; there is no asking without setting."""
  umask = os.umask(0)
  os.umask(umask)
  return umask


def copy_tokenizer(source: files.PathLike, target: files.PathLike) -> None:
  """Copies the tokenizer's files from one directory to another."""
  source, target = epath.Path(source), epath.Path(target)
  target.mkdir(parents=True, exist_ok=True)
  for name in TOKENIZER_FILES:
    if (source / name).exists():
      files.copy(source / name, target / name)
