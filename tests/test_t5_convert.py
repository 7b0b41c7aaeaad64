import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from inpars_tpu import errors, files, model_dir
from inpars_tpu.t5 import convert, tensors
from tests import t5_checkpoints

CONFIGS = {'v1_0': t5_checkpoints.V1_0, 'v1_1': t5_checkpoints.V1_1}


def write_changed(directory, changes, config=t5_checkpoints.V1_0):
  """A directory with tensors changed: name -> tensor, or None: left out."""
  weights = t5_checkpoints.random_weights(config) | changes
  kept = {name: t for name, t in weights.items() if t is not None}
  t5_checkpoints.write_weights(directory, kept)
  files.write_json(directory / 'config.json', config.to_hf())
  return directory


def test_shapes_are_those_of_hugging_face():
  shapes = tensors.hf_shapes(t5_checkpoints.V1_0)
  # shared; 2 encoder layers of 4 + 2 + 2 norms, 3 decoder layers of 8 + 2 + 3;
  # a final norm and a table of positions each.
  assert len(shapes) == 1 + 2 * 8 + 3 * 13 + 2 * 2
  prefix = 'decoder.block.2.layer.'
  assert {
    name.removeprefix(prefix): shape
    for name, shape in shapes.items()
    if name.startswith(prefix)
  } == {
    '0.SelfAttention.q.weight': (48, 32),
    '0.SelfAttention.k.weight': (48, 32),
    '0.SelfAttention.v.weight': (48, 32),
    '0.SelfAttention.o.weight': (32, 48),
    '0.layer_norm.weight': (32,),
    '1.EncDecAttention.q.weight': (48, 32),
    '1.EncDecAttention.k.weight': (48, 32),
    '1.EncDecAttention.v.weight': (48, 32),
    '1.EncDecAttention.o.weight': (32, 48),
    '1.layer_norm.weight': (32,),
    '2.DenseReluDense.wi.weight': (40, 32),
    '2.DenseReluDense.wo.weight': (32, 40),
    '2.layer_norm.weight': (32,),
  }
  positions = 'encoder.block.0.layer.0.SelfAttention.relative_attention_bias'
  assert shapes[f'{positions}.weight'] == (32, 6)
  gated = tensors.hf_shapes(t5_checkpoints.V1_1)
  assert gated['encoder.block.2.layer.1.DenseReluDense.wi_1.weight'] == (40, 32)
  assert gated['lm_head.weight'] == (256, 32)


@pytest.mark.parametrize('name', CONFIGS)
def test_saves_the_bytes_that_it_loaded(tmp_path, name):
  source = t5_checkpoints.write_t5(tmp_path / 'source', CONFIGS[name])
  config, params = convert.load(source)
  assert config == CONFIGS[name]
  convert.save_hf(tmp_path / 'copy', config, params, {'n_positions': 512})
  first, second = (
    model_dir.TensorReader(tmp_path / folder) for folder in ('source', 'copy')
  )
  assert first.shapes == second.shapes
  for tensor in first.shapes:
    assert first.read(tensor).tobytes() == second.read(tensor).tobytes()
  written = json.loads((tmp_path / 'copy' / 'config.json').read_text())
  assert written['n_positions'] == 512
  assert written['torch_dtype'] == 'float32'
  assert convert.check(tmp_path / 'copy') == config


def test_saves_in_another_dtype(tmp_path):
  config, params = convert.load(
    t5_checkpoints.write_t5(tmp_path / 'source', t5_checkpoints.V1_0)
  )
  bfloat16 = np.dtype(ml_dtypes.bfloat16)
  convert.save_hf(tmp_path / 'copy', config, params, dtype=bfloat16)
  reader = model_dir.TensorReader(tmp_path / 'copy')
  assert {reader.read(name).dtype for name in reader.shapes} == {bfloat16}
  written = json.loads((tmp_path / 'copy' / 'config.json').read_text())
  assert written['torch_dtype'] == 'bfloat16'


def test_kernels_are_turned_and_embeddings_are_not(tmp_path):
  source = t5_checkpoints.write_t5(tmp_path, t5_checkpoints.V1_0)
  weights = t5_checkpoints.random_weights(t5_checkpoints.V1_0)
  _, params = convert.load(source)
  np.testing.assert_array_equal(
    params['encoder']['layers_1']['mlp']['wi']['kernel'],
    weights['encoder.block.1.layer.1.DenseReluDense.wi.weight'].T,
  )
  np.testing.assert_array_equal(
    params['token_embedder']['embedding'], weights['shared.weight']
  )


def test_reads_half_precision_in_the_dtype_asked(tmp_path):
  weights = t5_checkpoints.random_weights(t5_checkpoints.V1_0)
  halves = {name: t.astype(np.float16) for name, t in weights.items()}
  write_changed(tmp_path, halves)
  _, params = convert.load(tmp_path)
  norm = params['encoder']['encoder_norm']['scale']
  assert norm.dtype == params['token_embedder']['embedding'].dtype
  assert norm.dtype == jnp.float32
  np.testing.assert_array_equal(
    norm, halves['encoder.final_layer_norm.weight'].astype(np.float32)
  )
  _, params = convert.load(tmp_path, jnp.bfloat16)
  assert params['token_embedder']['embedding'].dtype == jnp.bfloat16
  assert params['encoder']['encoder_norm']['scale'].dtype == jnp.float32


def test_ignores_what_old_files_carry(tmp_path):
  weights = t5_checkpoints.random_weights(t5_checkpoints.V1_0)
  bias = (
    'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight'
  )
  write_changed(
    tmp_path,
    {
      'encoder.embed_tokens.weight': weights['shared.weight'],
      'decoder.embed_tokens.weight': weights['shared.weight'],
      'lm_head.weight': weights['shared.weight'],
      bias: np.zeros((32, 6), np.float32),
    },
  )
  assert convert.load(tmp_path)[0] == t5_checkpoints.V1_0


def test_a_head_that_is_not_the_embedding_is_no_tied_head(tmp_path):
  head = np.zeros((256, 32), np.float32)
  write_changed(tmp_path, {'lm_head.weight': head})
  with pytest.raises(errors.InputError, match=r'lm_head\.weight is not shared'):
    convert.check(tmp_path)


def test_reads_an_untied_model_that_transformers_5_wrote(tmp_path):
  t5_checkpoints.write_t5(tmp_path, t5_checkpoints.V1_1)
  written = t5_checkpoints.V1_1.to_hf() | {'tie_word_embeddings': True}
  files.write_json(tmp_path / 'config.json', written)
  assert convert.check(tmp_path) == t5_checkpoints.V1_1


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'shared.weight': None}, 'shared.weight is missing'),
    (
      {'shared.weight': np.zeros((256, 16), np.float32)},
      r'shared.weight is \[256, 16\], not \[256, 32\]',
    ),
    (
      {'encoder.block.7.layer.0.layer_norm.weight': np.zeros(32, np.float32)},
      'encoder.block.7.layer.0.layer_norm.weight is not part of this',
    ),
    (
      {'encoder.block.1.layer.1.DenseReluDense.wi.weight': None},
      'encoder.block.1.layer.1.DenseReluDense.wi.weight is missing',
    ),
  ],
)
def test_names_tensors_that_do_not_fit(tmp_path, changes, message):
  write_changed(tmp_path, changes)
  with pytest.raises(errors.InputError, match=message):
    convert.load(tmp_path)


def test_names_a_missing_shard(tmp_path):
  t5_checkpoints.write_t5(tmp_path, t5_checkpoints.V1_0, max_shard_bytes=30_000)
  (tmp_path / 'model-00002-of-00011.safetensors').unlink()
  with pytest.raises(errors.InputError, match='model-00002-of-00011'):
    convert.load(tmp_path)


def test_refuses_another_architecture(tmp_path):
  t5_checkpoints.write_t5(tmp_path, t5_checkpoints.V1_0)
  files.write_json(tmp_path / 'config.json', {'model_type': 'gptj'})
  with pytest.raises(errors.InputError, match="is a 'gptj' model"):
    convert.load(tmp_path)


@pytest.mark.parametrize('name', CONFIGS)
def test_loads_a_t5x_checkpoint(tmp_path, name):
  t5_checkpoints.write_t5(tmp_path / 'hf', CONFIGS[name])
  t5_checkpoints.write_t5x(tmp_path / 't5x', CONFIGS[name])
  _, expected = convert.load(tmp_path / 'hf')
  config, params = convert.load(tmp_path / 't5x')
  assert config == CONFIGS[name]
  jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_config_json_may_be_inside_the_checkpoint(tmp_path):
  t5_checkpoints.write_t5x(tmp_path, t5_checkpoints.V1_0)
  config = tmp_path / 'config.json'
  config.rename(tmp_path / 'checkpoint_0' / 'config.json')
  assert convert.check(tmp_path / 'checkpoint_0') == t5_checkpoints.V1_0


def test_says_where_the_config_of_a_t5x_checkpoint_goes(tmp_path):
  t5_checkpoints.write_t5x(tmp_path, t5_checkpoints.V1_0)
  with pytest.raises(errors.InputError, match=f'give {tmp_path}, which has'):
    convert.check(tmp_path / 'checkpoint_0')
  (tmp_path / 'config.json').unlink()
  for path in (tmp_path, tmp_path / 'checkpoint_0'):
    with pytest.raises(errors.InputError, match='put that of the model there'):
      convert.check(path)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'shared.weight': None},
      'its config.json: target/token_embedder/embedding is missing',
    ),
    (
      {'shared.weight': np.zeros((256, 16), np.float32)},
      r'token_embedder/embedding is \[256, 16\], not \[256, 32\]',
    ),
    (
      {'encoder.block.1.layer.1.DenseReluDense.wi.weight': None},
      'target/encoder/layers_1/mlp/wi/kernel is missing',
    ),
  ],
)
def test_names_t5x_arrays_that_do_not_fit(tmp_path, changes, message):
  weights = t5_checkpoints.random_weights(t5_checkpoints.V1_0) | changes
  weights = {name: w for name, w in weights.items() if w is not None}
  t5_checkpoints.write_t5x(tmp_path, t5_checkpoints.V1_0, weights)
  with pytest.raises(errors.InputError, match=message):
    convert.load(tmp_path)


def test_a_t5x_checkpoint_of_another_size_than_its_config(tmp_path):
  t5_checkpoints.write_t5x(tmp_path, t5_checkpoints.V1_0)
  larger = dataclasses.replace(t5_checkpoints.V1_0, num_layers=3, d_ff=44)
  files.write_json(tmp_path / 'config.json', larger.to_hf())
  with pytest.raises(errors.InputError) as caught:
    convert.load(tmp_path)
  message = str(caught.value)
  assert 'target/encoder/layers_2/attention/key/kernel is missing' in message
  assert 'mlp/wi/kernel is [32, 40], not [32, 44]' in message


def test_weights_of_two_formats_are_no_model(tmp_path):
  t5_checkpoints.write_t5x(tmp_path, t5_checkpoints.V1_0)
  t5_checkpoints.write_t5(tmp_path, t5_checkpoints.V1_0)
  with pytest.raises(errors.InputError, match='keep one of them there'):
    convert.load(tmp_path)


@pytest.mark.parametrize('write', [write_changed, None])
def test_infinities_of_float16_are_named(tmp_path, write):
  weights = t5_checkpoints.random_weights(t5_checkpoints.V1_0)
  weights = {n: t.astype(np.float16) for n, t in weights.items()}
  weights['decoder.block.1.layer.2.DenseReluDense.wo.weight'][3, 5] = np.inf
  if write:
    write(tmp_path, weights)
  else:
    t5_checkpoints.write_t5x(tmp_path, t5_checkpoints.V1_0, weights)
  with pytest.raises(
    errors.InputError, match='decoder/layers_1/mlp/wo/kernel holds infinities'
  ):
    convert.load(tmp_path, jnp.bfloat16)
