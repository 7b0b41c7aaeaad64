"""Random Mesh TensorFlow checkpoints of T5, as the published ones are."""

import pathlib
import re
import zlib

import numpy as np

from inpars_tpu import host_tensorflow, mesh_checkpoint
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import tensors
from tests import t5_checkpoints

STEP = 1_010_000


def variables(
  config: config_lib.T5Config, weights: dict[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
  """Name -> value, with Adafactor's slots and the step.

  `weights` as `t5_checkpoints.random_weights` gives them, the default.
  """
  weights = weights or t5_checkpoints.random_weights(config)
  found = {'global_step': np.array(STEP, np.int64)}
  for name, path in tensors.names(config).items():
    is_turned = path[-1] in ('kernel', 'rel_embedding')
    value = weights[name].T if is_turned else weights[name]
    variable = mesh_checkpoint.variable_name(name)
    found[variable] = value
    for suffix, shape in _slot_shapes(value.shape).items():
      seed = zlib.crc32((variable + suffix).encode())
      slot = np.random.default_rng(seed).uniform(size=shape)
      found[variable + suffix] = slot.astype(np.float32)
  return found


def _slot_shapes(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
  """Mesh TensorFlow's: without the longest axis, without the next."""
  if len(shape) < 2 or min(shape) < 128:
    return {'_slot_v': shape}
  longest, other = sorted(range(2), key=lambda axis: -shape[axis])
  return {'_slot_vr': (shape[other],), '_slot_vc': (shape[longest],)}


def write(
  directory: pathlib.Path,
  values: dict[str, np.ndarray],
  *,
  has_rms_norms: bool = False,
) -> pathlib.Path:
  """Saves variables as TensorFlow does; returns the prefix."""
  directory.mkdir(parents=True, exist_ok=True)
  tf = host_tensorflow.tf
  if has_rms_norms:  # As newer versions of Mesh TensorFlow call them.
    values = {
      re.sub(r'(final_)?layer_norm/', 'rms_norm/', n): v
      for n, v in values.items()
    }
  prefix = directory / f'model.ckpt-{STEP}'
  shards = []
  for number, part in enumerate((slice(0, None, 2), slice(1, None, 2))):
    shards.append(f'{prefix}_temp/part-{number:05}-of-00002')
    names = sorted(values)[part]
    tf.raw_ops.SaveV2(
      prefix=shards[-1],
      tensor_names=names,
      shape_and_slices=[''] * len(names),
      tensors=[tf.constant(values[name]) for name in names],
    )
  tf.raw_ops.MergeV2Checkpoints(
    checkpoint_prefixes=shards, destination_prefix=str(prefix)
  )
  return prefix
