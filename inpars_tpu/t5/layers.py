"""The layers of a T5: feed-forward, norm, embedding, positions.

Parameters carry t5x's names and logical axes, and its initial distributions.

Axes: B batch, Q queries, S keys, D d_model, H heads, F d_ff.
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
from inpars_tpu.t5 import dropout

_ACTIVATIONS = {
  'relu': jax.nn.relu,
  'gelu_new': lambda x: jax.nn.gelu(x, approximate=True),
}

# Below, a product over the rows is bound by what it writes, and what is written
# turned is added to its sum at a quarter of the speed: T5's decoder.
_FEW_ROWS = 32
# What a product of so few rows and so many numbers comes to, of T5's head, is
# best not written at all: of 60M parameters 63 MiB, and 1 to 5% of the time.
_FEWEST_ROWS, _MANY_NUMBERS = 8, 1 << 22


def matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """x [..., D] @ kernel [D, F]; float32 is exact on every device."""
  if x.dtype == kernel.dtype == jnp.bfloat16:
    return _narrow_matmul(x, kernel)
  return _wide_matmul(x, kernel)


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


@jax.custom_vjp
def _wide_matmul(x, kernel):
  """x [..., D] @ kernel [D, F] of float32."""
  return jnp.matmul(x, kernel, precision=precision(x.dtype))


def _wide_matmul_forward(x, kernel):
  return _wide_matmul(x, kernel), (x, kernel)


def _wide_matmul_backward(saved, slope):
  x, kernel = saved
  of_kernel = jax.lax.platform_dependent(
    x, slope, cpu=_sum_over_rows_turned, default=_sum_over_rows
  )
  by_x = jnp.matmul(slope, kernel.T, precision=precision(x.dtype))
  return by_x, of_kernel


def _sum_over_rows(x, slope):
  """x [..., D], slope [..., F] -> [D, F]."""
  axes = tuple(range(x.ndim - 1))
  return jnp.tensordot(
    x, slope, axes=(axes, axes), precision=precision(x.dtype)
  )


def _sum_over_rows_turned(x, slope):
  """The same, of the narrower operand turned first.

  Left alone XLA turns the wider one on a CPU, and multiplies at two thirds of
  the speed; the barriers keep it from that. Of few rows either is quickly
  turned, and the result need not be.
  """
  x, slope = (y.reshape(-1, y.shape[-1]) for y in (x, slope))
  is_large = x.shape[1] * slope.shape[1] >= _MANY_NUMBERS
  if is_large and x.shape[0] <= _FEWEST_ROWS:
    # No dot to XLA, which adds each number to its sum as it computes it.
    return sum(map(jnp.outer, x, slope))
  multiply = functools.partial(jnp.matmul, precision=precision(x.dtype))
  barrier = jax.lax.optimization_barrier
  if x.shape[1] <= slope.shape[1] or x.shape[0] <= _FEW_ROWS:
    return multiply(barrier(x.T), slope)
  return barrier(multiply(barrier(slope.T), x)).T


_wide_matmul.defvjp(_wide_matmul_forward, _wide_matmul_backward)


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
    return _look_up(table, buckets)[None]


def _look_up(table: jax.Array, buckets: np.ndarray) -> jax.Array:
  """table [H, N] -> what it has for each of buckets [Q, Q]: [H, Q, Q].

  Of `buckets` all that counts is the distance, as in `position_buckets`.
  """

  def take(table):
    return jnp.take(table, buckets, axis=1)

  def backward(_, slope):
    return jax.lax.platform_dependent(
      slope,
      cpu=lambda slope: (_sum_by_diagonals(slope, buckets, table.shape[1]),),
      default=jax.linear_transpose(take, table),
    )

  look_up = jax.custom_vjp(take)
  look_up.defvjp(lambda table: (take(table), None), backward)
  return look_up(table)


def _sum_by_diagonals(
  slope: jax.Array, buckets: np.ndarray, num_buckets: int
) -> jax.Array:
  """slope [H, Q, Q] -> [H, N], its sum over each bucket of distances.

  Row by row on to its diagonals. Added straight to the buckets, on a CPU, the
  slopes of all layers are computed again in an order that no cache likes: a
  fifteenth of the time of one row of 384 tokens.
  """
  num_heads, length, _ = slope.shape

  def add(query, sums):
    row = jax.lax.dynamic_index_in_dim(slope, query, axis=1, keepdims=False)
    start = length - 1 - query
    part = jax.lax.dynamic_slice_in_dim(sums, start, length, axis=1)
    return jax.lax.dynamic_update_slice_in_dim(sums, part + row, start, axis=1)

  sums = jnp.zeros((num_heads, 2 * length - 1), slope.dtype)
  sums = jax.lax.fori_loop(0, length, add, sums)
  # Of the diagonals, in their order: the first column upwards, the first row.
  of_diagonal = np.concatenate([buckets[:0:-1, 0], buckets[0]])
  by_bucket = jnp.zeros((num_heads, num_buckets), slope.dtype)
  return by_bucket.at[:, of_diagonal].add(sums)


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

  def __call__(self, x, *, kept=None):
    """x [B, S, D], kept [B, 1, F] bool or None -> [B, S, D] of `dtype`."""
    activation = _ACTIVATIONS[self.config.activation]
    if self.config.is_gated:
      x = activation(self.wi_0(x)) * self.wi_1(x)
    else:
      x = activation(self.wi(x))
    x = dropout.apply(x, kept, self.config.dropout_rate)
    x = partitioning.with_sharding_constraint(x, ('batch', 'length', 'mlp'))
    return self.wo(x)


def precision(dtype) -> jax.lax.Precision | None:
  """Without it a TPU multiplies float32 as bfloat16, a GPU as TF32."""
  is_float32 = jnp.dtype(dtype) == jnp.float32
  return jax.lax.Precision.HIGHEST if is_float32 else None


def _like(vector, x):
  """[D] -> [1, ..., D], of the rank of x."""
  return vector.reshape((1,) * (x.ndim - 1) + vector.shape)
