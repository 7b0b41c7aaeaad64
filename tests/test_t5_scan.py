import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from inpars_tpu.t5 import network, scan
from tests.test_t5_network import (
  CONFIGS,
  FALSE,
  TRUE,
  first_logits,
  load,
  make_tokens,
)


@pytest.mark.parametrize('name', CONFIGS)
def test_a_scanned_network_gives_the_same_logits(name):
  model = network.Transformer(CONFIGS[name], scan_layers=True)
  tokens = make_tokens()['encoder_input_tokens']
  logits = jax.jit(
    lambda params: model.apply(
      {'params': params},
      tokens,
      jnp.asarray([FALSE, TRUE]),
      method='first_logits',
    )
  )(scan.stack(load(name)))
  np.testing.assert_allclose(logits, first_logits(name, tokens), atol=1e-5)


def loss_and_gradients(
  name, scan_layers=False, remat=False, enable_dropout=False
):
  model = network.Transformer(
    CONFIGS[name], scan_layers=scan_layers, remat=remat
  )
  tokens = {k: v[:, :9] for k, v in make_tokens().items()}

  def loss(params):
    logits = model.apply(
      {'params': params},
      **tokens,
      enable_dropout=enable_dropout,
      rngs={'dropout': jax.random.key(0)},
    )
    return jnp.mean(jax.nn.log_softmax(logits)[:, :, TRUE])

  params = load(name)
  if scan_layers:
    params = scan.stack(params)
  value, gradients = jax.jit(jax.value_and_grad(loss))(params)
  return value, scan.unstack(gradients) if scan_layers else gradients


@pytest.fixture(scope='module')
def plain():
  return loss_and_gradients('v1_0')


@pytest.mark.parametrize('scan_layers,remat', [
  (True, True), (False, True),
])  # fmt: skip
def test_gradients_are_the_same(plain, scan_layers, remat):
  loss, gradients = loss_and_gradients(
    'v1_0', scan_layers=scan_layers, remat=remat
  )
  np.testing.assert_allclose(loss, plain[0], rtol=1e-6)
  expected = traverse_util.flatten_dict(plain[1], sep='/')
  found = traverse_util.flatten_dict(gradients, sep='/')
  assert set(found) == set(expected)
  assert np.abs(expected['encoder/layers_0/mlp/wi/kernel']).max() > 1e-4
  for path, gradient in expected.items():
    np.testing.assert_allclose(found[path], gradient, atol=1e-6, err_msg=path)


@pytest.mark.parametrize('remat', [False, True])
def test_dropout_in_a_loop_is_that_of_layers_one_by_one(plain, remat):
  dropped, looped = (
    loss_and_gradients('v1_0', *layout, enable_dropout=True)[0]
    for layout in ((False, False), (True, remat))
  )
  assert abs(dropped - plain[0]) > 1e-3
  np.testing.assert_allclose(looped, dropped, rtol=1e-6)


def test_stacked_shapes_are_those_that_init_makes():
  model = network.Transformer(CONFIGS['v1_1'], scan_layers=True)
  variables = jax.eval_shape(
    lambda: model.init(jax.random.key(0), **make_tokens())
  )
  made = traverse_util.flatten_dict(variables['params'], sep='/')
  stacked = jax.eval_shape(scan.stack, load('v1_1'))
  stacked = traverse_util.flatten_dict(stacked, sep='/')
  assert {n: p.shape for n, p in made.items()} == {
    n: p.shape for n, p in stacked.items()
  }
  assert stacked['encoder/layers/mlp/wi_0/kernel'].shape == (3, 32, 40)


def test_stacked_and_unstacked_again_is_the_same():
  params = load('v1_0')
  again = scan.unstack(scan.stack(params))
  assert jax.tree.structure(again) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, again, params)


def test_layers_are_stacked_by_number():
  arrays = {f'layers_{i}': {'scale': jnp.full(1, i)} for i in (10, 2, 0, 1)}
  arrays |= {f'layers_{i}': {'scale': jnp.full(1, i)} for i in range(3, 10)}
  stacked = scan.stack({'encoder': arrays})
  assert stacked['encoder']['layers']['scale'][:, 0].tolist() == [*range(11)]
