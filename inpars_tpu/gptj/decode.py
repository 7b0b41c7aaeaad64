"""Greedy decoding on the device.

Knows nothing of GPT-J's layers: the model is passed in as `decode_step`, so
that tests decode from a fake of three lines.

Shapes: B batch, T new tokens, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Cache = Any  # Pytree of arrays; opaque here.
DecodeStep = Callable[[jax.Array, jax.Array, Cache], tuple[jax.Array, Cache]]


class Continuation(NamedTuple):
  """Tokens chosen after the prompt, and how likely the model found each."""

  tokens: jax.Array  # [B, T] int32, 0 after the stop token.
  log_probs: jax.Array  # [B, T] float32, natural log, 0.0 after the stop token.
  num_tokens: jax.Array  # [B] int32, the stop token among them.
  is_done: jax.Array  # [B] bool, a stop token was written.


class _State(NamedTuple):
  step: jax.Array  # [] int32, new tokens written so far, at least 1.
  last: jax.Array  # [B] int32, the token written last.
  cache: Cache
  out: Continuation


def greedy_decode(
  decode_step: DecodeStep,
  prompt_logits: jax.Array,
  cache: Cache,
  *,
  is_stop: jax.Array,
  is_filler: jax.Array,
  max_new_tokens: int,
) -> Continuation:
  """Appends the most likely token until a stop token or `max_new_tokens`.

  Only the chosen token and its log-probability leave a step, never the
  logits; the loop ends once every row has stopped.

  Args:
    decode_step: maps (tokens [B] int32, step [] int32, cache) to
      (logits [B, V] float32, cache); `step` counts new tokens before this one.
    prompt_logits: [B, V] float32 logits at the last prompt position.
    cache: already filled with the prompt.
    is_stop: [V] bool, tokens that end a row; the first one is kept.
    is_filler: [B] bool, rows that only fill the batch: done from the start.
    max_new_tokens: T.
  """
  num_rows = prompt_logits.shape[0]
  out = Continuation(
    tokens=jnp.zeros((num_rows, max_new_tokens), jnp.int32),
    log_probs=jnp.zeros((num_rows, max_new_tokens), jnp.float32),
    num_tokens=jnp.zeros(num_rows, jnp.int32),
    is_done=is_filler,
  )

  def choose(logits, step, out):
    best = jnp.argmax(logits, axis=-1).astype(jnp.int32)  # [B]
    log_prob = jnp.max(logits, axis=-1) - jax.nn.logsumexp(logits, axis=-1)
    best = jnp.where(out.is_done, 0, best)
    log_prob = jnp.where(out.is_done, 0.0, log_prob)
    return best, Continuation(
      tokens=out.tokens.at[:, step].set(best),
      log_probs=out.log_probs.at[:, step].set(log_prob),
      num_tokens=out.num_tokens + (~out.is_done).astype(jnp.int32),
      is_done=out.is_done | is_stop[best],
    )

  def keep_going(state: _State) -> jax.Array:
    return (state.step < max_new_tokens) & ~jnp.all(state.out.is_done)

  def body(state: _State) -> _State:
    logits, cache = decode_step(state.last, state.step - 1, state.cache)
    last, out = choose(logits, state.step, state.out)
    return _State(state.step + 1, last, cache, out)

  last, out = choose(prompt_logits, jnp.int32(0), out)
  start = _State(jnp.int32(1), last, cache, out)
  return jax.lax.while_loop(keep_going, body, start).out
