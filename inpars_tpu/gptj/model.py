"""GPT-J's network: a shared prefix, the rest of each prompt, one new token.

Pure functions over a tree of parameters; knows no tokenizer and no files.
The prefix that all prompts share is a block of keys and values of its own,
[H, P, K] a layer: every row attends to it in place, none has a copy.

Axis letters: B batch, P shared prefix, S own prompt (padded), C cache
positions, Q query positions, H heads, K head dim, D model dim, V vocabulary.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import linear

Config = config_lib.GPTJConfig
Params = dict[str, Any]  # As `convert.load` makes it.

_MASKED = -1e9  # Added to float32 scores; its exponential is exactly 0.


class KeysValues(NamedTuple):
  """Keys and values of one layer: the prefix's, or a batch's own."""

  keys: jax.Array  # [H, P, K] of a prefix, [B, H, C, K] of a batch.
  values: jax.Array  # The same.


Prefix = list[KeysValues]  # A layer each.
Cache = list[KeysValues]


def layer_norm(x: jax.Array, weights: Params, epsilon: float) -> jax.Array:
  """LayerNorm over the last axis, in float32; returns the dtype of x."""
  wide = x.astype(jnp.float32)
  mean = jnp.mean(wide, axis=-1, keepdims=True)
  variance = jnp.var(wide, axis=-1, keepdims=True)
  normal = (wide - mean) * jax.lax.rsqrt(variance + epsilon)
  scale = weights['scale'].astype(jnp.float32)
  bias = weights['bias'].astype(jnp.float32)
  return (normal * _like(scale, normal) + _like(bias, normal)).astype(x.dtype)


def rotate(x: jax.Array, positions: jax.Array, rotary_dim: int) -> jax.Array:
  """Rotary position embedding of the first `rotary_dim` dims, interleaved.

  Dimensions 2i and 2i + 1 turn by position / 10000^(2i / rotary_dim), as in
  mesh-transformer-jax and Hugging Face's rotate_every_two.

  Args:
    x: [B, Q, H, K] queries or keys.
    positions: [B, Q] int32.
    rotary_dim: even, at most K.
  """
  exponents = jnp.arange(0, rotary_dim, 2, dtype=jnp.float32) / rotary_dim
  angles = positions.astype(jnp.float32)[..., None] * _like(
    10_000.0**-exponents, positions[..., None]
  )  # [B, Q, rotary_dim / 2]
  sine, cosine = jnp.sin(angles)[:, :, None], jnp.cos(angles)[:, :, None]
  turned, rest = x[..., :rotary_dim], x[..., rotary_dim:]
  even = turned[..., 0::2].astype(jnp.float32)
  odd = turned[..., 1::2].astype(jnp.float32)
  pairs = jnp.stack(
    [even * cosine - odd * sine, odd * cosine + even * sine], axis=-1
  )  # [B, Q, H, rotary_dim / 2, 2]
  turned = pairs.reshape(turned.shape).astype(x.dtype)
  return jnp.concatenate([turned, rest], axis=-1)


def attend(
  queries: jax.Array, prefix: KeysValues, own: KeysValues, bias: jax.Array
) -> jax.Array:
  """One softmax over the shared prefix and each row's own positions.

  Args:
    queries: [B, Q, H, K].
    prefix: [H, P, K] keys and values, all of them visible to every query.
    own: [B, H, C, K] keys and values.
    bias: [B, 1, Q, C] float32, 0 where a query sees a position.

  Returns:
    [B, Q, H * K].
  """
  scale = queries.shape[-1] ** -0.5
  wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  # Heads lead where the prefix is concerned: one matrix product a head, for
  # all rows. (The CPU compiler refuses bfloat16 in the other order.)
  to_prefix = wide('bqhk,hpk->hbqp', queries, prefix.keys) * scale
  to_own = wide('bqhk,bhck->bhqc', queries, own.keys) * scale + bias
  top = jnp.maximum(  # [B, H, Q]
    jnp.max(to_own, axis=-1),
    jnp.max(to_prefix, axis=-1, initial=_MASKED).swapaxes(0, 1),
  )
  to_prefix = jnp.exp(to_prefix - top.swapaxes(0, 1)[..., None])
  to_own = jnp.exp(to_own - top[..., None])
  total = to_prefix.sum(axis=-1).swapaxes(0, 1) + to_own.sum(axis=-1)
  dtype = own.values.dtype
  mixed = wide('hbqp,hpk->hbqk', to_prefix.astype(dtype), prefix.values)
  mixed = mixed.swapaxes(0, 1) + wide(
    'bhqc,bhck->bhqk', to_own.astype(dtype), own.values
  )
  mixed = (mixed / total[..., None]).swapaxes(1, 2)  # [B, Q, H, K]
  return mixed.reshape(*mixed.shape[:2], -1).astype(dtype)


def embed(params: Params, tokens: jax.Array) -> jax.Array:
  """[...] int32 tokens -> [..., D]; GPT-J adds no position embedding."""
  return params['embedding'][tokens]


def logits(params: Params, config: Config, x: jax.Array) -> jax.Array:
  """[B, D] hidden states after the last block -> [B, V] float32."""
  x = layer_norm(x, params['final_norm'], config.layer_norm_epsilon)
  head = params['head']
  out = jnp.einsum(
    'bd,dv->bv', x, head['kernel'], preferred_element_type=jnp.float32
  )
  return out + _like(head['bias'].astype(jnp.float32), out)


def prefill(
  params: Params,
  config: Config,
  prefix: Prefix,
  tokens: jax.Array,
  lengths: jax.Array,
) -> tuple[jax.Array, Cache]:
  """Reads each row's own part of the prompt, after the shared prefix.

  The last layer computes keys and values for every position and all else for
  each row's last one alone: nothing more is used.

  Args:
    params: from `convert.load`.
    config: sizes.
    prefix: keys and values of the prefix, from `prefill_prefix`.
    tokens: [B, S] int32, padded on the right.
    lengths: [B] int32, at least 1.

  Returns:
    [B, V] float32 logits after each row's last token, and the keys and values
    of the S own tokens, [B, H, S, K] a layer.
  """
  num_rows, num_tokens = tokens.shape
  prefix_length = prefix[0].keys.shape[1]
  steps = jnp.arange(num_tokens, dtype=jnp.int32)
  positions = jnp.broadcast_to(prefix_length + steps, (num_rows, num_tokens))
  causal = _bias(steps[:, None] >= steps[None, :])[None, None]
  last = (lengths - 1)[:, None]  # [B, 1]
  x = embed(params, tokens)  # [B, S, D]
  cache: Cache = []
  for layer, shared in zip(params['layers'], prefix, strict=True):
    normal = layer_norm(x, layer['norm'], config.layer_norm_epsilon)
    own = _keys_values(layer, config, normal, positions)
    bias, at = causal, positions
    if len(cache) == config.num_layers - 1:
      pick = functools.partial(
        jnp.take_along_axis, indices=last[..., None], axis=1
      )
      x, normal = pick(x), pick(normal)  # [B, 1, D]
      bias = _bias(steps[None, :] <= last)[:, None, None]
      at = prefix_length + last
    x = _block(layer, config, x, normal, at, shared, own, bias)
    cache.append(own)
  return logits(params, config, x[:, 0]), cache


def prefill_prefix(params: Params, config: Config, tokens: jax.Array) -> Prefix:
  """Keys and values of the prefix that all prompts share; tokens [P] int32."""
  num_tokens = tokens.shape[0]
  if not num_tokens:
    return empty_prefix(params, config)
  _, cache = prefill(
    params,
    config,
    empty_prefix(params, config),
    tokens[None],
    jnp.array([num_tokens], jnp.int32),
  )
  return [KeysValues(own.keys[0], own.values[0]) for own in cache]


def empty_prefix(params: Params, config: Config) -> Prefix:
  """A prefix of no tokens: prompts that share nothing."""
  none = jnp.zeros(
    (config.num_heads, 0, config.head_dim), params['embedding'].dtype
  )
  return [KeysValues(none, none)] * config.num_layers


def decode_step(
  params: Params,
  config: Config,
  prefix: Prefix,
  tokens: jax.Array,
  positions: jax.Array,
  slot: jax.Array,
  is_visible: jax.Array,
  cache: Cache,
) -> tuple[jax.Array, Cache]:
  """One more token of each row.

  Every row writes the same cache slot, whatever its true position, so that a
  step is one slice; which slots are a row's own the caller says.

  Args:
    params: from `convert.load`.
    config: sizes.
    prefix: from `prefill_prefix`.
    tokens: [B] int32, the token chosen last.
    positions: [B] int32, its place after the prefix: own tokens before it.
    slot: [] int32, where in the cache it is written.
    is_visible: [B, C] bool, slots of the row's own tokens, this one included.
    cache: [B, H, C, K] a layer.

  Returns:
    [B, V] float32 logits of the next token, and the cache.
  """
  positions = (prefix[0].keys.shape[1] + positions)[:, None]  # [B, 1]
  bias = _bias(is_visible)[:, None, None]
  x = embed(params, tokens)[:, None]  # [B, 1, D]
  new_cache: Cache = []
  for layer, shared, old in zip(params['layers'], prefix, cache, strict=True):
    normal = layer_norm(x, layer['norm'], config.layer_norm_epsilon)
    new = _keys_values(layer, config, normal, positions)
    own = KeysValues(
      *(
        jax.lax.dynamic_update_slice_in_dim(whole, part, slot, axis=2)
        for whole, part in zip(old, new, strict=True)
      )
    )
    x = _block(layer, config, x, normal, positions, shared, own, bias)
    new_cache.append(own)
  return logits(params, config, x[:, 0]), new_cache


def empty_cache(
  params: Params, config: Config, num_rows: int, cache_size: int
) -> Cache:
  """A cache of [B, H, C, K] zeros a layer."""
  shape = (num_rows, config.num_heads, cache_size, config.head_dim)
  dtype = params['embedding'].dtype
  return [
    KeysValues(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
    for _ in range(config.num_layers)
  ]


def put_rows(cache: Cache, new: Cache, rows: jax.Array) -> Cache:
  """Writes a batch's keys and values over some rows of a larger cache.

  Args:
    cache: [B, H, C, K] a layer.
    new: [F, H, S, K] a layer, S at most C.
    rows: [F] int32, all different.
  """
  num_tokens = new[0].keys.shape[2]
  return [
    KeysValues(
      *(
        whole.at[rows, :, :num_tokens].set(part)
        for whole, part in zip(old, own, strict=True)
      )
    )
    for old, own in zip(cache, new, strict=True)
  ]


def _keys_values(layer, config, normal, positions) -> KeysValues:
  """[B, S, D] normalised inputs -> rotated keys, values [B, H, S, K]."""
  keys = _heads(linear.multiply(normal, layer['key']), config)
  keys = rotate(keys, positions, config.rotary_dim)
  values = _heads(linear.multiply(normal, layer['value']), config)
  return KeysValues(keys.swapaxes(1, 2), values.swapaxes(1, 2))


def _block(layer, config, x, normal, positions, prefix, own, bias):
  """Attention and MLP in parallel, both of the same normalised input."""
  queries = _heads(linear.multiply(normal, layer['query']), config)
  queries = rotate(queries, positions, config.rotary_dim)
  mixed = linear.multiply(attend(queries, prefix, own, bias), layer['out'])
  inner = linear.multiply(normal, layer['mlp_in']['kernel'])
  inner = inner + _like(layer['mlp_in']['bias'], inner)
  inner = jax.nn.gelu(inner, approximate=True)  # gelu_new.
  outer = linear.multiply(inner, layer['mlp_out']['kernel'])
  return x + mixed + outer + _like(layer['mlp_out']['bias'], outer)


def _heads(x: jax.Array, config: Config) -> jax.Array:
  return x.reshape(*x.shape[:-1], config.num_heads, config.head_dim)


def _bias(is_visible: jax.Array) -> jax.Array:
  return jnp.where(is_visible, jnp.float32(0), jnp.float32(_MASKED))


def _like(vector: jax.Array, x: jax.Array) -> jax.Array:
  """A [D] vector with leading axes of one, as many as x has."""
  return vector.reshape((1,) * (x.ndim - 1) + (-1,))
