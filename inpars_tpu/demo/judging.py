"""Trains a T5 to judge: Adam, one device, a verdict on every word too.

The label word is one bit of a document and a question, too little for a small
encoder to learn from in minutes. So the encoder also says of every word of the
question, with the same two embeddings, whether the document bears it out.

Axes: B rows, S input tokens, T target tokens, D model dim, V vocabulary.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inpars_tpu import monot5
from inpars_tpu.demo import lessons
from inpars_tpu.t5 import config as t5_config
from inpars_tpu.t5 import network

Params = dict[str, Any]

_NO_VERDICT = -1
_WARMUP_STEPS = 100
_FALLING = 0.3  # Share of the steps, the last, in which the rate falls
_LAST_SHARE = 0.03  # in a line to this share of it.
_CLIP_NORM = 1.0
_END_WEIGHT = 0.05  # Of </s>, which is always the same.


class Batch(NamedTuple):
  """Rows of one static shape."""

  inputs: np.ndarray  # [B, S] int32, 0 where padded.
  verdicts: np.ndarray  # [B, S] int32: 1, 0, or -1 of what is no part.
  labels: np.ndarray  # [B] int32, 1 or 0.


class Encoder:
  """Lessons to rows, word by word."""

  def __init__(self, tokens):
    """Takes a T5Tokenizer, whose pieces never join words."""
    self._tokens = tokens
    self._known: dict[str, list[int]] = {}

  def encode(self, lesson: lessons.Lesson) -> tuple[list[int], list[int]]:
    """Tokens as `monot5.build_inputs` has them, and the verdict on each."""
    before, after = monot5.MONOT5.text('\0', '\1').split('\0')
    between, end = after.split('\1')
    ids: list[int] = []
    verdicts: list[int] = []
    for text, part in (
      (before, None),
      *lesson.question,
      (between, None),
      (lesson.document, None),
      (end, None),
    ):
      verdict = _NO_VERDICT if part is None else int(part not in lesson.wrong)
      for word in text.split():
        found = self._encode(word)
        ids += found
        verdicts += [verdict] * len(found)
    return [*ids, self._tokens.eos_id], [*verdicts, _NO_VERDICT]

  def batch(self, drawn: Sequence[lessons.Lesson], num_tokens: int) -> Batch:
    """Rows of lessons, cut or padded to so many tokens."""
    shape = (len(drawn), num_tokens)
    inputs = np.zeros(shape, np.int32)
    verdicts = np.full(shape, _NO_VERDICT, np.int32)
    for row, lesson in enumerate(drawn):
      ids, found = self.encode(lesson)
      length = min(len(ids), num_tokens)
      inputs[row, :length] = ids[:length]
      verdicts[row, :length] = found[:length]
    labels = np.array([lesson.label for lesson in drawn], np.int32)
    return Batch(inputs, verdicts, labels)

  def _encode(self, word: str) -> list[int]:
    if word not in self._known:
      self._known[word] = list(self._tokens.encode([word])[0])
    return self._known[word]


class Losses(NamedTuple):
  """Of a batch; each [] float32."""

  total: jax.Array
  accuracy: jax.Array  # Of the labels.
  word_accuracy: jax.Array  # Of the verdicts.


def loss(
  params: Params,
  net: network.Transformer,
  label_ids: Sequence[int],
  eos_id: int,
  batch: Batch,
) -> tuple[jax.Array, Losses]:
  """Mean cross entropy of the labels, and of the verdicts; natural log."""
  inputs, verdicts, labels = batch
  words = jnp.asarray(label_ids, jnp.int32)  # [2]: of 0, of 1.
  encoded = net.apply({'params': params}, inputs, method='encode')  # [B, S, D]
  embeddings = params['token_embedder']['embedding'][words]  # [2, D]
  scale = np.float32(encoded.shape[-1] ** -0.5)  # As of the tied head.
  word_logits = encoded @ embeddings.T * scale  # [B, S, 2]
  is_judged = verdicts != _NO_VERDICT
  num_judged = jnp.maximum(is_judged.sum(dtype=jnp.float32), 1)
  word_losses = optax.softmax_cross_entropy_with_integer_labels(
    word_logits, jnp.maximum(verdicts, 0)
  )
  is_right = jnp.argmax(word_logits, axis=-1) == verdicts

  ends = jnp.full_like(labels, eos_id)
  targets = jnp.stack([words[labels], ends], axis=1)  # [B, 2]
  started = jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  logits = net.apply(
    {'params': params}, encoded, inputs, started, targets, method='decode'
  )  # [B, 2, V]
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
  is_label = logits[:, 0, words].argmax(axis=-1) == labels
  total = (
    losses[:, 0].mean()
    + _END_WEIGHT * losses[:, 1].mean()
    + jnp.where(is_judged, word_losses, 0.0).sum() / num_judged
  )
  word_accuracy = is_right.sum(dtype=jnp.float32) / num_judged
  return total, Losses(total, is_label.mean(), word_accuracy)


def fit(
  params: Params,
  config: t5_config.T5Config,
  batches: Iterator[Batch],
  *,
  label_ids: Sequence[int],
  eos_id: int,
  num_steps: int,
  learning_rate: float,
  log: Callable[[int, Losses], None],
) -> Params:
  """Runs Adam; the learning rate grows, stays, and falls.

  Args:
    params: float32; given away.
    config: sizes; without dropout.
    batches: of few shapes; one is taken for each step.
    label_ids: of the words for 0 and 1.
    eos_id: the end of a target.
    num_steps: of the training.
    learning_rate: the highest.
    log: takes the step, from 1, and its losses.

  Returns:
    The trained parameters.
  """
  falling = max(int(_FALLING * num_steps), 1)
  warmup = min(_WARMUP_STEPS, max(num_steps // 4, 1))
  schedule = optax.join_schedules(
    [
      optax.linear_schedule(0.0, learning_rate, warmup),
      optax.constant_schedule(learning_rate),
      optax.linear_schedule(
        learning_rate, learning_rate * _LAST_SHARE, falling
      ),
    ],
    [warmup, num_steps - falling],
  )
  optimizer = optax.chain(
    optax.clip_by_global_norm(_CLIP_NORM),
    optax.adamw(schedule, b2=0.98, weight_decay=0.01),
  )
  net = network.Transformer(config, jnp.float32)
  compute = jax.value_and_grad(
    functools.partial(loss, net=net, label_ids=label_ids, eos_id=eos_id),
    has_aux=True,
  )

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def update(params, state, batch):
    (_, losses), gradients = compute(params, batch=batch)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, losses

  params = jax.tree.map(jnp.asarray, params)
  state = optimizer.init(params)
  for step in range(1, num_steps + 1):
    params, state, losses = update(params, state, next(batches))
    log(step, Losses(*map(float, losses)))
  return params
