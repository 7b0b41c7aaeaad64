"""Trains a GPT-J: the next token, Adam, one device.

Axes: B rows, S tokens of a row, P tokens of a prefix, D model dim, V
vocabulary.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import model

_WARMUP_STEPS = 60
_LAST_SHARE = 0.1  # Of the learning rate, at the last step.
_CLIP_NORM = 1.0


class Example(NamedTuple):
  """Tokens to read; how much each counts when it is to be foretold."""

  tokens: Sequence[int]
  weights: Sequence[float]


class Batch(NamedTuple):
  """Rows of one static shape."""

  inputs: np.ndarray  # [B, S] int32
  targets: np.ndarray  # [B, S] int32, the token after each.
  weights: np.ndarray  # [B, S] float32, of the targets; 0 where padded.


def pack(
  sequences: Iterable[Example], num_rows: int, num_tokens: int
) -> Iterator[Batch]:
  """Lays sequences end to end and cuts them into batches; drops the rest."""
  size = num_rows * num_tokens
  tokens: list[int] = []
  weights: list[float] = []
  for sequence in sequences:
    tokens += sequence.tokens
    weights += sequence.weights
    while len(tokens) > size:
      shape = (num_rows, num_tokens)
      yield Batch(
        np.array(tokens[:size], np.int32).reshape(shape),
        np.array(tokens[1 : size + 1], np.int32).reshape(shape),
        np.array(weights[1 : size + 1], np.float32).reshape(shape),
      )
      del tokens[:size], weights[:size]


def pad(
  sequences: Iterable[Example], num_rows: int, num_tokens: int
) -> Iterator[Batch]:
  """A row for each sequence; longer ones are left out."""
  rows: list[Example] = []
  for sequence in sequences:
    if len(sequence.tokens) <= num_tokens:
      rows.append(sequence)
    if len(rows) == num_rows:
      tokens = np.zeros((num_rows, num_tokens + 1), np.int32)
      weights = np.zeros((num_rows, num_tokens + 1), np.float32)
      for i, row in enumerate(rows):
        tokens[i, : len(row.tokens)] = row.tokens
        weights[i, : len(row.tokens)] = row.weights
      yield Batch(tokens[:, :-1], tokens[:, 1:], weights[:, 1:])
      rows = []


def loss(
  params: model.Params,
  config: config_lib.GPTJConfig,
  prefix: jax.Array,
  batch: Batch,
) -> jax.Array:
  """Weighted mean cross entropy, natural log.

  Args:
    params: float32.
    config: sizes.
    prefix: [P] int32, tokens that every row goes on from; P may be 0.
    batch: the rows.

  Returns:
    [] float32.
  """
  shared = model.prefill_prefix(params, config, prefix)
  hidden = model.read(params, config, shared, batch.inputs)  # [B, S, D]
  logits = model.logits(
    params, config, hidden.reshape(-1, config.model_dim)
  )  # [B * S, V]
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits, batch.targets.reshape(-1)
  )
  weights = batch.weights.reshape(-1)
  return jnp.sum(losses * weights) / jnp.sum(weights)


def fit(
  params: model.Params,
  config: config_lib.GPTJConfig,
  batches: Iterator[Batch],
  *,
  prefix: Sequence[int],
  num_steps: int,
  learning_rate: float,
  log: Callable[[int, float], None],
) -> model.Params:
  """Runs Adam, the learning rate falling as a cosine.

  Args:
    params: float32; given away.
    config: sizes.
    batches: of one shape; one is taken for each step.
    prefix: tokens that every row goes on from.
    num_steps: of the training.
    learning_rate: the highest.
    log: takes the step, from 1, and its loss.

  Returns:
    The trained parameters.
  """
  schedule = optax.warmup_cosine_decay_schedule(
    0.0,
    learning_rate,
    min(_WARMUP_STEPS, num_steps // 2),
    num_steps,
    learning_rate * _LAST_SHARE,
  )
  optimizer = optax.chain(
    optax.clip_by_global_norm(_CLIP_NORM),
    optax.adamw(schedule, b2=0.98, weight_decay=0.01),
  )
  compute = jax.value_and_grad(functools.partial(loss, config=config))

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def update(params, state, prefix, batch):
    value, gradients = compute(params, prefix=prefix, batch=batch)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, value

  state = optimizer.init(params)
  tokens = jnp.asarray(prefix, jnp.int32)
  for step in range(1, num_steps + 1):
    params, state, value = update(params, state, tokens, next(batches))
    log(step, float(value))
  return params
