import jax
import jax.numpy as jnp
import pytest

from inpars_tpu import flops
from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.t5 import config as t5_config
from inpars_tpu.t5 import network
from tests import t5_checkpoints

T5_3B = t5_config.T5Config(
  d_model=1_024,
  d_kv=128,
  d_ff=16_384,
  num_layers=24,
  num_decoder_layers=24,
  num_heads=32,
)
GPTJ_6B = gptj_config.GPTJConfig()


def test_a_pair_of_512_tokens_at_3b():
  plain = flops.score_pair(T5_3B, 512, is_absorbed=False)
  assert plain.encoder / 1e12 == pytest.approx(1.24, abs=0.005)
  assert plain.attention / 1e12 == pytest.approx(0.10, abs=0.005)
  assert plain.cross / 1e12 == pytest.approx(0.21, abs=0.005)
  assert sum(plain) / 1e9 == pytest.approx(1_549, abs=1)
  assert sum(flops.score_pair(T5_3B, 512)) / 1e9 == pytest.approx(1_345, abs=1)


def test_a_pair_of_one_token_by_hand():
  config = t5_config.T5Config(
    d_model=3, d_kv=5, d_ff=7, num_layers=1, num_decoder_layers=2, num_heads=2
  )
  # Encoder: q, k, v, o of 3 x 10, wi and wo of 3 x 7.
  assert flops.score_pair(config, 1) == flops.ScoreFlops(
    encoder=2 * (4 * 30 + 2 * 21),
    attention=2 * (10 + 10),
    cross=2 * 2 * (2 * 3 + 2 * 3),  # Two heads, three wide, twice.
    decoder=2 * (2 * (2 * 30 + 4 * 30 + 2 * 21) + 3 * 2),
  )
  plain = flops.score_pair(config, 1, is_absorbed=False)
  assert plain.cross == 2 * 2 * (10 + 10 + 2 * 30)
  assert plain.decoder == 2 * (2 * (2 * 30 + 2 * 30 + 2 * 21) + 3 * 2)


@pytest.mark.parametrize('config', [t5_checkpoints.V1_0, t5_checkpoints.V1_1])
def test_is_what_the_compiler_counts(config):
  # Wide enough that matrix products are nearly all of it.
  config = type(config)(**{**vars(config), 'd_model': 256, 'd_ff': 512})
  model = network.Transformer(config)
  tokens = jax.ShapeDtypeStruct((3, 32), jnp.int32)
  ids = jax.ShapeDtypeStruct((2,), jnp.int32)

  def score(params, tokens, ids):
    return model.apply(params, tokens, ids, method='first_logits')

  params = jax.eval_shape(
    lambda: model.init(jax.random.key(0), *[jnp.ones((1, 1), jnp.int32)] * 3)
  )
  params = {'params': params['params']}
  cost = jax.jit(score).lower(params, tokens, ids).compile().cost_analysis()
  counted = 3 * sum(flops.score_pair(config, 32))
  assert counted < cost['flops'] < 1.1 * counted


def test_fine_tuning_of_the_paper():
  # 156 steps of 128, all of 512 tokens; then at a mean of 230.
  num_pairs = 156 * 128

  def petaflops(num_tokens, **options):
    return num_pairs * flops.train_pair(T5_3B, num_tokens, **options) / 1e15

  assert petaflops(512, is_absorbed=False) == pytest.approx(93.0, abs=0.1)
  assert petaflops(230, is_absorbed=False) == pytest.approx(40.4, abs=0.1)
  # Without keys and values of 512 tokens in 24 layers, forward and backward.
  keys_values = 24 * 2 * 1_024 * 4_096
  spared = num_pairs * 3 * 2 * 512 * keys_values / 1e15
  assert petaflops(512) == pytest.approx(93.0 - spared, rel=0.01)


def test_queries_of_gptj_6b():
  # 100,000 documents: 312 shared and 168 own tokens, 15 steps.
  prefill, decode = flops.write_query(GPTJ_6B, 312, 168, 15)
  assert 1e5 * decode / 1e15 == pytest.approx(18, abs=0.5)
  # 193 PFLOP with a whole last layer, of which keys and values are enough.
  last_layer = 167 * 2 * (2 * 4_096**2 + 2 * 4_096 * 16_384)
  last_attention = 4 * 4_096 * sum(313 + i for i in range(167))
  whole = prefill + last_layer + last_attention
  assert 1e5 * whole / 1e15 == pytest.approx(193, abs=1)
  # One token more costs its blocks and the head.
  step = flops.write_query(GPTJ_6B, 0, 1, 1)[1]
  assert step / 1e9 == pytest.approx(11.27 + 0.41, abs=0.01)
  assert flops.by_weights(GPTJ_6B) == (11_274_289_152, 11_687_165_952)


def test_a_prefix_read_once_is_what_each_row_would_read():
  whole, _ = flops.write_query(GPTJ_6B, 0, 480, 0)
  shared, _ = flops.write_query(GPTJ_6B, 312, 168, 0)
  assert flops.read_prefix(GPTJ_6B, 312) + shared == whole
