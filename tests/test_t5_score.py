import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inpars_tpu import errors
from inpars_tpu.t5 import network, score
from tests import t5_checkpoints
from tests.test_t5_network import load

FALSE, TRUE = 6, 61


def make_scorer(token_ids=(FALSE, TRUE), params=None, **options):
  return score.Scorer(
    t5_checkpoints.V1_0,
    params or load('v1_0'),
    token_ids,
    **{'dtype': 'float32', 'max_tokens': 128, 'batch_tokens': 256} | options,
  )


@pytest.fixture(scope='module')
def inputs():
  generator = np.random.default_rng(0)
  lengths = [3, 128, 40, 64, 65, 1, 90, 33]
  return [[*generator.integers(2, 256, n - 1).tolist(), 1] for n in lengths]


def plan(lengths, **settings):
  return score.plan_batches(lengths, bucket_tokens=64, **settings)


def test_plans_the_longest_first_in_few_shapes():
  lengths = [3, 100, 90, 500, 512, 60, 2]
  batches = plan(lengths, max_tokens=512, batch_tokens=1_024)
  assert batches == [
    score.Batch([4, 3], 2, 512),
    score.Batch([1, 2, 5, 0, 6], 8, 128),
  ]


def test_plans_no_row_longer_than_the_limit():
  batches = plan([90, 100], max_tokens=100, batch_tokens=10)
  assert batches == [score.Batch([1], 1, 100), score.Batch([0], 1, 100)]


def test_plans_rows_that_the_devices_divide():
  lengths = [3, 100, 90, 500, 512, 60, 2]
  batches = plan(lengths, max_tokens=512, batch_tokens=1_600, num_parts=2)
  assert batches == [
    score.Batch([4, 3], 2, 512),  # 3 rows would fit.
    score.Batch([1, 2, 5, 0, 6], 12, 128),
  ]
  batches = plan([90], max_tokens=100, batch_tokens=10, num_parts=4)
  assert batches == [score.Batch([0], 4, 100)]


def test_plans_finer_lengths_where_they_are_asked_for():
  batches = score.plan_batches(
    [65, 3], max_tokens=512, batch_tokens=96, bucket_tokens=32
  )
  assert batches == [score.Batch([0], 1, 96), score.Batch([1], 3, 32)]


def test_plans_nothing_for_nothing():
  assert plan([], max_tokens=100, batch_tokens=10) == []


def test_dummies_are_no_rows_of_padding():
  tokens = score.pad([[7, 1], [8, 9, 1]], score.Batch([1, 0], 3, 4))
  assert tokens.tolist() == [[8, 9, 1, 0], [7, 1, 0, 0], [1, 0, 0, 0]]
  assert tokens.dtype == np.int32


def test_scores_are_log_softmax_of_the_whole_network(inputs):
  model = network.Transformer(t5_checkpoints.V1_0)
  tokens = np.zeros((8, 128), np.int32)
  for row, ids in enumerate(inputs):
    tokens[row, : len(ids)] = ids
  start = jnp.zeros((8, 1), jnp.int32)
  logits = jax.jit(model.apply)(
    {'params': load('v1_0')}, jnp.asarray(tokens), start, start + 1
  )
  two = logits[:, 0, jnp.asarray([FALSE, TRUE])]
  scores = make_scorer().score(inputs)
  assert scores.dtype == np.float32
  np.testing.assert_allclose(scores, jax.nn.log_softmax(two)[:, 1], atol=1e-5)


def test_a_score_does_not_depend_on_batch_bucket_or_order(inputs):
  scores = make_scorer().score(inputs)
  assert np.ptp(scores) > 0.1
  other = make_scorer(batch_tokens=128).score(inputs)
  np.testing.assert_allclose(other, scores, atol=1e-5)
  turned = make_scorer().score(inputs[::-1])[::-1]
  np.testing.assert_allclose(turned, scores, atol=1e-5)
  some = make_scorer().score([inputs[5], inputs[2]])
  np.testing.assert_allclose(some, scores[[5, 2]], atol=1e-5)


def test_the_same_list_gives_the_same_bytes(inputs):
  first, second = (make_scorer().score(inputs).tobytes() for _ in range(2))
  assert first == second


def test_one_token_gives_its_logit(inputs):
  two = inputs[2:4]
  false, true = (make_scorer((i,)).score(two) for i in (FALSE, TRUE))
  np.testing.assert_allclose(
    -np.logaddexp(0, false - true), make_scorer().score(two), atol=1e-5
  )


def test_progress_counts_inputs_and_not_dummies(inputs):
  seen = []
  make_scorer().score(inputs, seen.append)
  assert sum(seen) == len(inputs)


def test_scores_nothing():
  assert make_scorer().score([]).shape == (0,)


def test_near_certainty_is_not_rounded_to_zero(inputs):
  # A softmax in float32 would say log(1.0) = 0 for all of them.
  embedding = load('v1_0')['token_embedder']['embedding']
  embedding = embedding.at[TRUE].multiply(40.0).at[FALSE].multiply(-40.0)
  params = load('v1_0') | {'token_embedder': {'embedding': embedding}}
  scores = make_scorer((TRUE, FALSE), params).score(inputs)
  assert (scores < 0).all()
  assert scores.max() > -1e-9
  assert len(set(scores.tolist())) == len(scores)


def test_refuses_scores_that_are_no_numbers(inputs):
  embedding = jnp.full((256, 32), jnp.nan, jnp.float32)
  params = load('v1_0') | {'token_embedder': {'embedding': embedding}}
  with pytest.raises(errors.InputError, match='8 of 8 scores are no numbers'):
    make_scorer(params=params).score(inputs)
