"""Multi-head attention of a T5, whole or from few positions.

Parameters carry t5x's names and logical axes, and its initial distributions.

Axes: B batch, Q queries, S keys, D d_model, H heads, K d_kv.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import partitioning

from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import dropout, layers

# Whose float32 logits exist at the same time. At 512 tokens two blocks, and a
# quarter less of temporaries: 0.37 GiB a core of T5-3B's scorer on a v3-8.
MAX_QUERIES = 256
_MASKED = -1e10  # As t5x: finite, so that a row all masked is no NaN.


class Attention(nn.Module):
  """Multi-head attention; the logits are not scaled by d_kv^-0.5."""

  config: config_lib.T5Config
  dtype: Any

  def setup(self):
    config = self.config
    joined = config.num_heads * config.d_kv

    def project(scale):
      return layers.Dense(
        config.d_model,
        joined,
        ('embed', 'joined_kv'),
        self.dtype,
        scale,
        'normal',
      )

    # The initial query kernel holds the scale that the logits lack.
    self.query = project(1 / config.d_kv)
    self.key, self.value = project(1.0), project(1.0)
    self.out = layers.Dense(
      joined,
      config.d_model,
      ('joined_kv', 'embed'),
      self.dtype,
      init_distribution='normal',
    )

  def __call__(self, queries, keys, mask, bias=None, *, kept=None):
    """Attends from each query position to every key position.

    Args:
      queries: [B, Q, D].
      keys: [B, S, D], for the values too.
      mask: [B, 1, Q or 1, S] bool, false where not to look.
      bias: [1, H, Q, S] float32, added to the logits; None: nothing.
      kept: by dropout, [B, H, S] bool; None: every weight.

    Returns:
      [B, Q, D] of `dtype`.
    """
    query, key, value = (
      self._split(project(x))  # [B, Q or S, H, K]
      for project, x in (
        (self.query, queries),
        (self.key, keys),
        (self.value, keys),
      )
    )
    # Masked by a sum: a product, a sum and a softmax are one pass.
    seen = jnp.where(mask, 0.0, _MASKED).astype(jnp.float32)
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    if kept is not None:
      # One draw for all queries, so the values may be dropped for the weights:
      # K numbers for each key, not one for each query.
      value = dropout.apply(value, kept[..., None], self.config.dropout_rate)
    num_queries = queries.shape[1]
    size = -(-num_queries // -(-num_queries // MAX_QUERIES))
    blocks = [slice(i, i + size) for i in range(0, num_queries, size)]
    mixed = [
      self._mix(
        query[:, :, block],
        key,
        value,
        seen if seen.shape[2] == 1 else seen[:, :, block],
        None if bias is None else bias[:, :, block],
      )
      for block in blocks
    ]
    mixed = mixed[0] if len(mixed) == 1 else jnp.concatenate(mixed, axis=2)
    mixed = mixed.swapaxes(1, 2)  # [B, Q, H, K]
    return self.out(mixed.reshape(*mixed.shape[:2], -1))

  def _mix(self, query, key, value, seen, bias):
    """Values by the weights of their keys: [B, H, Q, K] of `dtype`.

    query is [B, H, Q, K], key and value [B, H, S, K]; seen [B, 1, Q or 1, S]
    float32, 0 or _MASKED.
    """
    logits = _compare(query, key) + seen
    if bias is not None:
      logits += bias
    # Whatever is taken away changes no weight, so no gradient goes through it.
    highest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    # Divided by their sum at the end: of K numbers a query, not of S.
    weights = jnp.exp(logits - highest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    mixed = _mix(weights.astype(self.dtype), value)
    return (mixed / total).astype(self.dtype)

  def over_itself(self, x):
    """Attention of one position to itself alone: x [B, D] -> [B, D]."""
    return self.out(self.value(x))

  def over_encoded(self, queries, encoded, mask, *, kept=None):
    """Attends from few positions, without keys and values of each token.

    For an encoded token e, q . (W_k e) = (W_k^T q) . e, and a weighted sum of
    W_v e is W_v of the sum: for each of Q positions 2 H D multiply-adds a
    token, in place of 2 H K D for them all.

    Args:
      queries: [B, Q, D].
      encoded: [B, S, D].
      mask: [B, 1, Q or 1, S] bool, false where not to look.
      kept: by dropout, [B, H, S] bool; None: every weight.

    Returns:
      [B, Q, D] of `dtype`.
    """
    config = self.config
    product = functools.partial(
      jnp.einsum, precision=layers.precision(self.dtype)
    )
    split = (config.d_model, config.num_heads, config.d_kv)
    key_kernel = self.key.kernel.astype(self.dtype).reshape(split)
    value_kernel = self.value.kernel.astype(self.dtype).reshape(split)
    query = self._split(self.query(queries))  # [B, Q, H, K]
    query = product('bqhk,dhk->bhqd', query, key_kernel)
    num_rows, num_heads, num_queries, _ = query.shape
    # All heads look at the same, as if they were more queries of one head.
    encoded = encoded[:, None]  # [B, 1, S, D]
    logits = _compare(query.reshape(num_rows, 1, -1, config.d_model), encoded)
    logits = logits.reshape(num_rows, num_heads, num_queries, -1)
    weights = _softmax(logits, mask).astype(self.dtype)  # [B, H, Q, S]
    if kept is not None:
      weights = dropout.apply(weights, kept[:, :, None], config.dropout_rate)
    weights = weights.reshape(num_rows, 1, -1, weights.shape[-1])
    mixed = _mix(weights, encoded).astype(self.dtype).reshape(query.shape)
    value = product('bhqd,dhk->bqhk', mixed, value_kernel)
    return self.out(value.reshape(*value.shape[:2], -1))

  def _split(self, x):
    """[..., H * K] -> [..., H, K]."""
    x = x.reshape(*x.shape[:-1], self.config.num_heads, self.config.d_kv)
    names = ('batch', 'length', 'heads', 'kv')
    return partitioning.with_sharding_constraint(x, names) if x.ndim == 4 else x


@jax.custom_vjp
def _compare(query: jax.Array, key: jax.Array) -> jax.Array:
  """query [B, H, Q, K], key [B, H, S, K] -> [B, H, Q, S] float32."""
  return _product('bhqk,bhsk->bhqs', query, key)


def _compare_backward(saved, slope):
  query, key = saved
  slope = slope.astype(query.dtype)
  return (
    _product('bhqs,bhsk->bhqk', slope, key).astype(query.dtype),
    _sum_over_queries(slope, query),
  )


@jax.custom_vjp
def _mix(weights: jax.Array, value: jax.Array) -> jax.Array:
  """weights [B, H, Q, S], value [B, H, S, K] -> [B, H, Q, K] float32."""
  return _product('bhqs,bhsk->bhqk', weights, value)


def _mix_backward(saved, slope):
  weights, value = saved
  slope = slope.astype(value.dtype)
  return (
    _product('bhqk,bhsk->bhqs', slope, value).astype(weights.dtype),
    _sum_over_queries(weights, slope),
  )


_compare.defvjp(lambda *given: (_compare(*given), given), _compare_backward)
_mix.defvjp(lambda *given: (_mix(*given), given), _mix_backward)


def _sum_over_queries(weights: jax.Array, x: jax.Array) -> jax.Array:
  """weights [B, H, Q, S], x [B, H, Q, K] -> [B, H, S, K] of the dtype of x.

  On a CPU a product over the last axis but one of the large operand first is
  three times as slow as of the small one; the barrier keeps XLA from turning
  the one into the other. Of few queries as wide as a model neither is small,
  and the result, turned back, is six times as slow to add up.
  """

  def turned(weights, x):
    mixed = _product('bhqk,bhqs->bhks', x, weights)
    return jax.lax.optimization_barrier(mixed).swapaxes(2, 3)

  straight = functools.partial(_product, 'bhqs,bhqk->bhsk')
  is_small = x.shape[3] < weights.shape[3]
  mixed = jax.lax.platform_dependent(
    weights, x, cpu=turned if is_small else straight, default=straight
  )
  return mixed.astype(x.dtype)


def _product(axes: str, x: jax.Array, y: jax.Array) -> jax.Array:
  """An einsum of two of one dtype; sums and result are float32."""
  return jnp.einsum(
    axes,
    x,
    y,
    precision=layers.precision(x.dtype),
    preferred_element_type=jnp.float32,
  )


def _softmax(logits: jax.Array, mask: jax.Array) -> jax.Array:
  """Softmax over the last axis, float32; 0 where `mask` is false."""
  return jax.nn.softmax(jnp.where(mask, logits, _MASKED))
