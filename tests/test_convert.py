import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest

from inpars_tpu import (
  cli,
  convert,
  errors,
  files,
  manifest,
  model_dir,
  monot5,
  score,
  t5x_checkpoint,
)
from inpars_tpu.t5 import convert as t5_convert
from tests import mesh_checkpoints, t5_checkpoints

CONFIGS = {'v1_0': t5_checkpoints.V1_0, 'v1_1': t5_checkpoints.V1_1}
# A square kernel and a wide one with sides of 128 or more: factored slots.
WIDE = dataclasses.replace(
  t5_checkpoints.V1_0,
  d_model=128,
  d_kv=64,
  num_heads=2,
  d_ff=130,
  num_layers=1,
  num_decoder_layers=1,
)


def run(model, output, from_format, to_format, **options):
  convert.convert(
    model, output, from_format=from_format, to_format=to_format, **options
  )
  return output


def write_model(directory, config, dtype=np.float32):
  """A Hugging Face directory with all its files, in float32 or another."""
  weights = t5_checkpoints.random_weights(config)
  t5_checkpoints.write_weights(
    directory, {n: t.astype(dtype) for n, t in weights.items()}
  )
  # Fields, an order and a layout that are not ours.
  record = {'torch_dtype': np.dtype(dtype).name, **config.to_hf()}
  text = json.dumps(record | {'n_positions': 512}, indent=3)
  (directory / 'config.json').write_text(text)
  t5_checkpoints.write_pieces(directory)
  files.write_json(directory / 'tokenizer_config.json', {'extra_ids': 100})
  spec = {'label_words': ['false', 'true'], 'template': monot5.MONOT5.template}
  (directory / 'reranker.json').write_text(json.dumps(spec))
  return directory


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  folder = tmp_path_factory.mktemp('models')
  for name, config in CONFIGS.items():
    write_model(folder / name, config)
  return folder


@pytest.mark.parametrize('name', CONFIGS)
def test_hf_to_t5x_to_hf_gives_equal_bytes(models, tmp_path, name):
  source = models / name
  t5x = run(source, tmp_path / 't5x', 'hf', 't5x')
  back = run(t5x, tmp_path / 'back', 't5x', 'hf')
  assert not list(t5x.glob('*.safetensors'))
  for file in source.iterdir():
    assert (back / file.name).read_bytes() == file.read_bytes(), file.name
  assert {file.name for file in back.iterdir()} == {
    'manifest.json', *(file.name for file in source.iterdir())
  }  # fmt: skip


@pytest.mark.parametrize('dtype', [ml_dtypes.bfloat16, np.float16])
def test_a_dtype_is_kept(tmp_path, dtype):
  source = write_model(tmp_path / 'source', t5_checkpoints.V1_0, dtype)
  t5x = run(source, tmp_path / 't5x', 'hf', 't5x')
  reader = t5x_checkpoint.Reader(t5x / 'checkpoint_0')
  assert reader.read('target/encoder/encoder_norm/scale').dtype == dtype
  back = run(t5x, tmp_path / 'back', 't5x', 'hf')
  file = 'model.safetensors'
  assert (back / file).read_bytes() == (source / file).read_bytes()


def test_t5x_of_hf_starts_as_t5x_starts(tmp_path):
  source = write_model(tmp_path / 'source', WIDE)
  t5x = run(source, tmp_path / 't5x', 'hf', 't5x')
  reader = t5x_checkpoint.Reader(t5x / 'checkpoint_0')
  assert reader.read('state/step') == 0
  slots = 'state/param_states/encoder/layers_0/mlp/wi/kernel'
  assert reader.shapes[f'{slots}/v_row'] == (128,)
  assert reader.shapes[f'{slots}/v_col'] == (130,)
  assert reader.shapes[f'{slots}/v'] == (1,)
  assert not reader.read(f'{slots}/v_row').any()
  assert manifest.read(t5x)['counts'] == {'tensors': 26, 'step': 0}


@pytest.mark.parametrize('has_rms_norms', [False, True])
@pytest.mark.parametrize('name', CONFIGS)
def test_mesh_to_hf(models, tmp_path, name, has_rms_norms):
  prefix = mesh_checkpoints.write(
    tmp_path / 'mesh',
    mesh_checkpoints.variables(CONFIGS[name]),
    has_rms_norms=has_rms_norms,
  )
  hf = run(
    prefix,
    tmp_path / 'hf',
    'mesh_tf',
    'hf',
    config=str(models / name / 'config.json'),
    tokenizer_dir=models / name,
    label_words='false,true',
  )
  for file in ('model.safetensors', 'spiece.model'):
    assert (hf / file).read_bytes() == (models / name / file).read_bytes()
  assert monot5.read_spec(hf) == monot5.MONOT5
  assert t5_convert.check(hf) == CONFIGS[name]


def test_mesh_to_t5x_goes_on_from_its_slots_and_step(models, tmp_path):
  variables = mesh_checkpoints.variables(WIDE)
  mesh_checkpoints.write(tmp_path / 'mesh', variables)
  files.write_json(tmp_path / 'mesh' / 'config.json', WIDE.to_hf())
  t5_checkpoints.write_pieces(tmp_path / 'mesh')
  t5x = run(tmp_path / 'mesh', tmp_path / 't5x', 'mesh_tf', 't5x')
  assert manifest.read(t5x)['counts']['step'] == 1_010_000
  reader = t5x_checkpoint.Reader(t5x / 'checkpoint_1010000')
  assert reader.read('state/step') == 1_010_000
  assert reader.read('state/step').dtype == np.int32

  def check(ours, theirs, swapped=False):
    np.testing.assert_array_equal(
      reader.read(f'target/{ours}'), variables[theirs]
    )
    slots = {
      slot: reader.read(f'state/param_states/{ours}/{slot}')
      for slot in ('m', 'v', 'v_row', 'v_col')
    }
    wanted = {'v_row': '_slot_vr', 'v_col': '_slot_vc', 'v': '_slot_v'}
    if swapped:
      wanted |= {'v_row': '_slot_vc', 'v_col': '_slot_vr'}
    for slot, values in slots.items():
      expected = variables.get(theirs + wanted.get(slot, ''), np.zeros(1))
      if slot == 'm':
        expected = np.zeros(1)
      np.testing.assert_array_equal(values, expected)

  block = 'encoder/block_000/layer_00'
  check('token_embedder/embedding', 'shared/embedding')
  check('encoder/layers_0/mlp/wi/kernel', f'{block}1/DenseReluDense/wi/kernel')
  check('encoder/encoder_norm/scale', 'encoder/final_layer_norm/scale')
  query = 'encoder/layers_0/attention/query/kernel'
  check(query, f'{block}0/SelfAttention/q', swapped=True)
  check(
    'encoder/relpos_bias/rel_embedding',
    f'{block}0/SelfAttention/relative_attention_bias',
  )
  # And once more, through t5x: nothing is lost.
  again = run(t5x, tmp_path / 'again', 't5x', 't5x')
  copy = t5x_checkpoint.Reader(again / 'checkpoint_1010000')
  assert copy.shapes == reader.shapes
  for name in copy.shapes:
    assert copy.read(name).tobytes() == reader.read(name).tobytes()


def test_mesh_without_slots_starts_at_step_0(models, tmp_path):
  variables = {
    name: value
    for name, value in mesh_checkpoints.variables(t5_checkpoints.V1_0).items()
    if '_slot_' not in name
  }
  prefix = mesh_checkpoints.write(tmp_path / 'mesh', variables)
  (tmp_path / 'mesh' / 'config.json').write_bytes(
    (models / 'v1_0' / 'config.json').read_bytes()
  )
  options = {'tokenizer_dir': models / 'v1_0'}
  run(prefix, tmp_path / 't5x', 'mesh_tf', 't5x', **options)
  assert (tmp_path / 't5x' / 'checkpoint_0').is_dir()


def test_a_named_size_has_the_rows_of_its_tokenizer(models, tmp_path):
  tiny = dataclasses.replace(
    t5_checkpoints.V1_0,
    vocab_size=256,
    num_layers=2,
    num_decoder_layers=2,
    num_heads=4,
    d_ff=64,
  )
  prefix = mesh_checkpoints.write(
    tmp_path / 'mesh', mesh_checkpoints.variables(tiny)
  )
  hf = run(
    prefix,
    tmp_path / 'hf',
    'mesh_tf',
    'hf',
    config='t5_tiny',
    tokenizer_dir=models / 'v1_0',
  )
  assert t5_convert.check(hf) == tiny
  assert not (hf / 'reranker.json').exists()


def test_score_is_the_same_from_every_format(models, tmp_path):
  pairs = tmp_path / 'pairs.jsonl'
  files.write_jsonl(pairs, [{'query': 'a stone', 'text': 'the old boat'}])
  t5x = run(models / 'v1_0', tmp_path / 't5x', 'hf', 't5x')
  outputs = []
  for number, model in enumerate((models / 'v1_0', t5x)):
    outputs.append(tmp_path / f'{number}.jsonl')
    score.score(pairs, model, outputs[-1], t5_checkpoints.small_recipe())
  assert outputs[0].read_bytes() == outputs[1].read_bytes()


@pytest.mark.parametrize('to_format', ['hf', 't5x'])
def test_killed_before_the_manifest_it_does_it_anew(
  models, tmp_path, monkeypatch, to_format
):
  source, output = models / 'v1_0', tmp_path / 'output'
  read = t5_convert.weights_lib.Weights.read
  left = [30]

  def read_some(self, path):
    left[0] -= 1
    if not left[0]:
      raise KeyboardInterrupt
    return read(self, path)

  monkeypatch.setattr(t5_convert.weights_lib.Weights, 'read', read_some)
  with pytest.raises(KeyboardInterrupt):
    run(source, output, 'hf', to_format)
  assert not (output / 'manifest.json').exists()
  with pytest.raises(errors.InputError):
    t5_convert.check(output)
  run(source, output, 'hf', to_format)
  _, params = t5_convert.load(output)
  _, expected = t5_convert.load(source)
  jax.tree.map(np.testing.assert_array_equal, params, expected)
  assert not list(output.glob('*.tmp'))
  before = manifest.read(output)
  run(source, output, 'hf', to_format)  # Complete: nothing is done.
  assert manifest.read(output) == before


@pytest.mark.parametrize(
  ('from_format', 'options', 'message'),
  [
    ('t5x', {}, 'is, and holds, no t5x checkpoint'),
    ('mesh_tf', {}, 'takes one Mesh TensorFlow checkpoint'),
    ('hf', {'config': 't5_small'}, 'has a config.json: leave the flag out'),
    ('hf', {'tokenizer_dir': 'x'}, '--tokenizer=x, but .* has spiece.model'),
    ('hf', {'label_words': 'no,yes'}, 'says .*false.*true'),
  ],
)
def test_flags_that_contradict_the_model(
  models, tmp_path, from_format, options, message
):
  with pytest.raises(errors.InputError, match=message):
    run(models / 'v1_0', tmp_path / 'output', from_format, 'hf', **options)
  assert not (tmp_path / 'output').exists()


def test_another_architecture(models, tmp_path):
  source = write_model(tmp_path / 'source', t5_checkpoints.V1_0)
  files.write_json(source / 'config.json', {'model_type': 'gptj'})
  with pytest.raises(errors.InputError, match='convert needs t5 or mt5'):
    run(source, tmp_path / 'output', 'hf', 't5x')


def test_another_architecture_without_a_vocabulary_of_pieces(tmp_path):
  files.write_json(tmp_path / 'config.json', {'model_type': 'gptj'})
  with pytest.raises(errors.InputError, match="'gptj' model; convert needs"):
    convert.convert(
      tmp_path, tmp_path / 'out', from_format='hf', to_format='t5x'
    )


def test_a_t5x_checkpoint_is_not_hf(models, tmp_path):
  t5x = run(models / 'v1_0', tmp_path / 't5x', 'hf', 't5x')
  with pytest.raises(errors.InputError, match='--from_format=t5x'):
    run(t5x, tmp_path / 'output', 'hf', 'hf')


def test_says_how_to_give_what_a_checkpoint_lacks(models, tmp_path):
  prefix = mesh_checkpoints.write(
    tmp_path / 'mesh', mesh_checkpoints.variables(t5_checkpoints.V1_0)
  )
  with pytest.raises(errors.InputError, match='give --tokenizer='):
    run(prefix, tmp_path / 'output', 'mesh_tf', 'hf')
  options = {'tokenizer_dir': models / 'v1_0'}
  with pytest.raises(errors.InputError, match='give --config='):
    run(prefix, tmp_path / 'output', 'mesh_tf', 'hf', **options)
  with pytest.raises(errors.InputError, match='did you mean t5_small'):
    options['config'] = 't5_smal'
    run(prefix, tmp_path / 'output', 'mesh_tf', 'hf', **options)
  options['config'] = str(models / 'v1_1' / 'config.json')
  with pytest.raises(
    errors.InputError,
    match='block_000/layer_001/DenseReluDense/wi_0/kernel is missing',
  ):
    run(prefix, tmp_path / 'output', 'mesh_tf', 'hf', **options)
  assert not (tmp_path / 'output').exists()


def test_command(models, tmp_path, capsys):
  code = cli.main([
    'convert', '--from_format=hf', '--to_format=t5x',
    f'--model={models / "v1_0"}', f'--output={tmp_path / "out"}',
  ])  # fmt: skip
  assert code == 0
  assert (tmp_path / 'out' / 'checkpoint_0' / 'checkpoint').exists()
  code = cli.main(['convert', '--from_format=tf', '--to_format=hf'])
  assert code == 2
  assert "unknown --from_format 'tf'" in capsys.readouterr().err


def test_a_shard_of_the_source_is_missing(tmp_path):
  source = write_model(tmp_path / 'source', t5_checkpoints.V1_0)
  (source / 'model.safetensors').unlink()
  t5_checkpoints.write_t5(source, t5_checkpoints.V1_0, max_shard_bytes=30_000)
  (source / 'model-00003-of-00011.safetensors').unlink()
  with pytest.raises(errors.InputError, match='model-00003-of-00011'):
    run(source, tmp_path / 'output', 'hf', 't5x')


def test_other_shards_than_ours_become_ours(models, tmp_path):
  source = tmp_path / 'source'
  write_model(source, t5_checkpoints.V1_0)
  (source / 'model.safetensors').unlink()
  t5_checkpoints.write_t5(source, t5_checkpoints.V1_0, max_shard_bytes=30_000)
  output = run(source, tmp_path / 'output', 'hf', 'hf')
  assert list(output.glob('*.safetensors')) == [output / 'model.safetensors']
  first, second = (model_dir.TensorReader(d) for d in (source, output))
  assert first.shapes == second.shapes
  for name in first.shapes:
    assert first.read(name).tobytes() == second.read(name).tobytes()
