import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from inpars_tpu import optimizer
from inpars_tpu.t5 import scan


def rates(name, **options):
  schedule = optimizer.make_schedule(name, 1.0, num_steps=6, **options)
  return [round(float(schedule(count)), 4) for count in range(6)]


@pytest.mark.parametrize('name,warmup_steps,expected', [
  ('constant', 0, [1, 1, 1, 1, 1, 1]),
  ('constant', 4, [0.25, 0.5, 0.75, 1, 1, 1]),
  ('linear', 0, [1, 0.8333, 0.6667, 0.5, 0.3333, 0.1667]),
  ('linear', 2, [0.5, 1, 1, 0.75, 0.5, 0.25]),
  ('cosine', 2, [0.5, 1, 1, 0.8536, 0.5, 0.1464]),
  ('cosine', 1, [1, 1, 0.9045, 0.6545, 0.3455, 0.0955]),
  ('inverse_sqrt', 0, [1, 0.7071, 0.5774, 0.5, 0.4472, 0.4082]),
  ('inverse_sqrt', 3, [0.3333, 0.6667, 1, 1, 0.866, 0.7746]),
])  # fmt: skip
def test_learning_rates(name, warmup_steps, expected):
  assert rates(name, warmup_steps=warmup_steps) == expected


def test_adafactor_as_t5x_sets_it():
  adafactor = optimizer.make(0.1)
  params = {
    'vector': jnp.array([3.0, 4.0]),  # Root mean square 12.5 ** 0.5.
    'small': jnp.zeros(2),  # Counts as 1e-3.
    'matrix': jnp.full((128, 128), 2.0),
  }
  state = adafactor.init(params)
  slots = {x.shape for x in jax.tree.leaves(state)}
  assert (128, 128) not in slots  # Factored.
  gradients = {
    'vector': jnp.array([0.5, -2.0]),
    'small': jnp.array([1e-6, 0.0]),
    'matrix': jnp.ones((128, 128)),
  }
  updates, state = adafactor.update(gradients, state, params)
  # The first step is the sign of the gradient, by rate and parameter scale.
  scale = 0.1 * 12.5**0.5
  np.testing.assert_allclose(updates['vector'], [-scale, scale], rtol=1e-5)
  np.testing.assert_allclose(updates['small'], [-1e-4, 0.0], rtol=1e-5)
  np.testing.assert_allclose(updates['matrix'], -0.2, rtol=1e-5)
  # Then the mean square decays: 1 - 2 ** -0.8 of it is old. No momentum.
  updates, _ = adafactor.update(
    {**gradients, 'vector': jnp.array([0.0, 1.0])}, state, params
  )
  kept = 1 - 2**-0.8
  second = 1 / (kept * 4 + (1 - kept) * 1) ** 0.5
  np.testing.assert_allclose(
    updates['vector'], [0.0, -scale * second], rtol=1e-5
  )


@pytest.mark.parametrize('rate', [0.1, optax.constant_schedule(0.1)])
def test_it_is_the_adafactor_of_optax(rate):
  theirs = optax.adafactor(
    rate, decay_rate=0.8, clipping_threshold=1.0, min_dim_size_to_factor=128
  )
  params, ours = random_layers(0), optimizer.make(rate)
  states = [ours.init(params), theirs.init(params)]
  for step in range(3):
    gradients = random_layers(10 + step)
    (updates, states[0]), (expected, states[1]) = (
      jax.jit(made.update)(gradients, state, params)
      for made, state in zip((ours, theirs), states, strict=True)
    )
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
      (updates, states[0]),
      (expected, states[1]),
    )
    params = optax.apply_updates(params, updates)


def random_layers(seed):
  """Two encoder layers and three of a decoder, unlike in size, and a norm."""
  draw = np.random.default_rng(seed)

  def layer(i):
    shapes = {'kernel': (130, 128), 'scale': (5,)}
    return {
      name: jnp.asarray(draw.normal(size=shape) * 10.0**i, jnp.float32)
      for name, shape in shapes.items()
    }

  return {
    'encoder': {
      'layers_0': layer(0),
      'layers_1': layer(-4),
      'norm': layer(1),
    },
    'decoder': {f'layers_{i}': layer(i) for i in range(3)},
    'embedding': layer(0),
  }


def test_stacked_layers_are_updated_each_for_itself():
  adafactor = optimizer.make(0.1)

  def run(params, prepare):
    state = adafactor.init(params)
    for step in range(3):
      gradients = prepare(random_layers(10 + step))
      updates, state = jax.jit(adafactor.update)(gradients, state, params)
      params = optax.apply_updates(params, updates)
    return params

  plain = run(random_layers(0), lambda tree: tree)
  stacked = scan.unstack(run(scan.stack(random_layers(0)), scan.stack))
  assert jax.tree.structure(stacked) == jax.tree.structure(plain)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), stacked, plain
  )
