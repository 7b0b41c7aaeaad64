"""The losses of fine-tuning, of logits alone.

Sums and not means, so that the microbatches of a batch add up; what a sum is
the mean over is for the caller to count.

Axes: B rows, T target tokens, V vocabulary, G lists, L rows of a list.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

MONOT5, RANKT5 = 'monot5', 'rankt5'  # What the macro LOSS may be.

_PAD_ID = 0
_NO_ROW = -1e30  # Its exponential is 0, and it has a gradient, unlike -inf.


class Sums(NamedTuple):
  """Over a microbatch, each [] float32; filler rows count for nothing."""

  loss: jax.Array  # Over target tokens, z-loss in it; or over lists.
  z_loss: jax.Array  # The part of it that is z-loss.
  num_correct: jax.Array  # Rows whose label word is likelier; or lists.


# (logits [B, T, V] float32, targets [B, T] int32, labels [B] int32) -> Sums
Loss = Callable[[jax.Array, jax.Array, jax.Array], Sums]


def make(
  name: str, token_ids: Sequence[int], *, z_loss: float, list_size: int
) -> Loss:
  """The loss of a name, as a function of logits, targets and labels.

  Args:
    name: 'monot5' or 'rankt5'.
    token_ids: of the label words, false and true; or of RankT5's logit.
    z_loss: its factor, for monoT5.
    list_size: L, for RankT5.
  """
  if name == RANKT5:
    (logit_id,) = token_ids
    return functools.partial(rankt5, logit_id=logit_id, list_size=list_size)
  false_id, true_id = token_ids
  return functools.partial(monot5, label_ids=(false_id, true_id), z_loss=z_loss)


def monot5(
  logits: jax.Array,
  targets: jax.Array,
  labels: jax.Array,
  *,
  label_ids: tuple[int, int],
  z_loss: float,
) -> Sums:
  """Cross entropy over the vocabulary, summed over target tokens.

  arXiv:2003.06713, with the z-loss of t5x.

  Args:
    logits: [B, T, V] float32.
    targets: [B, T] int32: the label word and </s>; 0 in filler rows.
    labels: [B] int32, 1 or 0.
    label_ids: tokens of the label words, false and true.
    z_loss: factor of the squared log of the softmax's denominator.
  """
  is_target = targets != _PAD_ID  # [B, T]
  log_z = jax.nn.logsumexp(logits, axis=-1)  # [B, T]
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  penalty = z_loss * jnp.square(log_z)
  false_id, true_id = label_ids
  says_true = logits[:, 0, true_id] > logits[:, 0, false_id]  # [B]
  is_correct = (says_true == (labels == 1)) & is_target[:, 0]
  return Sums(
    loss=jnp.sum(jnp.where(is_target, log_z - chosen + penalty, 0.0)),
    z_loss=jnp.sum(jnp.where(is_target, penalty, 0.0)),
    num_correct=jnp.sum(is_correct.astype(jnp.float32)),
  )


def rankt5(
  logits: jax.Array,
  targets: jax.Array,
  labels: jax.Array,
  *,
  logit_id: int,
  list_size: int,
) -> Sums:
  """Softmax cross entropy of each list's positive, summed over lists.

  arXiv:2210.10634: the score of each of a query's documents is one logit, at
  the first decoder step.

  Args:
    logits: [B, T, V] float32, B = G * L: list after list, its positive first.
    targets: [B, T] int32; 0 in filler rows, which a list shorter than L has.
    labels: are not read: the positive's place says it.
    logit_id: the token whose logit is the score.
    list_size: L.
  """
  del labels
  scores = logits[:, 0, logit_id].reshape(-1, list_size)  # [G, L]
  is_row = (targets[:, 0] != _PAD_ID).reshape(-1, list_size)
  scores = jnp.where(is_row, scores, _NO_ROW)
  is_list = is_row[:, 0]
  loss = jax.nn.logsumexp(scores, axis=-1) - scores[:, 0]  # [G]
  is_first = jnp.all(scores[:, :1] > scores[:, 1:], axis=-1)
  return Sums(
    loss=jnp.sum(jnp.where(is_list, loss, 0.0)),
    z_loss=jnp.zeros((), jnp.float32),
    num_correct=jnp.sum((is_first & is_list).astype(jnp.float32)),
  )
