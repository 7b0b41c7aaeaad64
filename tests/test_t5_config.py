import pytest

from inpars_tpu import errors
from inpars_tpu.t5 import config as config_lib

# castorini/monot5-3b-msmarco-10k's config.json, as far as it is read.
MONOT5_3B = {
  'model_type': 't5',
  'vocab_size': 32128,
  'd_model': 1024,
  'd_kv': 128,
  'd_ff': 16384,
  'num_layers': 24,
  'num_decoder_layers': 24,
  'num_heads': 32,
  'relative_attention_num_buckets': 32,
  'layer_norm_epsilon': 1e-06,
  'dropout_rate': 0.1,
  'feed_forward_proj': 'relu',
  'decoder_start_token_id': 0,
  'eos_token_id': 1,
}
# google/flan-t5-small's.
FLAN_SMALL = MONOT5_3B | {
  'd_model': 512,
  'd_kv': 64,
  'd_ff': 1024,
  'num_layers': 8,
  'num_decoder_layers': 8,
  'num_heads': 6,
  'feed_forward_proj': 'gated-gelu',
  'relative_attention_max_distance': 128,
  'tie_word_embeddings': False,
}


def test_reads_version_1_0():
  assert config_lib.T5Config.from_hf(MONOT5_3B) == config_lib.T5Config(
    vocab_size=32_128,
    d_model=1_024,
    d_kv=128,
    d_ff=16_384,
    num_layers=24,
    num_decoder_layers=24,
    num_heads=32,
    is_gated=False,
    activation='relu',
    tie_word_embeddings=True,
    scale_decoder_output=True,
  )


def test_reads_version_1_1():
  config = config_lib.T5Config.from_hf(FLAN_SMALL)
  assert config.is_gated
  assert config.activation == 'gelu_new'
  assert not config.tie_word_embeddings
  assert not config.scale_decoder_output


def test_mt5_is_gated_and_untied_unless_told():
  bare = {k: v for k, v in MONOT5_3B.items() if k != 'feed_forward_proj'}
  config = config_lib.T5Config.from_hf(bare | {'model_type': 'mt5'})
  assert config.is_gated
  assert not config.tie_word_embeddings
  assert config.to_hf()['architectures'] == ['MT5ForConditionalGeneration']


def test_decoder_has_as_many_layers_as_the_encoder_unless_told():
  bare = {k: v for k, v in MONOT5_3B.items() if k != 'num_decoder_layers'}
  assert config_lib.T5Config.from_hf(bare).num_decoder_layers == 24


def test_transformers_5_says_apart_whether_the_output_is_scaled():
  config = config_lib.T5Config.from_hf(
    FLAN_SMALL | {'tie_word_embeddings': True, 'scale_decoder_outputs': False}
  )
  assert config.tie_word_embeddings
  assert not config.scale_decoder_output


@pytest.mark.parametrize('hf_config', [MONOT5_3B, FLAN_SMALL])
def test_writes_what_it_reads(hf_config):
  config = config_lib.T5Config.from_hf(hf_config)
  written = config.to_hf()
  assert config_lib.T5Config.from_hf(written) == config
  assert written['feed_forward_proj'] == hf_config['feed_forward_proj']
  assert written['num_heads'] == hf_config['num_heads']


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'feed_forward_proj': 'gated-silu'}, "'gated-silu'; did you mean gated"),
    ({'model_type': 'umt5'}, "unknown model_type in config.json 'umt5'"),
    ({'decoder_start_token_id': 5}, 'decoder_start_token_id is 5'),
    ({'d_ff': 0}, 'd_ff is 0'),
    ({'num_heads': '32'}, "num_heads is '32'"),
  ],
)
def test_refuses_another_network(change, message):
  with pytest.raises(errors.InputError, match=message):
    config_lib.T5Config.from_hf(MONOT5_3B | change)


def test_names_a_missing_field():
  bare = {k: v for k, v in MONOT5_3B.items() if k != 'd_kv'}
  with pytest.raises(errors.InputError, match="lacks 'd_kv'"):
    config_lib.T5Config.from_hf(bare)
