"""How well scores tell the positive of a held-out query from its negatives.

One owner of these numbers, for the embedded trainer and, through the metrics
of the seqio tasks, for t5x. numpy alone.

Axes: N pairs, in any order.
"""

import numpy as np

from inpars_tpu import errors

_LOG_HALF = np.log(0.5)
_ALMOST_SURE = -1e-30  # log P(true) above it has no log P(false).


def measure(
  scores: np.ndarray,
  labels: np.ndarray,
  groups: np.ndarray,
  *,
  is_listwise: bool,
) -> dict[str, float]:
  """Loss, accuracy and MRR of scored pairs.

  Args:
    scores: [N] log_prob_true, or the logits of a RankT5.
    labels: [N] 1 or 0.
    groups: [N] integers: the pairs of one query share one.
    is_listwise: the scores are a RankT5's.

  Returns:
    {'loss': cross entropy of the label between the two label words, mean over
      pairs; listwise: the loss that RankT5 is trained with, mean over queries,
    'accuracy': share of pairs whose label word is the likelier; listwise: of
      queries whose positive has the highest score,
    'mrr': mean over queries of 1 / rank of the positive}. A positive that ties
    with a negative comes after it.

  Raises:
    InputError: no pairs, a score that is no number, or a group that has not
      one positive.
  """
  scores = np.asarray(scores, np.float64)
  labels, groups = np.asarray(labels), np.asarray(groups)
  if not len(scores):
    raise errors.InputError('no pairs to validate with')
  if not np.isfinite(scores).all():
    raise errors.InputError(
      f'{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} scores of '
      'the validation pairs are no finite numbers'
    )
  order = np.lexsort((labels, -scores, groups))  # Best first in each group.
  scores, labels, groups = scores[order], labels[order], groups[order]
  names, starts = np.unique(groups, return_index=True)
  positives = np.flatnonzero(labels == 1)
  if not np.array_equal(groups[positives], names):
    raise errors.InputError(
      f'{len(positives)} positives in {len(names)} groups of validation '
      'pairs: each must have one'
    )
  ranks = 1 + positives - starts
  if is_listwise:
    log_sums = np.logaddexp.reduceat(scores, starts)
    losses, is_correct = log_sums - scores[positives], ranks == 1
  else:
    log_prob_false = np.log(-np.expm1(np.minimum(scores, _ALMOST_SURE)))
    losses = -np.where(labels == 1, scores, log_prob_false)
    is_correct = (scores > _LOG_HALF) == (labels == 1)
  return {
    'loss': float(losses.mean()),
    'accuracy': float(is_correct.mean()),
    'mrr': float((1 / ranks).mean()),
  }
