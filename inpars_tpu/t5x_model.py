"""monoT5 as a model of t5x's: EncoderDecoderModel whose score is log P(true).

For t5x's own programs, by gin (gin/t5x/monot5.gin). Loss and optimizer stay
t5x's; what is added is the score of one pass, and of each step the numbers
that the embedded trainer writes too.

Axes: B batch, S input tokens, T target tokens, V vocabulary.
"""

import os
from collections.abc import Mapping
from typing import Any

import clu.metrics
import jax
import jax.numpy as jnp
import numpy as np
from t5x import metrics as metrics_lib
from t5x import models
from t5x import trainer as trainer_lib

from inpars_tpu import monot5, tokenizer
from inpars_tpu.t5 import network

Params = Mapping[str, Any]

# Of a step's metrics: as in metrics.jsonl, so that both trainers compare.
PREFIX = 'monot5/'
LOSS, Z_LOSS, ACCURACY = f'{PREFIX}loss', f'{PREFIX}z_loss', f'{PREFIX}accuracy'
GRAD_NORM, UPDATE_NORM = f'{PREFIX}grad_norm', f'{PREFIX}update_norm'


class MonoT5(models.EncoderDecoderModel):
  """Over any encoder-decoder module of t5x's names, ours or t5x's own."""

  def __init__(
    self,
    *args,
    spec: monot5.RerankerSpec = monot5.MONOT5,
    loss_normalizing_factor: float | None = None,
    **kwargs,
  ):
    """As t5x's, with what the model says.

    Args:
      *args: of t5x's.
      spec: its label words, or its logit.
      loss_normalizing_factor: the loss is divided by it; None: it is a sum.
      **kwargs: of t5x's.

    Raises:
      InputError: a label word that is not one piece of the vocabulary.
    """
    super().__init__(
      *args, loss_normalizing_factor=loss_normalizing_factor, **kwargs
    )
    file = self.output_vocabulary.sentencepiece_model_file
    self._token_ids = np.array(
      monot5.label_ids(spec, tokenizer.T5Tokenizer(os.path.dirname(file))),
      np.int32,
    )

  def score_batch(
    self,
    params: Params,
    batch: Mapping[str, jax.Array],
    return_intermediates: bool = False,
  ) -> jax.Array:
    """Scores the pairs of a batch in one pass; their targets are not read.

    Args:
      params: of the module.
      batch: with encoder_input_tokens, [B, S] int32, 0 where padded.
      return_intermediates: must be false.

    Returns:
      [B] float32: log P(true), or the one logit, as `t5.score.score_batch`.
    """
    if return_intermediates:
      raise ValueError('a monoT5 score has no intermediates')
    logits = self._first_logits(params, batch['encoder_input_tokens'])
    if logits.shape[1] == 1:
      return logits[:, 0]
    return -jax.nn.softplus(logits[:, 0] - logits[:, 1])

  def _first_logits(self, params: Params, inputs: jax.Array) -> jax.Array:
    """[B, S] -> [B, 2 or 1] float32: false and true, or the one logit."""
    if isinstance(self.module, network.Transformer):
      return self.module.apply(
        {'params': params}, inputs, self._token_ids, method='first_logits'
      )
    one = jnp.ones((inputs.shape[0], 1), jnp.int32)
    batch = {
      'encoder_input_tokens': inputs,
      'decoder_input_tokens': jnp.zeros_like(one),
      'decoder_target_tokens': one,  # Where it is 0, t5x masks everything.
    }
    logits = self._compute_logits(params, batch)  # [B, 1, V]
    return logits[:, 0, self._token_ids].astype(jnp.float32)

  def _compute_metrics(
    self, logits, targets, mask, loss, z_loss=None, segment_ids=None
  ):
    """t5x's, and those of metrics.jsonl: means over the target tokens."""
    metrics = super()._compute_metrics(
      logits=logits,
      targets=targets,
      mask=mask,
      loss=loss,
      z_loss=z_loss,
      segment_ids=segment_ids,
    )
    factor = self._loss_normalizing_factor or 1.0
    num_targets = jnp.sum(mask).astype(jnp.float32)
    metrics[LOSS] = clu.metrics.Average(loss * factor, num_targets)
    metrics[Z_LOSS] = clu.metrics.Average(z_loss * factor, num_targets)
    if len(self._token_ids) == 2:
      false_id, true_id = self._token_ids
      says_true = logits[:, 0, true_id] > logits[:, 0, false_id]  # [B]
      is_correct = says_true == (targets[:, 0] == true_id)
      is_row = mask[:, 0] > 0
      metrics[ACCURACY] = clu.metrics.Average(
        jnp.sum((is_correct & is_row).astype(jnp.float32)),
        jnp.sum(is_row.astype(jnp.float32)),
      )
    return metrics


class Norms(trainer_lib.WeightMetricsComputer):
  """Of all gradients, and of all changes, in place of t5x's for each tensor."""

  def compute_metrics(self, gradients, old_train_state, new_train_state):
    """The gradient's is of the loss as it is divided."""
    change = jax.tree.map(
      jnp.subtract, new_train_state.params, old_train_state.params
    )
    return {
      GRAD_NORM: _norm(gradients),
      UPDATE_NORM: _norm(change),
    }


def _norm(tree: Params) -> metrics_lib.AveragePerStep:
  total = sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree))
  return metrics_lib.AveragePerStep.from_model_output(jnp.sqrt(total))
