"""GPT-J against Hugging Face's, and a row against its own whole prompt.

tests/data/gptj_hf.npz holds float32 outputs of transformers' GPTJForCausalLM
on the checkpoints that `checkpoints.write_gptj` makes; the test marked torch
makes them anew where torch and transformers are there.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inpars_tpu import errors, model_dir
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import convert, model
from tests import checkpoints

STORED = pathlib.Path(__file__).parent / 'data' / 'gptj_hf.npz'
CONFIGS = {
  'two_heads': config_lib.GPTJConfig(
    vocab_size=101, max_positions=64, model_dim=16, num_layers=2,
    num_heads=2, rotary_dim=4, mlp_dim=64,
  ),
  'whole_head_rotated': config_lib.GPTJConfig(
    vocab_size=50, max_positions=64, model_dim=24, num_layers=3,
    num_heads=3, rotary_dim=8, mlp_dim=40,
  ),
  'one_layer': config_lib.GPTJConfig(
    vocab_size=64, max_positions=64, model_dim=32, num_layers=1,
    num_heads=1, rotary_dim=16, mlp_dim=128,
  ),
  'many_heads': config_lib.GPTJConfig(
    vocab_size=77, max_positions=64, model_dim=64, num_layers=4,
    num_heads=16, rotary_dim=2, mlp_dim=256,
  ),
}  # fmt: skip
PREFILL = jax.jit(model.prefill, static_argnums=1)
DECODE = jax.jit(model.decode_step, static_argnums=1)
LENGTH = 12  # Tokens of each stored prompt.


def stored_tokens(name: str) -> np.ndarray:
  """[3, LENGTH] int32."""
  generator = np.random.default_rng(3)
  return generator.integers(0, CONFIGS[name].vocab_size, (3, LENGTH), np.int32)


@pytest.fixture(scope='module')
def loaded(tmp_path_factory):
  """name -> (config, params) of each checkpoint."""
  folder = tmp_path_factory.mktemp('gptj')
  return {
    name: convert.load(
      checkpoints.write_gptj(folder / name, config, seed=1), jnp.float32
    )
    for name, config in CONFIGS.items()
  }


def own_logits(config, params, tokens, split: int, prompt: int) -> np.ndarray:
  """Logits after each token from `prompt - 1` on, by prefix, prefill, steps.

  The first `split` tokens are the shared prefix, those up to `prompt` each
  row's own prompt, the rest are decoded one by one. [B, LENGTH - prompt + 1, V]
  """
  prefix = model.prefill_prefix(params, config, jnp.asarray(tokens[0, :split]))
  num_own = prompt - split
  size = num_own + 3  # Padding after the own prompt.
  own = np.zeros((len(tokens), size), np.int32)
  own[:, :num_own] = tokens[:, split:prompt]
  lengths = jnp.full(len(tokens), num_own, jnp.int32)
  logits, new = PREFILL(params, config, prefix, jnp.asarray(own), lengths)
  cache = model.empty_cache(params, config, len(tokens), size + LENGTH)
  cache = model.put_rows(cache, new, jnp.arange(len(tokens)))
  out, slots = [logits], jnp.arange(size + LENGTH)[None]
  for step in range(LENGTH - prompt):
    is_visible = (slots < num_own) | ((slots >= size) & (slots <= size + step))
    logits, cache = DECODE(
      params, config, prefix, jnp.asarray(tokens[:, prompt + step]),
      lengths + step, jnp.int32(size + step),
      jnp.broadcast_to(is_visible, (len(tokens), size + LENGTH)), cache,
    )  # fmt: skip
    out.append(logits)
  return np.stack(out, axis=1)


@pytest.mark.parametrize('name', CONFIGS)
def test_logits_equal_hugging_face(loaded, name):
  config, params = loaded[name]
  tokens = stored_tokens(name)
  expected = np.load(STORED)[name]  # [3, LENGTH, V]
  got = own_logits(config, params, tokens, split=0, prompt=1)
  np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('split', [0, 5])
def test_read_gives_every_position_at_once(loaded, name, split):
  config, params = loaded[name]
  tokens = stored_tokens(name)
  expected = np.load(STORED)[name]  # [3, LENGTH, V]
  for row, whole in enumerate(jnp.asarray(tokens)[:, None]):
    prefix = model.prefill_prefix(params, config, whole[0, :split])
    hidden = model.read(params, config, prefix, whole[:, split:])
    got = model.logits(params, config, hidden[0])
    np.testing.assert_allclose(got, expected[row, split:], atol=1e-4)


@pytest.mark.parametrize('name', CONFIGS)
def test_saves_the_bytes_that_it_loaded(loaded, name, tmp_path):
  config, params = loaded[name]
  checkpoints.write_gptj(tmp_path / 'source', config, seed=1)
  convert.save_hf(tmp_path / 'copy', config, params, np.float32)
  first, second = (
    model_dir.TensorReader(tmp_path / folder) for folder in ('source', 'copy')
  )
  assert first.shapes == second.shapes
  for tensor in first.shapes:
    np.testing.assert_array_equal(
      first.read(tensor).astype(np.float32), second.read(tensor)
    )
  assert convert.check(tmp_path / 'copy') == config


@pytest.mark.parametrize('split,prompt', [(4, 7), (1, 12), (10, 11)])
def test_shared_prefix_changes_nothing(loaded, split, prompt):
  config, params = loaded['two_heads']
  tokens = stored_tokens('two_heads')
  tokens[:, :split] = tokens[:1, :split]
  whole = own_logits(config, params, tokens, split=0, prompt=1)
  got = own_logits(config, params, tokens, split=split, prompt=prompt)
  np.testing.assert_allclose(got, whole[:, prompt - 1 :], atol=1e-5)


@pytest.mark.parametrize('name', CONFIGS)
def test_table_of_the_first_layer_changes_nothing(loaded, name):
  config, params = loaded[name]
  tokens = stored_tokens(name)
  chosen = np.append(np.unique(tokens)[::-1], tokens[0, 0])  # Twice.
  table = jax.jit(model.tabulate, static_argnums=1)(params, config, chosen)
  assert table.rows.outer.shape == (len(chosen), config.model_dim)
  # What the table stands in for plays no part any more.
  emptied = {**params['layers'][0], 'query': None, 'mlp_in': None}
  tabled = params | {
    'first': table, 'layers': [emptied, *params['layers'][1:]]
  }  # fmt: skip
  got = own_logits(config, tabled, tokens, split=0, prompt=5)
  expected = own_logits(config, params, tokens, split=0, prompt=5)
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_row_does_not_depend_on_its_neighbours(loaded):
  config, params = loaded['two_heads']
  prefix = model.empty_prefix(params, config)
  tokens = np.array([[5, 6, 7, 0], [9, 8, 7, 6]], np.int32)
  lengths = np.array([3, 4], np.int32)
  both, _ = model.prefill(params, config, prefix, tokens, lengths)
  alone, _ = model.prefill(params, config, prefix, tokens[:1, :3], lengths[:1])
  np.testing.assert_allclose(both[:1], alone, atol=1e-5)


def test_bfloat16_stays_near_float32(loaded, tmp_path):
  config, params = loaded['two_heads']
  tokens = stored_tokens('two_heads')
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  wide = own_logits(config, params, tokens, split=0, prompt=4)
  narrow = own_logits(config, half, tokens, split=0, prompt=4)
  assert narrow.dtype == np.float32
  np.testing.assert_allclose(narrow, wide, atol=0.3)


def test_other_sizes_than_config_are_named(tmp_path):
  config = CONFIGS['two_heads']
  folder = checkpoints.write_gptj(tmp_path, config, seed=1)
  wrong = dict(config.to_hf(), n_layer=1, n_inner=60)
  (folder / 'config.json').write_text(str(wrong).replace("'", '"').replace(
    'False', 'false'))  # fmt: skip
  with pytest.raises(errors.InputError) as caught:
    convert.load(folder, jnp.float32)
  message = str(caught.value)
  assert 'transformer.h.0.mlp.fc_in.weight is [64, 16], not [60, 16]' in message
  assert 'transformer.h.1.ln_1.weight is not part of this' in message


def test_field_missing_in_config():
  with pytest.raises(errors.InputError, match="lacks 'rotary_dim'"):
    config = CONFIGS['two_heads'].to_hf()
    del config['rotary_dim']
    config_lib.GPTJConfig.from_hf(config)


@pytest.mark.torch
def test_make_stored_outputs_anew(tmp_path):
  torch = pytest.importorskip('torch', reason='torch is not installed')
  transformers = pytest.importorskip('transformers')
  outputs = {}
  for name, config in CONFIGS.items():
    folder = checkpoints.write_gptj(tmp_path / name, config, seed=1)
    network = transformers.GPTJForCausalLM.from_pretrained(
      folder, dtype=torch.float32
    ).eval()
    with torch.no_grad():
      tokens = torch.tensor(stored_tokens(name)).long()
      outputs[name] = network(tokens).logits.numpy()
  if not STORED.exists():
    np.savez_compressed(STORED, **outputs)
  stored = np.load(STORED)
  for name, output in outputs.items():
    np.testing.assert_allclose(output, stored[name], atol=1e-5)
