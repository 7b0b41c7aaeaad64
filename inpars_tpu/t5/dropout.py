"""Dropout in a stack of layers, all of it drawn at once.

Each draw of random numbers is a loop of its own to XLA's compiler; drawn one
by one, those of a small T5 took it as long as all else on a CPU.

Axes: L layers, B rows, S keys, H heads, F d_ff, D d_model, N blocks of a layer.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from inpars_tpu.t5 import config as config_lib

# Where `draw` puts B, by field.
_AXIS_OF_ROWS = {
  'attention': 1, 'cross': 1, 'units': 1, 'blocks': 2, 'embedded': 0,
}  # fmt: skip


class Kept(NamedTuple):
  """What is kept in each layer, bool; in one layer, without L.

  As in t5x all queries of an attention share a draw, and so do all positions of
  what is D or F wide. None: everything is kept.
  """

  attention: jax.Array | None = None  # [L, B, H, S]
  cross: jax.Array | None = None  # [L, B, H, S], S encoded tokens.
  units: jax.Array | None = None  # [L, B, 1, F]
  blocks: jax.Array | None = None  # [L, N, B, 1, D], before the residual.

  def block(self, number: int) -> jax.Array | None:
    """What one block of one layer keeps: [B, 1, D]."""
    return None if self.blocks is None else self.blocks[number]


class Draw(NamedTuple):
  """Of a whole stack; bool, None: everything is kept."""

  layers: Kept = Kept()
  embedded: jax.Array | None = None  # [B, 1, D]
  # Of the encoder's output each number for itself: [B, S, D]; else [B, 1, D].
  normed: jax.Array | None = None


def draw(
  key: jax.Array,
  config: config_lib.T5Config,
  *,
  num_layers: int,
  num_rows: int,
  num_keys: int,
  num_encoded: int | None = None,
) -> Draw:
  """Draws for every layer, and for what goes in and comes out.

  Args:
    key: of random numbers, typed.
    config: sizes, and the rate.
    num_layers: L.
    num_rows: B.
    num_keys: S of self-attention.
    num_encoded: S of cross-attention in a decoder; None: an encoder.
  """
  heads, d = config.num_heads, config.d_model
  is_decoder = num_encoded is not None
  shapes = {  # Of a row, without B.
    'attention': (num_layers, heads, num_keys),
    'units': (num_layers, 1, config.d_ff),
    'blocks': (num_layers, 3 if is_decoder else 2, 1, d),
    'embedded': (1, d),
  }
  if is_decoder:
    shapes['cross'] = (num_layers, heads, num_encoded)
  key, key_of_normed = jax.random.split(key)
  keep_rate = 1 - config.dropout_rate
  # Rows first, which devices may share.
  total = sum(map(math.prod, shapes.values()))
  drawn = jax.random.bernoulli(key, keep_rate, (num_rows, total))
  found = {}
  start = 0
  for name, shape in shapes.items():
    end = start + math.prod(shape)
    one = drawn[:, start:end].reshape(num_rows, *shape)
    found[name] = jnp.moveaxis(one, 0, _AXIS_OF_ROWS[name])
    start = end
  # Apart: a TPU would lay a part as long as this out with 64 bytes a number.
  normed = jax.random.bernoulli(
    key_of_normed, keep_rate, (num_rows, 1 if is_decoder else num_keys, d)
  )
  return Draw(
    embedded=found.pop('embedded'), normed=normed, layers=Kept(**found)
  )


def apply(x: jax.Array, kept: jax.Array | None, rate: float) -> jax.Array:
  """x where it is kept, larger by what is not; in its dtype, 0 elsewhere."""
  if kept is None:
    return x
  return jnp.where(kept, x / (1 - rate), jnp.zeros_like(x))
