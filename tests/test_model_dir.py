import json
import os
import pathlib
import shutil
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import serialization

from inpars_tpu import errors, model_dir
from inpars_tpu.gptj import convert as gptj_convert
from inpars_tpu.gptj import model as gptj_model
from inpars_tpu.t5 import convert as t5_convert
from inpars_tpu.t5 import network
from inpars_tpu.t5 import tensors as t5_tensors

# Directories that Hugging Face's Flax models wrote, and their logits.
FLAX = pathlib.Path(__file__).parent / 'data' / 'flax'


def write(directory, tensors, **kwargs):
  writer = model_dir.TensorWriter(directory, **kwargs)
  for name, tensor in tensors.items():
    writer.add(name, tensor)
  writer.close()


TENSORS = {
  'a': np.arange(6, dtype=np.float32).reshape(2, 3),
  'b.c': np.ones(4, ml_dtypes.bfloat16),
  'd': np.zeros((3, 1), np.float32),
}


@pytest.mark.parametrize('max_shard_bytes', [1 << 20, 24, 1])
def test_round_trip_in_any_number_of_shards(tmp_path, max_shard_bytes):
  write(tmp_path, TENSORS, max_shard_bytes=max_shard_bytes)
  reader = model_dir.TensorReader(tmp_path)
  assert reader.shapes == {'a': (2, 3), 'b.c': (4,), 'd': (3, 1)}
  for name, tensor in TENSORS.items():
    assert reader.read(name).dtype == tensor.dtype
    np.testing.assert_array_equal(reader.read(name), tensor)
    part = (slice(1, None),)
    assert reader.read(name, part).dtype == tensor.dtype
    np.testing.assert_array_equal(reader.read(name, part), tensor[part])
  columns = (slice(None), slice(1, 2))
  np.testing.assert_array_equal(reader.read('a', columns), [[1], [4]])
  assert not list(tmp_path.glob('*.tmp'))


def test_shards_have_the_names_that_transformers_gives(tmp_path):
  write(tmp_path, TENSORS, max_shard_bytes=24)
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
    'model.safetensors.index.json',
  ]
  index = json.loads((tmp_path / 'model.safetensors.index.json').read_text())
  assert index['metadata'] == {'total_size': 44}
  assert index['weight_map']['a'] == 'model-00001-of-00002.safetensors'


def test_others_may_read_what_others_may_read(tmp_path):
  umask = os.umask(0o027)
  try:
    write(tmp_path, TENSORS)
  finally:
    os.umask(umask)
  mode = (tmp_path / 'model.safetensors').stat().st_mode
  assert oct(mode & 0o777) == '0o640'


def test_missing_shard_is_named(tmp_path):
  write(tmp_path, TENSORS, max_shard_bytes=24)
  (tmp_path / 'model-00002-of-00002.safetensors').unlink()
  with pytest.raises(errors.InputError, match='model-00002-of-00002'):
    model_dir.TensorReader(tmp_path)


def test_cut_short_file_is_named(tmp_path):
  write(tmp_path, TENSORS)
  path = tmp_path / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-8])
  with pytest.raises(errors.InputError, match='not safetensors'):
    model_dir.TensorReader(tmp_path)


def test_every_difference_is_named(tmp_path):
  write(tmp_path, TENSORS)
  with pytest.raises(errors.InputError) as caught:
    model_dir.TensorReader(tmp_path).check(
      {'a': (2, 4), 'b.c': (4,), 'e': (1,)}, ignored=['x.*']
    )
  message = str(caught.value)
  assert 'a is [2, 3], not [2, 4]' in message
  assert 'e is missing' in message
  assert 'd is not part of this architecture' in message
  assert 'b.c' not in message


def test_ignored_tensors_may_be_there(tmp_path):
  write(tmp_path, TENSORS)
  expected = {name: TENSORS[name].shape for name in ('a', 'd')}
  model_dir.TensorReader(tmp_path).check(expected, ignored=[r'b\..*'])


def test_config_of_another_architecture(tmp_path):
  with pytest.raises(errors.InputError, match='has no config.json'):
    model_dir.read_config(tmp_path, ['gptj'], 'the generator')
  (tmp_path / 'config.json').write_text('{"model_type": "bert"}')
  with pytest.raises(errors.InputError) as caught:
    model_dir.read_config(tmp_path, ['t5', 'mt5'], 'the reranker')
  assert "is a 'bert' model; the reranker needs t5 or mt5" in str(caught.value)


def test_more_tokens_than_rows():
  with pytest.raises(
    errors.InputError, match='has 40 tokens and the embedding'
  ):
    model_dir.check_vocabulary('models/x', 40, 32)


def write_torch(torch, directory, num_shards):
  """The TENSORS as torch writes them, with an index where there are shards."""
  tensors = {
    name: torch.tensor(tensor.astype(np.float32)).to(
      torch.bfloat16 if tensor.dtype == ml_dtypes.bfloat16 else torch.float32
    )
    for name, tensor in TENSORS.items()
  }
  if num_shards == 1:
    torch.save(tensors, directory / 'pytorch_model.bin')
    return
  weight_map = {}
  for number, (name, tensor) in enumerate(tensors.items(), 1):
    shard = f'pytorch_model-{number:05d}-of-00003.bin'
    torch.save({name: tensor}, directory / shard)
    weight_map[name] = shard
  (directory / 'pytorch_model.bin.index.json').write_text(
    json.dumps({'weight_map': weight_map})
  )


@pytest.mark.torch
@pytest.mark.parametrize('num_shards', [1, 3])
def test_reads_what_torch_writes(tmp_path, num_shards):
  torch = pytest.importorskip('torch', reason='torch is not installed')
  write_torch(torch, tmp_path, num_shards)
  reader = model_dir.TensorReader(tmp_path)
  assert reader.shapes == {'a': (2, 3), 'b.c': (4,), 'd': (3, 1)}
  for name, tensor in TENSORS.items():
    assert reader.read(name).dtype == tensor.dtype
    np.testing.assert_array_equal(reader.read(name), tensor)


@pytest.mark.torch
def test_a_pickle_with_code_in_it_is_refused(tmp_path):
  torch = pytest.importorskip('torch', reason='torch is not installed')
  torch.save({'a': pathlib.PurePath('x')}, tmp_path / 'pytorch_model.bin')
  with pytest.raises(errors.InputError, match='not torch weights'):
    model_dir.TensorReader(tmp_path)


def test_torch_weights_without_torch_say_what_to_do(tmp_path, monkeypatch):
  (tmp_path / 'pytorch_model.bin').write_bytes(b'x')
  monkeypatch.setitem(sys.modules, 'torch', None)  # Import fails.
  with pytest.raises(errors.InputError, match='pip install torch, or save'):
    model_dir.TensorReader(tmp_path)


def test_flax_tensors_have_torchs_names_and_orientation():
  reader = model_dir.TensorReader(FLAX / 't5')
  expected = t5_tensors.hf_shapes(t5_convert.check(FLAX / 't5'))
  assert reader.shapes == expected
  assert reader.shapes['lm_head.weight'] == (24, 8)
  for name, shape in expected.items():
    whole = reader.read(name)
    assert whole.shape == shape
    part = (slice(1, 3),)
    np.testing.assert_array_equal(reader.read(name, part), whole[part])


def test_reads_the_flax_t5_of_hugging_face():
  config, params = t5_convert.load(FLAX / 't5')
  inputs = jnp.array([[5, 9, 3, 17, 1], [8, 2, 1, 0, 0]])
  logits = jax.jit(network.Transformer(config).apply)(
    {'params': params}, inputs, jnp.array([[0, 7], [0, 20]]), jnp.ones((2, 2))
  )
  with np.load(FLAX / 'outputs.npz') as stored:
    np.testing.assert_allclose(logits, stored['t5'], atol=1e-5)


def test_reads_the_flax_gptj_of_hugging_face_in_shards():
  assert len(list((FLAX / 'gptj').glob('*.msgpack'))) == 3
  config, params = gptj_convert.load(FLAX / 'gptj', jnp.float32)
  logits, _ = jax.jit(gptj_model.prefill, static_argnums=1)(
    params,
    config,
    gptj_model.empty_prefix(params, config),
    jnp.array([[5, 9, 3, 17, 1]]),
    jnp.array([5]),
  )
  with np.load(FLAX / 'outputs.npz') as stored:
    np.testing.assert_allclose(logits, stored['gptj'][:, -1], atol=1e-5)


def test_missing_flax_shard_is_named(tmp_path):
  shutil.copytree(FLAX / 'gptj', tmp_path / 'x')
  (tmp_path / 'x' / 'flax_model-00002-of-00003.msgpack').unlink()
  with pytest.raises(errors.InputError, match='flax_model-00002-of-00003'):
    model_dir.TensorReader(tmp_path / 'x')


def test_flax_halves_keep_their_dtype(tmp_path):
  tree = {'a': {'kernel': np.ones((2, 3), np.float16)}}
  path = tmp_path / 'flax_model.msgpack'
  path.write_bytes(serialization.msgpack_serialize(tree))
  reader = model_dir.TensorReader(tmp_path)
  assert reader.shapes == {'a.weight': (3, 2)}
  assert reader.read('a.weight').dtype == np.float16


def test_one_directory_is_one_model_whatever_is_installed(tmp_path):
  (tmp_path / 'pytorch_model.bin').write_bytes(b'not read')
  tree = {'a': {'bias': np.zeros(2, np.float32)}}
  path = tmp_path / 'flax_model.msgpack'
  path.write_bytes(serialization.msgpack_serialize(tree))
  assert list(model_dir.TensorReader(tmp_path).shapes) == ['a.bias']


def test_an_index_without_its_map_is_named(tmp_path):
  (tmp_path / 'model.safetensors.index.json').write_text('{}')
  with pytest.raises(errors.InputError, match='index.json has no weight_map'):
    model_dir.TensorReader(tmp_path)


def test_directory_without_weights(tmp_path):
  with pytest.raises(errors.InputError, match='no model.safetensors and no'):
    model_dir.TensorReader(tmp_path)
