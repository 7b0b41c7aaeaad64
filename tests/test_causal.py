"""GPT-J's training: what a row is, what is foretold, that it learns."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from inpars_tpu.demo import causal
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import convert, model
from tests import checkpoints

CONFIG = config_lib.GPTJConfig(
  vocab_size=32,
  max_positions=64,
  model_dim=16,
  num_layers=2,
  num_heads=2,
  rotary_dim=4,
  mlp_dim=32,
)


@pytest.fixture(scope='module')
def params(tmp_path_factory):
  folder = tmp_path_factory.mktemp('gptj')
  checkpoints.write_gptj(folder, CONFIG, seed=0)
  return convert.load(folder, jnp.float32)[1]


def examples(*rows):
  return [causal.Example(list(row), [1.0] * len(row)) for row in rows]


def test_packed_rows_go_on_from_each_other():
  (first, second) = causal.pack(
    examples([1, 2, 3], [4, 5, 6, 7, 8, 9]), num_rows=2, num_tokens=2
  )
  assert first.inputs.tolist() == [[1, 2], [3, 4]]
  assert first.targets.tolist() == [[2, 3], [4, 5]]
  assert second.inputs.tolist() == [[5, 6], [7, 8]]
  assert second.targets.tolist() == [[6, 7], [8, 9]]


def test_padded_rows_are_apart_and_long_ones_left_out():
  rows = [causal.Example([1, 2, 3], [0.5, 0.5, 1.0])]
  (batch,) = causal.pad(
    [*rows, *examples(range(9), [4, 5])], num_rows=2, num_tokens=4
  )
  assert batch.inputs.tolist() == [[1, 2, 3, 0], [4, 5, 0, 0]]
  assert batch.targets.tolist() == [[2, 3, 0, 0], [5, 0, 0, 0]]
  assert batch.weights.tolist() == [[0.5, 1, 0, 0], [1, 0, 0, 0]]


def test_loss_is_that_of_each_row_alone(params):
  """The prefix read by `prefill`, token after token, says the same."""
  prefix = jnp.array([3, 1, 4], jnp.int32)
  (batch,) = causal.pad(
    examples([1, 5, 9, 2], [6, 5]), num_rows=2, num_tokens=4
  )
  losses = []
  for row, length in ((0, 4), (1, 2)):
    tokens = batch.inputs[row]
    for n in range(1, length):
      logits, _ = model.prefill(
        params,
        CONFIG,
        model.prefill_prefix(params, CONFIG, prefix),
        jnp.asarray(tokens[None, :n]),
        jnp.array([n], jnp.int32),
      )
      losses.append(
        optax.softmax_cross_entropy_with_integer_labels(
          logits[0], batch.targets[row, n - 1]
        )
      )
  value = causal.loss(params, CONFIG, prefix, batch)
  np.testing.assert_allclose(value, np.mean(losses), rtol=1e-5)


def test_gradient_goes_through_the_prefix(params):
  (batch,) = causal.pad(examples([1, 5, 9]), num_rows=1, num_tokens=4)
  prefix = jnp.array([30, 31], jnp.int32)
  gradients = jax.grad(causal.loss)(params, CONFIG, prefix, batch)
  assert np.abs(gradients['embedding'][30]).max() > 0
  assert np.abs(gradients['embedding'][29]).max() == 0


def test_loss_falls(params):
  rows = examples([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
  log = []
  with jax.numpy_dtype_promotion('standard'):  # optax's Adam needs it.
    causal.fit(
      jax.tree.map(jnp.array, params),
      CONFIG,
      causal.pad(itertools.cycle(rows), num_rows=2, num_tokens=6),
      prefix=[],
      num_steps=30,
      learning_rate=1e-2,
      log=lambda step, loss: log.append((step, loss)),
    )
  assert [step for step, _ in log] == list(range(1, 31))
  assert log[-1][1] < 0.2 * log[0][1]
