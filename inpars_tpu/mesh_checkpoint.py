"""Mesh TensorFlow checkpoints of T5: `model.ckpt-<step>.{index,data-*}`.

Read through TensorFlow, the published ones of T5 and monoT5 among them. Kernels
are [in, out] and relative biases [heads, buckets], as in t5x. Nothing is
scaled: that of T5 v1.0's logits is in its network.
"""

import re
from typing import Any

import numpy as np
from etils import epath

from inpars_tpu import errors, files

_INDEX = '.index'
_STEP = 'global_step'
_OUTER = {
  'shared.weight': 'shared/embedding',
  'lm_head.weight': 'decoder/logits/kernel',
}
# Adafactor's slots of a variable -> t5x's names of them.
_SLOTS = {'_slot_v': 'v', '_slot_vr': 'v_row', '_slot_vc': 'v_col'}


def variable_name(hf_name: str) -> str:
  """The variable that Hugging Face's name stands for.

  'encoder.block.0.layer.0.SelfAttention.q.weight' ->
    'encoder/block_000/layer_000/SelfAttention/q'
  'decoder.block.11.layer.2.layer_norm.weight' ->
    'decoder/block_011/layer_002/layer_norm/scale'
  """
  if hf_name in _OUTER:
    return _OUTER[hf_name]
  name = hf_name.removesuffix('.weight').replace('.', '/')
  name = re.sub(
    r'(block|layer)/(\d+)', lambda match: f'{match[1]}_{int(match[2]):03}', name
  )
  if name.endswith('layer_norm'):
    return f'{name}/scale'
  return f'{name}/kernel' if 'DenseReluDense' in name else name


def find(path: files.PathLike) -> epath.Path:
  """Finds a checkpoint's prefix, `.../model.ckpt-1010000`.

  Args:
    path: the prefix, the .index file, or a folder with one checkpoint in it.

  Raises:
    InputError: none there, several, or one with data files missing.
  """
  path = epath.Path(path)
  if path.is_dir():
    prefixes = sorted(
      entry.name.removesuffix(_INDEX)
      for entry in path.iterdir()
      if entry.name.endswith(_INDEX)
    )
    if len(prefixes) != 1:
      found = f'holds {", ".join(prefixes)}' if prefixes else 'holds none'
      raise errors.InputError(
        f'--model takes one Mesh TensorFlow checkpoint, such as {path}/'
        f'{prefixes[-1] if prefixes else "model.ckpt-1010000"}; {path} {found}'
      )
    path /= prefixes[0]
  elif path.name.endswith(_INDEX):
    path = path.parent / path.name.removesuffix(_INDEX)
  files.must_be_file(f'{path}{_INDEX}', 'Mesh TensorFlow checkpoint')
  data_files(path)
  return path


def data_files(prefix: epath.Path) -> list[epath.Path]:
  """The .index and .data-* files of a checkpoint.

  Raises:
    InputError: some are missing.
  """
  pattern = re.compile(
    re.escape(prefix.name) + r'\.data-\d{5}-of-(?P<total>\d{5})'
  )
  matches = [pattern.fullmatch(entry.name) for entry in prefix.parent.iterdir()]
  there = {match[0] for match in matches if match}
  totals = {match['total'] for match in matches if match}
  if len(totals) != 1:
    found = 'no' if not totals else 'more than one set of'
    raise errors.InputError(f'{prefix}{_INDEX} has {found} .data-* files')
  total = totals.pop()
  wanted = [f'{prefix.name}.data-{i:05}-of-{total}' for i in range(int(total))]
  for name in wanted:
    if name not in there:
      raise errors.InputError(f'{prefix.parent / name} is missing')
  return [prefix.parent / name for name in (prefix.name + _INDEX, *wanted)]


class Reader:
  """Variables of one checkpoint by name, read one at a time.

  `shapes` has the parameters; slots are asked for by their parameter.
  """

  def __init__(self, prefix: epath.Path):
    """Opens what `find` found.

    Raises:
      InputError: it is damaged, or TensorFlow is not installed.
    """
    from inpars_tpu import host_tensorflow

    tf = host_tensorflow.tf
    self._prefix = prefix
    # The reader turns TensorFlow's errors into Python's.
    self._errors = (tf.errors.OpError, ValueError, LookupError, RuntimeError)
    try:
      self._reader = tf.train.load_checkpoint(str(prefix))
    except self._errors as error:
      raise self._damaged(error) from None
    shapes = self._reader.get_variable_to_shape_map()
    self._variables = {_plain(name): name for name in sorted(shapes)}
    self._slots = {
      plain for plain in self._variables if plain.endswith(tuple(_SLOTS))
    }
    self.shapes: dict[str, tuple[int, ...]] = {
      plain: tuple(shapes[name])
      for plain, name in self._variables.items()
      if plain not in self._slots and plain != _STEP
    }

  @property
  def has_slots(self) -> bool:
    """True where training can go on from it."""
    return bool(self._slots) and _STEP in self._variables

  def step(self) -> int:
    """How often the optimizer had been run."""
    return int(self.read(_STEP))

  def read(self, name: str) -> np.ndarray:
    """One variable, in its dtype.

    Raises:
      InputError: its bytes are damaged.
    """
    try:
      return np.asarray(self._reader.get_tensor(self._variables[name]))
    except self._errors as error:
      raise self._damaged(error) from None

  def read_slots(self, name: str) -> dict[str, np.ndarray]:
    """Adafactor's slots of a variable, by t5x's names.

    Mesh TensorFlow's _slot_vr is a mean over the longest axis, the first of
    two equal ones, where t5x's v_row is a mean over the last of them; t5x's
    own importer goes by the names alone.

    Raises:
      InputError: there are none.
    """
    slots = {
      ours: self.read(name + suffix)
      for suffix, ours in _SLOTS.items()
      if name + suffix in self._slots
    }
    if slots.keys() not in ({'v'}, {'v_row', 'v_col'}):
      raise errors.InputError(
        f'{self._prefix}: {name} has slots {sorted(slots)}; Adafactor has '
        '_slot_v, or _slot_vr and _slot_vc'
      )
    shape = self.shapes[name]
    if len(slots) == 2 and shape[0] == shape[-1]:
      return {'v_row': slots['v_col'], 'v_col': slots['v_row']}
    return slots

  def _damaged(self, error: Any) -> errors.InputError:
    reason = ' '.join(str(error).split())[:200]
    return errors.InputError(
      f'{self._prefix} is no TensorFlow checkpoint, or damaged: {reason}'
    )


def _plain(name: str) -> str:
  """Newer checkpoints call a layer norm rms_norm."""
  name = re.sub(r'^(encoder|decoder)/rms_norm/', r'\1/final_layer_norm/', name)
  return name.replace('/rms_norm/', '/layer_norm/')
