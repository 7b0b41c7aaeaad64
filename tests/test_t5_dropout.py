import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inpars_tpu.t5 import dropout, network
from tests.test_t5_network import CONFIGS, load, make_tokens

CONFIG = CONFIGS['v1_0']


def draw(**options) -> dropout.Draw:
  return dropout.draw(
    jax.random.key(0), CONFIG, num_layers=3, num_rows=20, num_keys=30, **options
  )


def shapes(drawn: dropout.Draw):
  return jax.tree.map(jnp.shape, drawn)


def test_an_encoder_has_a_draw_for_each_token_of_its_output():
  heads, d, d_ff = CONFIG.num_heads, CONFIG.d_model, CONFIG.d_ff
  layers = dropout.Kept(
    attention=(3, 20, heads, 30),
    units=(3, 20, 1, d_ff),
    blocks=(3, 2, 20, 1, d),
  )
  assert shapes(draw()) == dropout.Draw(layers, (20, 1, d), (20, 30, d))


def test_a_decoder_has_a_draw_for_what_it_attends_to():
  heads, d, d_ff = CONFIG.num_heads, CONFIG.d_model, CONFIG.d_ff
  layers = dropout.Kept(
    attention=(3, 20, heads, 30),
    cross=(3, 20, heads, 7),
    units=(3, 20, 1, d_ff),
    blocks=(3, 3, 20, 1, d),
  )
  drawn = draw(num_encoded=7)
  assert shapes(drawn) == dropout.Draw(layers, (20, 1, d), (20, 1, d))


def test_nine_of_ten_are_kept_each_drawn_for_itself():
  assert CONFIG.dropout_rate == 0.1
  for kept in jax.tree.leaves(draw(num_encoded=7)):
    flat = np.asarray(kept).reshape(-1)
    sigma = np.sqrt(0.09 / len(flat))
    assert abs(flat.mean() - 0.9) < 4 * sigma
    halves = flat[: len(flat) // 2], flat[len(flat) // 2 :][: len(flat) // 2]
    assert abs(np.corrcoef(*halves)[0, 1]) < 6 / np.sqrt(len(flat))
  one, other = draw().layers.blocks[:2].astype(int)
  assert (one != other).mean() == pytest.approx(0.18, abs=0.05)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_what_is_kept_is_larger_by_what_is_not(dtype):
  x = jnp.arange(8.0, dtype=dtype).reshape(2, 4)
  kept = jnp.array([[True, False, True, True]])
  dropped = dropout.apply(x, kept, 0.5)
  assert dropped.dtype == dtype
  np.testing.assert_array_equal(dropped, [[0, 0, 4, 6], [8, 0, 12, 14]])
  assert dropout.apply(x, None, 0.5) is x


BOTH = 'embedded', 'normed', 'attention', 'units', 'blocks 0', 'blocks 1'


@pytest.mark.parametrize(
  ('stack', 'place'),
  [
    *[('encoder', place) for place in BOTH],
    *[('decoder', place) for place in (*BOTH, 'cross', 'blocks 2')],
  ],
)
def test_every_draw_has_its_place(monkeypatch, stack, place):
  """Without one of them the logits are others."""
  name, _, number = place.partition(' ')
  real = dropout.draw

  def logits(is_dropped):
    def all_but_one(*args, **sizes):
      drawn = jax.tree.map(jnp.ones_like, real(*args, **sizes))
      is_decoder = sizes.get('num_encoded') is not None
      if not is_dropped or is_decoder != (stack == 'decoder'):
        return drawn
      if not hasattr(drawn.layers, name):
        return drawn._replace(**{name: ~getattr(drawn, name)})
      kept = getattr(drawn.layers, name)
      kept = kept.at[:, int(number)].set(False) if number else ~kept
      return drawn._replace(layers=drawn.layers._replace(**{name: kept}))

    monkeypatch.setattr(dropout, 'draw', all_but_one)
    return network.Transformer(CONFIG).apply(
      {'params': load('v1_0')},
      **{k: v[:, :9] for k, v in make_tokens().items()},
      enable_dropout=True,
      rngs={'dropout': jax.random.key(0)},
    )

  assert np.abs(logits(True) - logits(False)).max() > 1e-3
