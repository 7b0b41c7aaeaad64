"""Greedy decoding on the device, in rows that are filled anew when they end.

Knows nothing of GPT-J's layers: the model is passed in as `decode_step`, so
that tests decode from a fake of three lines.

A row's prompt stands in the first M slots of its cache; new tokens go round a
ring of T slots behind them. All rows write the same slot at a step, so rows
that began at different steps go on together.

Shapes: B rows, F rows filled at once, M prompt slots, T new tokens,
C = M + T cache slots, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Cache = Any  # Pytree of arrays; opaque here.
# Maps (tokens [B] int32, positions [B] int32, slot [] int32,
# is_visible [B, C] bool, cache) to (logits [B, V] float32, cache).
DecodeStep = Callable[
  [jax.Array, jax.Array, jax.Array, jax.Array, Cache],
  tuple[jax.Array, Cache],
]


class Rows(NamedTuple):
  """Rows being decoded: what each has written, and the shared clock."""

  tokens: jax.Array  # [B, T] int32, 0 after the stop token.
  log_probs: jax.Array  # [B, T] float32, natural log, 0.0 after the stop token.
  num_tokens: jax.Array  # [B] int32, the stop token among them.
  is_done: jax.Array  # [B] bool: a stop token, or T tokens, or nothing to do.
  has_stopped: jax.Array  # [B] bool, a stop token was written.
  lengths: jax.Array  # [B] int32, prompt tokens of each row.
  clock: jax.Array  # [] int32, steps taken by all rows together.


def empty_rows(num_rows: int, max_new_tokens: int) -> Rows:
  """Rows that have nothing to do."""
  return Rows(
    tokens=jnp.zeros((num_rows, max_new_tokens), jnp.int32),
    log_probs=jnp.zeros((num_rows, max_new_tokens), jnp.float32),
    num_tokens=jnp.zeros(num_rows, jnp.int32),
    is_done=jnp.ones(num_rows, bool),
    has_stopped=jnp.zeros(num_rows, bool),
    lengths=jnp.ones(num_rows, jnp.int32),
    clock=jnp.int32(0),
  )


def fill(
  rows: Rows,
  chosen: jax.Array,
  prompt_logits: jax.Array,
  lengths: jax.Array,
  *,
  is_stop: jax.Array,
  is_filler: jax.Array,
) -> Rows:
  """Starts new prompts in some rows: each writes its first token.

  Args:
    rows: of which `chosen` must be done.
    chosen: [F] int32, the rows to fill, all different.
    prompt_logits: [F, V] float32 logits after each prompt.
    lengths: [F] int32, tokens of each prompt.
    is_stop: [V] bool, tokens that end a row; the first one is kept.
    is_filler: [F] bool, prompts that only fill the batch up: done at once.
  """
  max_new_tokens = rows.tokens.shape[1]
  best, log_prob = _choose(prompt_logits)
  has_stopped = is_stop[best]
  first = jnp.arange(max_new_tokens, dtype=jnp.int32)[None] == 0
  is_done = has_stopped | is_filler | (max_new_tokens == 1)
  return Rows(
    tokens=rows.tokens.at[chosen].set(jnp.where(first, best[:, None], 0)),
    log_probs=rows.log_probs.at[chosen].set(
      jnp.where(first, log_prob[:, None], 0.0)
    ),
    num_tokens=rows.num_tokens.at[chosen].set(1),
    is_done=rows.is_done.at[chosen].set(is_done),
    has_stopped=rows.has_stopped.at[chosen].set(has_stopped),
    lengths=rows.lengths.at[chosen].set(lengths),
    clock=rows.clock,
  )


def advance(
  decode_step: DecodeStep,
  rows: Rows,
  cache: Cache,
  *,
  is_stop: jax.Array,
  num_prompt_slots: int,
  min_done: jax.Array,
  num_parts: int = 1,
) -> tuple[Rows, Cache]:
  """Appends the most likely token to every row, until enough rows are done.

  Only the chosen token and its log-probability leave a step, never the logits.

  Args:
    decode_step: the model.
    rows: at least one not done, or nothing happens.
    cache: [B, .., C, ..], the prompts of all rows in it.
    is_stop: [V] bool.
    num_prompt_slots: M.
    min_done: [] int32; stops as soon as so many rows of each part are done.
    num_parts: equal parts, one after the other, that the rows are in.
  """
  max_new_tokens = rows.tokens.shape[1]
  prompt_slots = jnp.arange(num_prompt_slots, dtype=jnp.int32)[None]
  ring = jnp.arange(max_new_tokens, dtype=jnp.int32)[None]

  def keep_going(state: tuple[Rows, Cache]) -> jax.Array:
    is_done = state[0].is_done.reshape(num_parts, -1)
    return jnp.min(jnp.sum(is_done, axis=1, dtype=jnp.int32)) < min_done

  def body(state: tuple[Rows, Cache]) -> tuple[Rows, Cache]:
    rows, cache = state
    place = rows.clock % max_new_tokens
    age = (place - ring) % max_new_tokens  # Of what stands in each ring slot.
    is_visible = jnp.concatenate(
      [
        prompt_slots < rows.lengths[:, None],
        age < rows.num_tokens[:, None],
      ],
      axis=1,
    )
    newest = jnp.maximum(rows.num_tokens - 1, 0)  # [B]
    logits, cache = decode_step(
      jnp.take_along_axis(rows.tokens, newest[:, None], axis=1)[:, 0],
      rows.lengths + newest,
      num_prompt_slots + place,
      is_visible,
      cache,
    )
    return _append(rows, logits, is_stop), cache

  return jax.lax.while_loop(keep_going, body, (rows, cache))


def _append(rows: Rows, logits: jax.Array, is_stop: jax.Array) -> Rows:
  """Writes the next token of the rows that are not done."""
  max_new_tokens = rows.tokens.shape[1]
  best, log_prob = _choose(logits)
  # No indices: rows that lie on several devices are not looked up on others.
  at = jnp.arange(max_new_tokens, dtype=jnp.int32)[None]
  is_new = (at == rows.num_tokens[:, None]) & ~rows.is_done[:, None]  # [B, T]
  num_tokens = rows.num_tokens + (~rows.is_done).astype(jnp.int32)
  has_stopped = rows.has_stopped | (~rows.is_done & is_stop[best])
  return rows._replace(
    tokens=jnp.where(is_new, best[:, None], rows.tokens),
    log_probs=jnp.where(is_new, log_prob[:, None], rows.log_probs),
    num_tokens=num_tokens,
    is_done=rows.is_done | has_stopped | (num_tokens == max_new_tokens),
    has_stopped=has_stopped,
    clock=rows.clock + 1,
  )


def _choose(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
  """[B, V] float32 -> the most likely token and its log-probability, [B]."""
  best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  log_prob = jnp.max(logits, axis=-1) - jax.nn.logsumexp(logits, axis=-1)
  return best, log_prob
