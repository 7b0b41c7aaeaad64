import json

import jax.numpy as jnp
import numpy as np
import pytest

from inpars_tpu import errors, init, model_dir, monot5
from inpars_tpu import reranker as reranker_lib
from inpars_tpu.demo import pieces
from inpars_tpu.gptj import convert as gptj_convert
from inpars_tpu.t5 import convert as t5_convert
from inpars_tpu.t5 import tensors as t5_tensors
from tests import checkpoints


@pytest.fixture(scope='module')
def tokenizers(tmp_path_factory):
  """Folders of a byte-level BPE and of T5 pieces with the label words."""
  folder = tmp_path_factory.mktemp('tokenizers')
  checkpoints.write_gpt2_tokenizer(folder / 'gptj')
  sentences = checkpoints.random_sentences(300, seed=0)
  pieces.train_pieces(sentences, 600, folder / 't5')
  return folder


def test_gptj_loads_and_says_its_limit(tokenizers, tmp_path):
  init.init('gptj_tiny', tokenizers / 'gptj', tmp_path / 'g', seed=1)
  config, params = gptj_convert.load(tmp_path / 'g', jnp.float32)
  assert (config.vocab_size, config.num_layers, config.model_dim) == (
    512,
    2,
    32,
  )
  np.testing.assert_allclose(np.std(params['embedding']), 0.02, rtol=0.02)
  np.testing.assert_array_equal(params['final_norm']['scale'], np.ones(32))
  limits = json.loads((tmp_path / 'g' / 'tokenizer_config.json').read_text())
  assert limits['model_max_length'] == 2_048


def test_t5_loads_and_says_what_it_reads(tokenizers, tmp_path):
  init.init('t5_tiny', tokenizers / 't5', tmp_path / 'r', seed=1)
  config, _ = t5_convert.load(tmp_path / 'r', jnp.float32)
  assert (config.d_model, config.num_layers, config.is_gated) == (32, 2, False)
  assert reranker_lib.check(tmp_path / 'r')[0] == monot5.MONOT5
  limits = json.loads((tmp_path / 'r' / 'tokenizer_config.json').read_text())
  assert limits['model_max_length'] == 512


def test_weights_depend_on_the_seed_and_on_no_shard_size(
  tokenizers, tmp_path, monkeypatch
):
  init.init('gptj_tiny', tokenizers / 'gptj', tmp_path / 'a', seed=1)
  init.init('gptj_tiny', tokenizers / 'gptj', tmp_path / 'b', seed=2)
  whole = model_dir.TensorReader(tmp_path / 'a')
  other = model_dir.TensorReader(tmp_path / 'b')
  monkeypatch.setattr(
    model_dir.TensorWriter.__init__, '__defaults__', (20_000,)
  )
  init.init('gptj_tiny', tokenizers / 'gptj', tmp_path / 'c', seed=1)
  parts = model_dir.TensorReader(tmp_path / 'c')
  assert len(list((tmp_path / 'c').glob('*.safetensors'))) > 3
  for name in whole.shapes:
    np.testing.assert_array_equal(whole.read(name), parts.read(name))
  name = 'lm_head.weight'
  assert not np.array_equal(whole.read(name), other.read(name))


@pytest.mark.shared_data
@pytest.mark.parametrize(
  'name,rows', [('gptj_tiny', 50_400), ('t5_tiny', 32_128)]
)
def test_published_vocabularies_get_the_published_rows(
  shared_data, tmp_path, name, rows
):
  kind = name.partition('_')[0]
  init.init(name, shared_data / 'tokenizers' / kind, tmp_path / 'm', seed=1)
  config = json.loads((tmp_path / 'm' / 'config.json').read_text())
  assert config['vocab_size'] == rows


@pytest.mark.parametrize('name,millions', [
  ('gptj_10m', 6.5), ('gptj_6b', 5_642), ('t5_16m', 7.4), ('t5_3b', 2_819),
])  # fmt: skip
def test_named_sizes(tokenizers, name, millions):
  """Parameters with the small vocabulary of the test's tokenizers."""
  kind = name.partition('_')[0]
  hf_config = init.resolve_config(name, tokenizers / kind)
  if kind == 'gptj':
    shapes = gptj_convert.hf_shapes(
      init.gptj_config.GPTJConfig.from_hf(hf_config)
    )
  else:
    shapes = t5_tensors.hf_shapes(init.t5_config.T5Config.from_hf(hf_config))
  total = sum(np.prod(shape, dtype=np.int64) for shape in shapes.values())
  np.testing.assert_allclose(total / 1e6, millions, rtol=0.02)


def test_config_file(tokenizers, tmp_path):
  init.init('gptj_tiny', tokenizers / 'gptj', tmp_path / 'a', seed=1)
  path = tmp_path / 'a' / 'config.json'
  init.init(str(path), tokenizers / 'gptj', tmp_path / 'b', seed=1)
  assert (tmp_path / 'b' / 'config.json').read_bytes() == path.read_bytes()


@pytest.mark.parametrize('config,words', [
  ('gptj_6t', "unknown config 'gptj_6t'; did you mean gptj_6b"),
  ('small.json', 'has 400 tokens and the embedding 300 rows'),
  ('broken.json', 'not JSON'),
  ('bert.json', "is a 'bert' model"),
])  # fmt: skip
def test_wrong_config_writes_nothing(tokenizers, tmp_path, config, words):
  small = init.gptj_config.GPTJConfig(vocab_size=300, num_layers=1).to_hf()
  for name, text in (
    ('small', json.dumps(small)),
    ('broken', '{'),
    ('bert', '{"model_type": "bert"}'),
  ):
    (tmp_path / f'{name}.json').write_text(text)
  path = tmp_path / config
  with pytest.raises(errors.InputError) as caught:
    init.init(
      str(path) if path.exists() else config,
      tokenizers / 'gptj',
      tmp_path / 'out',
      seed=1,
    )
  assert words in str(caught.value)
  assert not (tmp_path / 'out').exists()


def test_tokenizer_of_the_other_architecture(tokenizers, tmp_path):
  with pytest.raises(errors.InputError, match='neither spiece.model'):
    init.init('t5_tiny', tokenizers / 'gptj', tmp_path / 'out', seed=1)
  assert not (tmp_path / 'out').exists()
