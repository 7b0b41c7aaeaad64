"""GPT-J's attention: rotary positions, a shared prefix, each row's own keys.

Pure functions of arrays; knows no weights.

Axis letters: B batch, P shared prefix, S own prompt, C cache positions,
Q query positions, H heads, K head dim, D model dim.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inpars_tpu.gptj import config as config_lib

_MASKED = -1e9  # Added to float32 scores; its exponential is exactly 0.
# Of `attend_causally`: smaller ones spare less than their calls cost.
QUERY_BLOCK = 64


class KeysValues(NamedTuple):
  """Keys and values of one layer: the prefix's, or a batch's own.

  Heads first, as the products want them, and the prefix's keys on their side.
  A batch's are not: a TPU would turn all of them to write a step's.
  """

  keys: jax.Array  # [H, K, P] of a prefix, [H, B, C, K] of a batch.
  values: jax.Array  # [H, P, K] of a prefix, [H, B, C, K] of a batch.


class Rotation(NamedTuple):
  """What `rotate` turns by."""

  cosine: jax.Array  # [B or 1, S, 1, rotary_dim / 2] float32.
  sine: jax.Array  # The same.


def halve_rotary(kernel: jax.Array, config: config_lib.GPTJConfig) -> jax.Array:
  """Puts the pairs that rotate together half a rotary_dim apart.

  GPT-J turns dimensions 2i and 2i + 1 of a head together (mesh-transformer-jax,
  Hugging Face's rotate_every_two); with the even ones before the odd ones a
  rotation reads two slices instead of every other number. Queries and keys in
  the same order have the same products.

  Args:
    kernel: [D, H * K] of queries or keys, as Hugging Face orders them.
  """
  dims = np.arange(config.head_dim)
  turned, rest = dims[: config.rotary_dim], dims[config.rotary_dim :]
  order = np.concatenate([turned[0::2], turned[1::2], rest])
  heads = kernel.reshape(-1, config.num_heads, config.head_dim)
  return heads[..., order].reshape(kernel.shape)


def restore_rotary(
  kernel: jax.Array, config: config_lib.GPTJConfig
) -> jax.Array:
  """Undoes `halve_rotary`: as Hugging Face orders it."""
  places = halve_rotary(jnp.arange(kernel.shape[1])[None], config)[0]
  return kernel[:, jnp.argsort(places)]


def rotation(positions: jax.Array, rotary_dim: int) -> Rotation:
  """Angles position / 10000^(2i / rotary_dim), for `rotate`.

  Args:
    positions: [B or 1, S] int32.
    rotary_dim: even.
  """
  exponents = jnp.arange(0, rotary_dim, 2, dtype=jnp.float32) / rotary_dim
  frequencies = (10_000.0**-exponents)[None, None]
  angles = positions.astype(jnp.float32)[..., None] * frequencies
  return Rotation(jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None])


def rotate(x: jax.Array, by: Rotation) -> jax.Array:
  """Rotary position embedding of the leading dims of each head.

  Args:
    x: [B, S, H, K] queries or keys, in the order of `halve_rotary`.
    by: angles of rotary_dim / 2 pairs.
  """
  half = by.cosine.shape[-1]
  first = x[..., :half].astype(jnp.float32)
  second = x[..., half : 2 * half].astype(jnp.float32)
  turned = (
    first * by.cosine - second * by.sine,
    second * by.cosine + first * by.sine,
  )
  parts = [*(part.astype(x.dtype) for part in turned), x[..., 2 * half :]]
  return jnp.concatenate(parts, axis=-1)


def attend(
  queries: jax.Array, prefix: KeysValues, own: KeysValues, bias: jax.Array
) -> jax.Array:
  """One softmax over the shared prefix and each row's own positions.

  Args:
    queries: [H, B, Q, K].
    prefix: keys and values of P positions, visible to every query.
    own: keys and values of C positions of each row.
    bias: [1, B or 1, Q, C] float32, 0 where a query sees a position.

  Returns:
    [B, Q, H * K].
  """
  shape = queries.shape
  queries = queries * shape[-1] ** -0.5
  wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  # To the prefix, the queries of all rows are one matrix a head.
  to_prefix = wide(
    'hnk,hkp->hnp', queries.reshape(shape[0], -1, shape[-1]), prefix.keys
  )
  to_own = wide('hbqk,hbck->hbqc', queries, own.keys) + bias
  top = jnp.maximum(  # [H, B, Q]
    jnp.max(to_own, axis=-1),
    jnp.max(to_prefix, axis=-1, initial=_MASKED).reshape(shape[:3]),
  )
  to_prefix = jnp.exp(to_prefix - top.reshape(shape[0], -1, 1))
  to_own = jnp.exp(to_own - top[..., None])
  total = to_prefix.sum(axis=-1).reshape(shape[:3]) + to_own.sum(axis=-1)
  dtype = own.values.dtype
  mixed = wide('hnp,hpk->hnk', to_prefix.astype(dtype), prefix.values)
  mixed = mixed.reshape(shape) + wide(
    'hbqc,hbck->hbqk', to_own.astype(dtype), own.values
  )
  mixed = (mixed / total[..., None]).astype(dtype)
  mixed = mixed.transpose(1, 2, 0, 3)  # [B, Q, H, K]
  return mixed.reshape(*mixed.shape[:2], -1)


def attend_causally(
  queries: jax.Array, prefix: KeysValues, own: KeysValues
) -> jax.Array:
  """`attend` where query q sees the own positions up to q.

  In blocks of queries, each of which meets no position behind its last: of long
  prompts nearly half of the products with own positions are never made.

  Args:
    queries: [H, B, S, K].
    prefix: keys and values of P positions, visible to every query.
    own: keys and values of the same S positions.

  Returns:
    [B, S, H * K].
  """
  steps = np.arange(queries.shape[2])
  mixed = []
  for block in np.split(steps, range(QUERY_BLOCK, len(steps), QUERY_BLOCK)):
    end = block[-1] + 1
    mixed.append(
      attend(
        queries[:, :, block[0] : end],
        prefix,
        KeysValues(own.keys[:, :, :end], own.values[:, :, :end]),
        mask_bias(jnp.asarray(block[:, None] >= steps[None, :end]))[None, None],
      )
    )
  return jnp.concatenate(mixed, axis=1)


def mask_bias(is_visible: jax.Array) -> jax.Array:
  """bool -> float32: 0 where it is true, else what a softmax makes 0."""
  return jnp.where(is_visible, jnp.float32(0), jnp.float32(_MASKED))
