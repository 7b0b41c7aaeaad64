import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import convert, linear, model
from tests import checkpoints

CONFIG = config_lib.GPTJConfig(
  vocab_size=300, max_positions=64, model_dim=64, num_layers=3,
  num_heads=4, rotary_dim=8, mlp_dim=256,
)  # fmt: skip
PREFILL = jax.jit(model.prefill, static_argnums=1)


def test_each_channel_has_its_own_scale():
  kernel = jnp.array([[1.27, 0.0, -50.8], [-0.6, 0.0, 25.0]])
  got = linear.quantise(kernel)
  np.testing.assert_array_equal(
    got['int8'], [[127, 0, -127], [-60, 0, 62]]  # 25 / .4 = 62.5: to even.
  )  # fmt: skip
  np.testing.assert_allclose(got['scale'], [0.01, 1.0, 0.4], rtol=1e-6)
  x = jnp.array([[1.0, 0.0], [0.5, 2.0]])
  np.testing.assert_allclose(
    linear.multiply(x, got), [[1.27, 0, -50.8], [-0.565, 0, 24.2]], rtol=1e-6
  )


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_activations_keep_their_dtype(dtype):
  x = jnp.ones((2, 3, 4), dtype)
  kernel = jnp.ones((4, 5), dtype)
  for kind in (kernel, linear.quantise(kernel)):
    out = linear.multiply(x, kind)
    assert (out.dtype, out.shape) == (dtype, (2, 3, 5))
    np.testing.assert_allclose(out.astype(jnp.float32), 4.0, rtol=1e-2)


def test_log_probs_stay_near_the_floats(tmp_path):
  directory = checkpoints.write_gptj(tmp_path, CONFIG, seed=1)
  tokens = np.random.default_rng(0).integers(0, 300, (4, 20), np.int32)
  lengths = np.array([20, 11, 5, 16], np.int32)

  def log_probs(dtype, weights):
    config, params = convert.load(directory, jnp.dtype(dtype), weights=weights)
    logits, _ = PREFILL(
      params, config, model.empty_prefix(params, config), tokens, lengths
    )
    return np.asarray(jax.nn.log_softmax(logits))

  exact = log_probs('float32', None)
  assert exact.std() > 1.5
  # bfloat16 alone: 0.016 on the mean, 0.069 at most.
  limits = [('float32', 0.03, 0.15), ('bfloat16', 0.04, 0.2)]
  for dtype, mean, largest in limits:
    error = np.abs(log_probs(dtype, 'int8') - exact)
    assert 0 < error.mean() < mean
    assert error.max() < largest


def test_memory_halves(tmp_path):
  directory = checkpoints.write_gptj(tmp_path, CONFIG, seed=1)
  half = jnp.dtype('bfloat16')
  for weights, expected in [(None, 375_256), ('int8', 227_800)]:
    config, params = convert.load(directory, half, weights=weights)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    scales = 3 * 4 * (5 * 64 + 256) if weights else 0  # A float a channel.
    assert held - scales == expected
    assert convert.num_bytes(config, half, weights) == expected
  gptj_6b = config_lib.GPTJConfig()
  assert convert.num_bytes(gptj_6b, half) == 12_101_765_568
  assert convert.num_bytes(gptj_6b, half, 'int8') == 6_464_620_992
