import numpy as np
import pytest

from inpars_tpu import errors, validation


def test_by_hand():
  # Group 4: the positive is second of three. Group 2: first of two.
  found = validation.measure(
    np.log([0.6, 0.9, 0.25, 0.8, 0.1]),
    np.array([1, 0, 0, 1, 0]),
    np.array([4, 4, 4, 2, 2]),
    is_listwise=False,
  )
  assert found == {
    'loss': pytest.approx(-np.log([0.6, 0.1, 0.75, 0.8, 0.9]).mean()),
    'accuracy': 0.8,
    'mrr': 0.75,
  }


def test_listwise_by_hand():
  found = validation.measure(
    np.array([2.0, 1.0, 0.0, -1.0, 3.0]),
    np.array([1, 0, 0, 1, 0]),
    np.array([0, 0, 0, 1, 1]),
    is_listwise=True,
  )
  whole = np.exp(2) / (np.exp(2) + np.exp(1) + np.exp(0))
  short = np.exp(-1) / (np.exp(-1) + np.exp(3))
  assert found == {
    'loss': pytest.approx(-np.log([whole, short]).mean()),
    'accuracy': 0.5,
    'mrr': 0.75,
  }


@pytest.mark.parametrize('is_listwise', [False, True])
def test_order_does_not_matter_and_ties_count_against(is_listwise):
  generator = np.random.default_rng(0)
  scores = -generator.exponential(size=12).astype(np.float32)
  labels, groups = np.array([1, 0, 0] * 4), np.arange(12) // 3
  order = generator.permutation(12)
  found, wanted = (
    validation.measure(scores[i], labels[i], groups[i], is_listwise=is_listwise)
    for i in (order, np.arange(12))
  )
  assert found == pytest.approx(wanted)
  same = validation.measure(
    np.full(12, -0.5), labels, groups, is_listwise=is_listwise
  )
  assert same['mrr'] == pytest.approx(1 / 3)


def test_log_probs_near_0_have_a_loss():
  found = validation.measure(
    np.array([-0.0, -0.0, -1e-9]),
    np.array([1, 0, 0]),
    np.array([0, 0, 0]),
    is_listwise=False,
  )
  assert found['loss'] == pytest.approx(-np.log([1, 1e-30, 1e-9]).mean())


@pytest.mark.parametrize(
  ('scores', 'labels', 'groups', 'message'),
  [
    ([], [], [], 'no pairs to validate with'),
    ([-1.0, np.nan], [1, 0], [0, 0], '1 of 2 scores'),
    ([-1.0, -2.0], [0, 0], [0, 0], '0 positives in 1 groups'),
    ([-1.0, -2.0, -3.0], [1, 1, 0], [0, 0, 1], '2 positives in 2 groups'),
  ],
)
def test_bad_input(scores, labels, groups, message):
  with pytest.raises(errors.InputError, match=message):
    validation.measure(
      np.array(scores), np.array(labels), np.array(groups), is_listwise=False
    )
