"""GPT-J's network: a shared prefix, the rest of each prompt, one new token.

Pure functions over a tree of parameters; knows no tokenizer and no files.
The prefix that all prompts share is a block of keys and values of its own:
every row attends to it in place, none has a copy.

Axis letters: B batch, S own prompt (padded), C cache positions, H heads, K head
dim, D model dim, V vocabulary.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inpars_tpu.gptj import attention, linear
from inpars_tpu.gptj import config as config_lib

Config = config_lib.GPTJConfig
Params = dict[str, Any]  # As `convert.load` makes it.


class Projections(NamedTuple):
  """What a layer makes of its input before it attends to anything."""

  queries: jax.Array  # [..., H * K], not rotated.
  keys: jax.Array  # The same.
  values: jax.Array  # [..., H * K]
  outer: jax.Array  # [..., D], what its MLP puts out.


class Table(NamedTuple):
  """`Projections` of the first layer, by token: see `tabulate`."""

  places: jax.Array  # [V] int32, where a token stands in `rows`.
  rows: Projections  # [n, ...] of n tokens; of no other is it known.


Prefix = list[attention.KeysValues]  # A layer each.
Cache = list[attention.KeysValues]


def layer_norm(x: jax.Array, weights: Params, epsilon: float) -> jax.Array:
  """LayerNorm over the last axis, in float32; returns the dtype of x."""
  wide = x.astype(jnp.float32)
  mean = jnp.mean(wide, axis=-1, keepdims=True)
  variance = jnp.var(wide, axis=-1, keepdims=True)
  normal = (wide - mean) * jax.lax.rsqrt(variance + epsilon)
  scale = weights['scale'].astype(jnp.float32)
  bias = weights['bias'].astype(jnp.float32)
  return (normal * _like(scale, normal) + _like(bias, normal)).astype(x.dtype)


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

  Args:
    params: from `convert.load`.
    config: sizes.
    prefix: keys and values of the prefix, from `prefill_prefix`.
    tokens: [B, S] int32, padded on the right.
    lengths: [B] int32, at least 1.

  Returns:
    [B, V] float32 logits after each row's last token, and the keys and values
    of the S own tokens.
  """
  prefix_length = prefix[0].values.shape[1]
  steps = jnp.arange(tokens.shape[1], dtype=jnp.int32)
  turns = attention.rotation((prefix_length + steps)[None], config.rotary_dim)
  last = (lengths - 1)[:, None]  # [B, 1]
  x = embed(params, tokens)  # [B, S, D]
  cache: Cache = []
  for number, shared in enumerate(prefix):
    parts = _project(params, config, number, tokens, x)
    own = _keys_values(config, parts, turns)
    if number < config.num_layers - 1:
      queries = _queries(config, parts, turns)
      mixed = attention.attend_causally(queries, shared, own)
    else:
      x, tokens = (  # [B, 1, D], [B, 1]
        jnp.take_along_axis(x, last[..., None], axis=1),
        jnp.take_along_axis(tokens, last, axis=1),
      )
      # Of what the other positions would have had here, nothing is computed
      # but keys and values: nothing else is used.
      parts = _project(params, config, number, tokens, x)
      turns = attention.rotation(prefix_length + last, config.rotary_dim)
      queries = _queries(config, parts, turns)
      bias = attention.mask_bias(steps[None, :] <= last)[None, :, None]
      mixed = attention.attend(queries, shared, own, bias)
    x = (
      x + linear.multiply(mixed, params['layers'][number]['out']) + parts.outer
    )
    cache.append(own)
  return logits(params, config, x[:, 0]), cache


def read(
  params: Params, config: Config, prefix: Prefix, tokens: jax.Array
) -> jax.Array:
  """Hidden states after the last block at every position, as training wants.

  Args:
    params: from `convert.load`.
    config: sizes.
    prefix: keys and values that every row sees, from `prefill_prefix`.
    tokens: [B, S] int32, padded on the right.

  Returns:
    [B, S, D], for `logits`.
  """
  positions = prefix[0].values.shape[1] + jnp.arange(tokens.shape[1])
  turns = attention.rotation(positions[None], config.rotary_dim)
  x = embed(params, tokens)
  for number, shared in enumerate(prefix):
    parts = _project(params, config, number, tokens, x)
    mixed = attention.attend_causally(
      _queries(config, parts, turns), shared, _keys_values(config, parts, turns)
    )
    x = (
      x + linear.multiply(mixed, params['layers'][number]['out']) + parts.outer
    )
  return x


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
  return [
    attention.KeysValues(own.keys[:, 0].swapaxes(1, 2), own.values[:, 0])
    for own in cache
  ]


def empty_prefix(params: Params, config: Config) -> Prefix:
  """A prefix of no tokens: prompts that share nothing."""
  heads, dims = config.num_heads, config.head_dim
  zeros = functools.partial(jnp.zeros, dtype=params['embedding'].dtype)
  none = attention.KeysValues(zeros((heads, dims, 0)), zeros((heads, 0, dims)))
  return [none] * config.num_layers


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
    cache: keys and values of C slots.

  Returns:
    [B, V] float32 logits of the next token, and the cache.
  """
  positions = (prefix[0].values.shape[1] + positions)[:, None]  # [B, 1]
  turns = attention.rotation(positions, config.rotary_dim)
  bias = attention.mask_bias(is_visible)[None, :, None]
  x = embed(params, tokens)[:, None]  # [B, 1, D]
  write = jax.lax.dynamic_update_slice_in_dim
  new_cache: Cache = []
  for number, (shared, old) in enumerate(zip(prefix, cache, strict=True)):
    parts = _project(params, config, number, tokens[:, None], x)
    new = _keys_values(config, parts, turns)
    own = attention.KeysValues(
      *(write(*pair, slot, axis=2) for pair in zip(old, new, strict=True))
    )
    mixed = attention.attend(_queries(config, parts, turns), shared, own, bias)
    x = (
      x + linear.multiply(mixed, params['layers'][number]['out']) + parts.outer
    )
    new_cache.append(own)
  return logits(params, config, x[:, 0]), new_cache


def empty_cache(
  params: Params, config: Config, num_rows: int, size: int
) -> Cache:
  """A cache of zeros: B rows of C = size slots."""
  shape = (config.num_heads, num_rows, size, config.head_dim)
  dtype = params['embedding'].dtype
  return [
    attention.KeysValues(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
    for _ in range(config.num_layers)
  ]


def put_rows(cache: Cache, new: Cache, rows: jax.Array) -> Cache:
  """Writes a batch's keys and values over some rows of a larger cache.

  Args:
    cache: of B rows of C slots.
    new: of F rows of S slots, S at most C.
    rows: [F] int32, all different.
  """
  num_tokens = new[0].values.shape[2]
  return [
    attention.KeysValues(
      *(
        whole.at[:, rows, :num_tokens].set(part)
        for whole, part in zip(old, own, strict=True)
      )
    )
    for old, own in zip(cache, new, strict=True)
  ]


def tabulate(params: Params, config: Config, tokens: jax.Array) -> Table:
  """What the first layer makes of some tokens of the vocabulary.

  GPT-J adds no position to the embedding, and its MLP reads what its attention
  reads: all of the first layer before attention is a function of the token
  (arXiv:2402.13388). As params['first'] it spares 11/12 of that layer's
  multiplications, where no token is read but these.

  Args:
    params: from `convert.load`.
    config: sizes.
    tokens: [n] int32, in any order; one may stand there twice.
  """
  places = jnp.zeros(config.vocab_size, jnp.int32)
  return Table(
    places.at[tokens].set(jnp.arange(len(tokens), dtype=jnp.int32)),
    project(params['layers'][0], config, embed(params, tokens)),
  )


def project(layer: Params, config: Config, x: jax.Array) -> Projections:
  """What a layer makes of its input [..., D] before it attends to anything."""
  normal = layer_norm(x, layer['norm'], config.layer_norm_epsilon)
  inner = linear.multiply(normal, layer['mlp_in']['kernel'])
  inner = inner + _like(layer['mlp_in']['bias'], inner)
  inner = jax.nn.gelu(inner, approximate=True)  # gelu_new.
  outer = linear.multiply(inner, layer['mlp_out']['kernel'])
  return Projections(
    linear.multiply(normal, layer['query']),
    linear.multiply(normal, layer['key']),
    linear.multiply(normal, layer['value']),
    outer + _like(layer['mlp_out']['bias'], outer),
  )


def _project(params, config, number, tokens, x) -> Projections:
  """`project` of layer `number`; of the first, from its table if it has one."""
  if number == 0 and 'first' in params:
    table = params['first']
    places = table.places[tokens]
    return Projections(*(part[places] for part in table.rows))
  return project(params['layers'][number], config, x)


def _keys_values(config, parts: Projections, turns) -> attention.KeysValues:
  """Of B rows of S positions."""
  keys = attention.rotate(_heads(parts.keys, config), turns)
  values = _heads(parts.values, config)
  return attention.KeysValues(
    *(part.transpose(2, 0, 1, 3) for part in (keys, values))
  )


def _queries(config, parts: Projections, turns) -> jax.Array:
  """[H, B, S, K]."""
  queries = attention.rotate(_heads(parts.queries, config), turns)
  return queries.transpose(2, 0, 1, 3)


def _heads(x: jax.Array, config: Config) -> jax.Array:
  return x.reshape(*x.shape[:-1], config.num_heads, config.head_dim)


def _like(vector: jax.Array, x: jax.Array) -> jax.Array:
  """A [D] vector with leading axes of one, as many as x has."""
  return vector.reshape((1,) * (x.ndim - 1) + (-1,))
