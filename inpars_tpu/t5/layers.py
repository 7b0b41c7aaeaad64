"""The layers of a T5: attention, feed-forward, norm, embedding, positions.

Parameters carry t5x's names and logical axes, and its initial distributions.

Axes: B batch, Q queries, S keys, D d_model, H heads, K d_kv, F d_ff.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen import partitioning

from inpars_tpu import products
from inpars_tpu.t5 import config as config_lib

# Whose float32 logits exist at the same time. At 512 tokens two blocks, and a
# quarter less of temporaries: 0.37 GiB a core of T5-3B's scorer on a v3-8.
MAX_QUERIES = 256
_MASKED = -1e10  # As t5x: finite, so that a row all masked is no NaN.

_ACTIVATIONS = {
  'relu': jax.nn.relu,
  'gelu_new': lambda x: jax.nn.gelu(x, approximate=True),
}


def matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """x [..., D] @ kernel [D, F]; float32 is exact on every device."""
  if x.dtype == kernel.dtype == jnp.bfloat16:
    return _narrow_matmul(x, kernel)
  return jnp.matmul(x, kernel, precision=_precision(x.dtype))


@jax.custom_vjp
def _narrow_matmul(x, kernel):
  """`products.multiply` of bfloat16, forward and backward.

  Its own derivative would have a float32 operand on a CPU.
  """
  return products.multiply(x, kernel)


def _narrow_matmul_forward(x, kernel):
  return _narrow_matmul(x, kernel), (x, kernel)


def _narrow_matmul_backward(saved, slope):
  x, kernel = saved
  flat, slopes = (y.reshape(-1, y.shape[-1]) for y in (x, slope))
  return _narrow_matmul(slope, kernel.T), _narrow_matmul(flat.T, slopes)


_narrow_matmul.defvjp(_narrow_matmul_forward, _narrow_matmul_backward)


def position_buckets(
  length: int, *, bidirectional: bool, num_buckets: int, max_distance: int
) -> np.ndarray:
  """Bucket of each (query, key) position: arXiv:1910.10683, section 2.1.

  Half of the buckets are single distances, the rest grow logarithmically up to
  `max_distance`. Computed as in Mesh TensorFlow's
  `_relative_position_bucket`, from which Hugging Face and t5x have it.

  Returns:
    [length, length] int32, of query by key.
  """
  positions = np.arange(length)
  distance = positions[:, None] - positions[None, :]  # Query minus key.
  buckets = np.zeros_like(distance)
  if bidirectional:
    num_buckets //= 2
    buckets += num_buckets * (distance < 0)
    distance = np.abs(distance)
  else:
    distance = np.maximum(distance, 0)
  num_exact = num_buckets // 2
  # float32, as they have it: the edges of the buckets depend on it.
  ratio = np.maximum(distance, 1).astype(np.float32) / np.float32(num_exact)
  octave = np.float32(math.log(max_distance / num_exact))
  steps = np.log(ratio) / octave * np.float32(num_buckets - num_exact)
  logarithmic = np.minimum(num_exact + steps.astype(int), num_buckets - 1)
  buckets += np.where(distance < num_exact, distance, logarithmic)
  return buckets.astype(np.int32)


class Dense(nn.Module):
  """A linear map without bias."""

  num_in: int
  num_out: int
  axes: tuple[str, str]
  dtype: Any
  init_scale: float = 1.0  # Of the variance 1 / num_in of initial weights.
  init_distribution: str = 'truncated_normal'

  def setup(self):
    self.kernel = partitioning.param_with_axes(
      'kernel',
      nn.initializers.variance_scaling(
        self.init_scale, 'fan_in', self.init_distribution
      ),
      (self.num_in, self.num_out),
      jnp.float32,
      axes=self.axes,
      module=self,
    )

  def __call__(self, x):
    """x [..., num_in] of any dtype -> [..., num_out] of `dtype`."""
    return matmul(x.astype(self.dtype), self.kernel.astype(self.dtype))


class RMSNorm(nn.Module):
  """T5's layer norm: no mean, no bias (arXiv:1910.07467)."""

  config: config_lib.T5Config
  dtype: Any

  def setup(self):
    self.scale = partitioning.param_with_axes(
      'scale',
      nn.initializers.ones,
      (self.config.d_model,),
      jnp.float32,
      axes=('embed',),
      module=self,
    )

  def __call__(self, x):
    """x [..., D] -> [..., D] of `dtype`; computed in float32."""
    x = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    x *= jax.lax.rsqrt(mean_square + self.config.layer_norm_epsilon)
    scale = self.scale.astype(jnp.float32)
    return (x * _like(scale, x)).astype(self.dtype)


class Embedding(nn.Module):
  """Token ids to vectors, not scaled."""

  config: config_lib.T5Config
  dtype: Any

  def setup(self):
    self.embedding = partitioning.param_with_axes(
      'embedding',
      nn.initializers.normal(stddev=1.0),
      (self.config.vocab_size, self.config.d_model),
      jnp.float32,
      axes=('vocab', 'embed'),
      module=self,
    )

  def __call__(self, tokens):
    """tokens [...] int32 -> [..., D] of `dtype`."""
    return jnp.take(self.embedding, tokens, axis=0).astype(self.dtype)


class RelativePositionBias(nn.Module):
  """What a head adds to an attention logit for the distance of its tokens."""

  config: config_lib.T5Config

  def setup(self):
    config = self.config
    self.rel_embedding = partitioning.param_with_axes(
      'rel_embedding',
      nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform'),
      (config.num_heads, config.relative_attention_num_buckets),
      jnp.float32,
      axes=('heads', 'relpos_buckets'),
      module=self,
    )

  def __call__(self, length: int, *, bidirectional: bool):
    """The bias of `length` tokens among themselves: [1, H, Q, S] float32."""
    buckets = position_buckets(
      length,
      bidirectional=bidirectional,
      num_buckets=self.config.relative_attention_num_buckets,
      max_distance=self.config.relative_attention_max_distance,
    )
    table = self.rel_embedding.astype(jnp.float32)  # [H, buckets]
    return jnp.take(table, buckets, axis=1)[None]


class FeedForward(nn.Module):
  """relu(x wi) wo, or (gelu(x wi_0) * (x wi_1)) wo."""

  config: config_lib.T5Config
  dtype: Any

  def setup(self):
    d, f = self.config.d_model, self.config.d_ff
    names = ('wi_0', 'wi_1') if self.config.is_gated else ('wi',)
    for name in names:
      setattr(self, name, Dense(d, f, ('embed', 'mlp'), self.dtype))
    self.wo = Dense(f, d, ('mlp', 'embed'), self.dtype)
    self.dropout = nn.Dropout(self.config.dropout_rate, broadcast_dims=(-2,))

  def __call__(self, x, *, deterministic):
    """x [B, S, D] -> [B, S, D] of `dtype`."""
    activation = _ACTIVATIONS[self.config.activation]
    if self.config.is_gated:
      x = activation(self.wi_0(x)) * self.wi_1(x)
    else:
      x = activation(self.wi(x))
    x = self.dropout(x, deterministic=deterministic)
    x = partitioning.with_sharding_constraint(x, ('batch', 'length', 'mlp'))
    return self.wo(x)


class Attention(nn.Module):
  """Multi-head attention; the logits are not scaled by d_kv^-0.5."""

  config: config_lib.T5Config
  dtype: Any

  def setup(self):
    config = self.config
    joined = config.num_heads * config.d_kv

    def project(scale):
      return Dense(
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
    self.out = Dense(
      joined,
      config.d_model,
      ('joined_kv', 'embed'),
      self.dtype,
      init_distribution='normal',
    )

  def __call__(self, queries, keys, mask, bias=None, *, deterministic):
    """Attends from each query position to every key position.

    Args:
      queries: [B, Q, D].
      keys: [B, S, D], for the values too.
      mask: [B, 1, Q or 1, S] bool, false where not to look.
      bias: [1, H, Q, S] float32, added to the logits; None: nothing.
      deterministic: no dropout.

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
    if not deterministic and self.config.dropout_rate:
      value *= self._draw_kept(queries.shape[0], keys.shape[1])
    # Masked by a sum: a product, a sum and a softmax are one pass.
    seen = jnp.where(mask, 0.0, _MASKED).astype(jnp.float32)
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
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

  def of_one(self, x, keys, mask):
    """Attention of one position without keys and values of each token.

    For an encoded token e, q . (W_k e) = (W_k^T q) . e, and a weighted sum of
    W_v e is W_v of the sum: 2 H D multiply-adds a token in place of 2 H K D.

    Args:
      x: [B, D].
      keys: [B, S, D].
      mask: [B, S] bool, false where not to look.

    Returns:
      [B, D] of `dtype`.
    """
    config, precision = self.config, _precision(self.dtype)
    split = (config.d_model, config.num_heads, config.d_kv)
    key_kernel = self.key.kernel.astype(self.dtype).reshape(split)
    value_kernel = self.value.kernel.astype(self.dtype).reshape(split)
    query = self._split(self.query(x))  # [B, H, K]
    query = jnp.einsum('bhk,dhk->bhd', query, key_kernel, precision=precision)
    logits = jnp.einsum(
      'bhd,bsd->bhs',
      query,
      keys,
      precision=precision,
      preferred_element_type=jnp.float32,
    )
    weights = _softmax(logits, mask[:, None]).astype(self.dtype)
    mixed = jnp.einsum('bhs,bsd->bhd', weights, keys, precision=precision)
    value = jnp.einsum('bhd,dhk->bhk', mixed, value_kernel, precision=precision)
    return self.out(value.reshape(value.shape[0], -1))

  def _split(self, x):
    """[..., H * K] -> [..., H, K]."""
    x = x.reshape(*x.shape[:-1], self.config.num_heads, self.config.d_kv)
    names = ('batch', 'length', 'heads', 'kv')
    return partitioning.with_sharding_constraint(x, names) if x.ndim == 4 else x

  def _draw_kept(self, num_rows, num_keys):
    """What dropout makes of attention weights: [B, S, H, 1] of `dtype`.

    One draw for all queries, as in t5x, so that it may be the values that are
    multiplied by it: K numbers for each key, not a weight for each query.
    """
    shape = (num_rows, num_keys, self.config.num_heads, 1)
    keep_rate = 1.0 - self.config.dropout_rate
    kept = jax.random.bernoulli(self.make_rng('dropout'), keep_rate, shape)
    return jnp.where(kept, 1.0 / keep_rate, 0.0).astype(self.dtype)


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
  the one into the other.
  """

  def turned(weights, x):
    mixed = _product('bhqk,bhqs->bhks', x, weights)
    return jax.lax.optimization_barrier(mixed).swapaxes(2, 3)

  mixed = jax.lax.platform_dependent(
    weights,
    x,
    cpu=turned,
    default=functools.partial(_product, 'bhqs,bhqk->bhsk'),
  )
  return mixed.astype(x.dtype)


def _product(axes: str, x: jax.Array, y: jax.Array) -> jax.Array:
  """An einsum of two of one dtype; sums and result are float32."""
  return jnp.einsum(
    axes,
    x,
    y,
    precision=_precision(x.dtype),
    preferred_element_type=jnp.float32,
  )


def _softmax(logits: jax.Array, mask: jax.Array) -> jax.Array:
  """Softmax over the last axis, float32; 0 where `mask` is false."""
  return jax.nn.softmax(jnp.where(mask, logits, _MASKED))


def _precision(dtype) -> jax.lax.Precision | None:
  """Without it a TPU multiplies float32 as bfloat16, a GPU as TF32."""
  is_float32 = jnp.dtype(dtype) == jnp.float32
  return jax.lax.Precision.HIGHEST if is_float32 else None


def _like(vector, x):
  """[D] -> [1, ..., D], of the rank of x."""
  return vector.reshape((1,) * (x.ndim - 1) + vector.shape)
