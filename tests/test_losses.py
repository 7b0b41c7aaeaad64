import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inpars_tpu import losses

# Two rows over a vocabulary of 4: 'false' is 2, 'true' is 3, </s> is 1.
LOGITS = np.log(
  [
    [[0.1, 0.2, 0.3, 0.4], [0.1, 0.7, 0.1, 0.1]],
    [[0.2, 0.2, 0.2, 0.4], [0.25, 0.25, 0.25, 0.25]],
  ]
).astype(np.float32)
TARGETS = np.array([[3, 1], [2, 1]], np.int32)
LABELS = np.array([1, 0], np.int32)


def test_monot5_by_hand():
  sums = losses.monot5(LOGITS, TARGETS, LABELS, label_ids=(2, 3), z_loss=0.5)
  # Each softmax's denominator is 1: no z-loss.
  assert float(sums.z_loss) == pytest.approx(0.0, abs=1e-6)
  expected = -np.log([0.4, 0.7, 0.2, 0.25]).sum()
  assert float(sums.loss) == pytest.approx(expected, rel=1e-6)
  assert float(sums.num_correct) == 1.0  # The second says true as well.


def test_z_loss_by_hand():
  sums = losses.monot5(
    LOGITS + 2, TARGETS, LABELS, label_ids=(2, 3), z_loss=0.5
  )
  assert float(sums.z_loss) == pytest.approx(4 * 0.5 * 2**2, rel=1e-6)
  expected = -np.log([0.4, 0.7, 0.2, 0.25]).sum() + 8
  assert float(sums.loss) == pytest.approx(expected, rel=1e-6)


def test_monot5_of_filler_rows_is_nothing():
  with_filler = losses.monot5(
    np.concatenate([LOGITS, LOGITS]),
    np.concatenate([TARGETS, np.zeros_like(TARGETS)]),
    np.concatenate([LABELS, np.zeros_like(LABELS)]),
    label_ids=(2, 3),
    z_loss=0.5,
  )
  alone = losses.monot5(LOGITS, TARGETS, LABELS, label_ids=(2, 3), z_loss=0.5)
  for a, b in zip(with_filler, alone, strict=True):
    assert float(a) == float(b)


# Token 5's logit is the score. Lists of three: whole, short, filler.
SCORES = [2.0, 1.0, 0.0, -1.0, 3.0, 99.0, 99.0, 99.0, 99.0]
IS_ROW = [1, 1, 1, 1, 1, 0, 0, 0, 0]


def rankt5(scores):
  logits = jnp.full((9, 1, 6), 7.0).at[:, 0, 5].set(jnp.asarray(scores))
  targets = 5 * np.array(IS_ROW, np.int32)[:, None]
  return losses.rankt5(
    logits, targets, np.zeros(9, np.int32), logit_id=5, list_size=3
  )


def test_rankt5_by_hand():
  sums = rankt5(SCORES)
  whole = -np.log(np.exp(2) / (np.exp(2) + np.exp(1) + np.exp(0)))  # 0.4076
  short = -np.log(np.exp(-1) / (np.exp(-1) + np.exp(3)))  # 4.0181
  assert float(sums.loss) == pytest.approx(whole + short, rel=1e-6)
  assert float(sums.loss) == pytest.approx(4.425756, rel=1e-6)
  assert float(sums.num_correct) == 1.0
  assert float(sums.z_loss) == 0.0


def test_rankt5_gradient_by_hand():
  gradient = jax.grad(lambda scores: rankt5(scores).loss)(jnp.array(SCORES))
  first = np.exp([2, 1, 0]) / np.exp([2, 1, 0]).sum()
  second = np.exp([-1, 3]) / np.exp([-1, 3]).sum()
  np.testing.assert_allclose(
    gradient,
    [first[0] - 1, first[1], first[2], second[0] - 1, second[1], 0, 0, 0, 0],
    rtol=1e-5,
  )


def test_a_tie_is_not_correct():
  assert float(rankt5([1.0, 1.0, 0.0, 2.0, 2.0, *[0.0] * 4]).num_correct) == 0


def test_make():
  made = losses.make('monot5', (2, 3), z_loss=0.5, list_size=1)
  wanted = losses.monot5(LOGITS, TARGETS, LABELS, label_ids=(2, 3), z_loss=0.5)
  assert made(LOGITS, TARGETS, LABELS) == wanted
  # Both rows are one list; the first is its positive.
  made = losses.make('rankt5', (3,), z_loss=0.5, list_size=2)
  found = made(LOGITS, TARGETS, LABELS)
  assert float(found.loss) == pytest.approx(np.log(2), rel=1e-6)
