"""Which part of a T5 each device of a mesh holds.

Where the weights fit a device, each holds them whole and the rows of a batch
are parted: devices have nothing to say to each other. Else the weights are
parted Megatron's way, as GPT-J's are: a layer sums over the devices twice in
the encoder, three times in the decoder (arXiv:1909.08053, section 3).

Where arguments lie is all that is said; the compiler parts the program.
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
from flax import traverse_util

from inpars_tpu import mesh as mesh_lib
from inpars_tpu.t5 import attention, network, scan, tensors
from inpars_tpu.t5 import config as config_lib

Mesh = jax.sharding.Mesh | None

# The one table: axes of t5x's names, which the parameters carry -> the mesh's.
RULES: mesh_lib.Rules = {
  'batch': 'data',
  'length': None,
  'heads': 'model',
  'joined_kv': 'model',  # The dimensions of all heads.
  'mlp': 'model',
  'embed': None,
  'relpos_buckets': None,
  'layers': None,  # Of stacked parameters.
  # The embedding is 1% of T5-3B. Whole, its rows are looked up without a sum
  # over the devices, and it may have any number of them.
  'vocab': None,
}
# Training's, where not even a part of the weights may lie on each device of
# `data`: every kernel is parted by its other axis too, and whole for as long as
# its layer is computed.
FULLY_SHARDED: mesh_lib.Rules = {**RULES, 'embed': 'data'}
_LAYER = re.compile(r'layers_\d+')


def counts(config: config_lib.T5Config) -> dict[str, int]:
  """What the `model` axis must divide, by name."""
  return {'heads': config.num_heads, 'feed-forward units': config.d_ff}


def check(
  config: config_lib.T5Config, text: str, num_devices: int | None = None
) -> None:
  """Checks the value of --mesh against the devices and the sizes.

  Args:
    config: sizes.
    text: the value.
    num_devices: None: this process's.

  Raises:
    InputError: as `mesh.parse` and `mesh.check`.
  """
  shape = mesh_lib.parse(text, num_devices or jax.local_device_count())
  mesh_lib.check(shape, counts(config))


def of_param(
  config: config_lib.T5Config,
  path: tensors.Path,
  mesh: jax.sharding.Mesh,
  rules: mesh_lib.Rules = RULES,
) -> jax.sharding.NamedSharding:
  """Where a parameter lies.

  Args:
    config: sizes.
    path: ('encoder', 'layers_3', ...), or 'layers' of stacked ones.
    mesh: of `mesh.make`.
    rules: RULES or FULLY_SHARDED.
  """
  axes = _axes(config)[_in_first_layer(path)]
  if scan.STACKED in path:
    axes = ('layers', *axes)
  return mesh_lib.sharding(mesh, axes, rules)


def of_tokens(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """Where the encoder's tokens [B, S] lie."""
  return mesh_lib.sharding(mesh, ('batch', 'length'), RULES)


def turn(
  sharding: jax.sharding.NamedSharding,
) -> jax.sharding.NamedSharding:
  """Where the transposed array lies."""
  spec = jax.sharding.PartitionSpec(*sharding.spec[::-1])
  return jax.sharding.NamedSharding(sharding.mesh, spec)


def temporary_bytes(
  config: config_lib.T5Config, num_tokens: int, dtype: jnp.dtype
) -> int:
  """Bytes beside the weights that scoring so many encoder tokens needs.

  Of one layer: attention logits and weights of a block of queries, queries,
  keys, values and what is mixed of them; or the feed-forward units. And of the
  residual, two copies of two forms.
  """
  itemsize, d = jnp.dtype(dtype).itemsize, config.d_model
  joined = config.num_heads * config.d_kv
  logits = config.num_heads * attention.MAX_QUERIES * (4 + itemsize)
  units = (2 if config.is_gated else 1) * config.d_ff
  widest = max(logits + 4 * joined * itemsize, units * itemsize)
  return num_tokens * (widest + 2 * d * (4 + itemsize))


@functools.cache
def _axes(config: config_lib.T5Config) -> dict[tensors.Path, tuple[str, ...]]:
  """Path of every parameter of the first layers and outside -> its axes."""
  model = network.Transformer(
    dataclasses.replace(config, num_layers=1, num_decoder_layers=1)
  )
  tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  variables = jax.eval_shape(
    model.init, jax.random.key(0), tokens, tokens, tokens
  )
  named = traverse_util.flatten_dict(variables['params_axes'])
  return {
    (*path[:-1], path[-1].removesuffix('_axes')): axes.names
    for path, axes in named.items()
  }


def _in_first_layer(path: tensors.Path) -> tensors.Path:
  """('encoder', 'layers_3' or 'layers', ...) -> ('encoder', 'layers_0', ...)"""
  return tuple(
    'layers_0' if key == scan.STACKED or _LAYER.fullmatch(key) else key
    for key in path
  )
