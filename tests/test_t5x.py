"""Ours and t5x itself, where that is installed: checkpoints and the network."""

import asyncio
import dataclasses
import gc
import importlib
import types

import jax
import numpy as np
import pytest
from flax import traverse_util

from inpars_tpu import convert, files, t5x_checkpoint
from inpars_tpu.t5 import convert as t5_convert
from inpars_tpu.t5 import network
from tests import mesh_checkpoints, t5_checkpoints

# t5x warns of its own imports, and promotes dtypes and ranks.
pytestmark = [pytest.mark.t5x, pytest.mark.filterwarnings('ignore')]

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
SHAPES = {
  'encoder_input_tokens': (2, 16),
  'decoder_input_tokens': (2, 4),
  'decoder_target_tokens': (2, 4),
}


@pytest.fixture(scope='module')
def t5x():
  pytest.importorskip('t5x', reason='t5x is not installed')
  names = (
    'adafactor',
    'checkpoint_importer',
    'checkpoints',
    'models',
    'partitioning',
    'utils',
  )
  yield types.SimpleNamespace(
    **{name: importlib.import_module(f't5x.{name}') for name in names},
    network=importlib.import_module('t5x.examples.t5.network'),
    seqio=importlib.import_module('seqio'),
  )
  # t5x closes none of its event loops; here their warnings are ignored.
  asyncio.set_event_loop(None)
  gc.collect()


@pytest.fixture(autouse=True)
def lenient_jax():
  with jax.numpy_dtype_promotion('standard'):
    with jax.numpy_rank_promotion('allow'):
      yield


def make_batch():
  generator = np.random.default_rng(0)
  inputs, targets = (
    generator.integers(1, 256, SHAPES[name], np.int32)
    for name in ('encoder_input_tokens', 'decoder_target_tokens')
  )
  inputs[1, 9:] = 0
  return {
    'encoder_input_tokens': inputs,
    'decoder_input_tokens': np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
    'decoder_target_tokens': targets,
    'decoder_loss_weights': np.ones(targets.shape, np.float32),
  }


def their_network(t5x, config):
  return t5x.network.Transformer(
    t5x.network.T5Config(
      vocab_size=config.vocab_size,
      dtype='float32',
      emb_dim=config.d_model,
      num_heads=config.num_heads,
      num_encoder_layers=config.num_layers,
      num_decoder_layers=config.num_decoder_layers,
      head_dim=config.d_kv,
      mlp_dim=config.d_ff,
      mlp_activations=('gelu', 'linear') if config.is_gated else ('relu',),
      logits_via_embedding=config.tie_word_embeddings,
    )
  )


def make_model(t5x, module):
  vocabulary = t5x.seqio.ByteVocabulary()
  rules = t5x.adafactor.standard_logical_factor_rules()
  return t5x.models.EncoderDecoderModel(
    module,
    vocabulary,
    vocabulary,
    t5x.adafactor.Adafactor(decay_rate=0.8, logical_factor_rules=rules),
  )


def make_initializer(t5x, model, *, has_optimizer=True):
  return t5x.utils.TrainStateInitializer(
    optimizer_def=model.optimizer_def if has_optimizer else None,
    init_fn=model.get_initial_variables,
    input_shapes=SHAPES,
    input_types=None,
    partitioner=t5x.partitioning.PjitPartitioner(num_partitions=1),
  )


def restore(t5x, initializer, checkpoint):
  """As t5x's train, infer and eval do."""
  manager = t5x.checkpoints.OrbaxCheckpointManagerInterface(
    str(checkpoint.parent),
    initializer.global_train_state_shape,
    t5x.partitioning.PjitPartitioner(num_partitions=1),
  )
  return manager.restore(path=str(checkpoint))


def flat(tree):
  return {
    '/'.join(path): np.asarray(array)
    for path, array in traverse_util.flatten_dict(tree).items()
  }


def write_model(directory, config):
  t5_checkpoints.write_t5(directory, config)
  return t5_checkpoints.write_pieces(directory)


def to_t5x(source, output, from_format='hf'):
  convert.convert(source, output, from_format=from_format, to_format='t5x')
  (checkpoint,) = output.glob('checkpoint_*')
  return checkpoint


@pytest.mark.parametrize('has_optimizer', [True, False])
def test_t5x_restores_what_convert_writes(t5x, tmp_path, has_optimizer):
  source = write_model(tmp_path / 'hf', WIDE)
  checkpoint = to_t5x(source, tmp_path / 't5x')
  # The files of a model directory may lie inside: t5x does not mind.
  (tmp_path / 't5x' / 'config.json').rename(checkpoint / 'config.json')
  model = make_model(t5x, their_network(t5x, WIDE))
  initializer = make_initializer(t5x, model, has_optimizer=has_optimizer)
  state = restore(t5x, initializer, checkpoint)
  expected = flat(t5_convert.load(source)[1])
  found = flat(state.params)
  assert found.keys() == expected.keys()
  for name, array in found.items():
    np.testing.assert_array_equal(array, expected[name])
  assert int(state.step) == 0
  if has_optimizer:  # The slots are those that t5x itself begins with.
    fresh = initializer.from_scratch(jax.random.key(0))
    jax.tree.map(
      np.testing.assert_array_equal, state.param_states, fresh.param_states
    )


def test_t5x_goes_on_from_a_mesh_checkpoint(t5x, tmp_path):
  variables = mesh_checkpoints.variables(WIDE)
  mesh_checkpoints.write(tmp_path / 'mesh', variables)
  files.write_json(tmp_path / 'mesh' / 'config.json', WIDE.to_hf())
  t5_checkpoints.write_pieces(tmp_path / 'mesh')
  checkpoint = to_t5x(tmp_path / 'mesh', tmp_path / 't5x', 'mesh_tf')
  model = make_model(t5x, network.Transformer(WIDE))
  state = restore(t5x, make_initializer(t5x, model), checkpoint)
  assert int(state.step) == mesh_checkpoints.STEP
  np.testing.assert_array_equal(
    state.param_states['encoder']['layers_0']['mlp']['wi']['kernel'].v_row,
    variables['encoder/block_000/layer_001/DenseReluDense/wi/kernel_slot_vr'],
  )

  @jax.jit
  def step(state, batch):
    compute = jax.grad(model.loss_fn, has_aux=True)
    gradients, _ = compute(state.params, batch, jax.random.PRNGKey(0))
    return state.apply_gradient(gradients, learning_rate=1e-3)

  after = step(state, make_batch())
  assert int(after.step) == mesh_checkpoints.STEP + 1
  # At this step a slot hardly moves in one step: ~step^-0.8 of its way.
  before, moved = (
    s.param_states['encoder']['encoder_norm']['scale'].v for s in (state, after)
  )
  np.testing.assert_allclose(moved, before, rtol=1e-3, atol=1e-4)
  assert np.abs(np.asarray(moved) - np.asarray(before)).max() > 0


def test_mesh_names_are_those_of_t5x_own_importer(t5x, tmp_path):
  prefix = mesh_checkpoints.write(
    tmp_path / 'mesh', mesh_checkpoints.variables(WIDE)
  )
  files.write_json(tmp_path / 'mesh' / 'config.json', WIDE.to_hf())
  t5_checkpoints.write_pieces(tmp_path / 'mesh')
  reader = t5x_checkpoint.Reader(
    to_t5x(tmp_path / 'mesh', tmp_path / 't5x', 'mesh_tf')
  )
  importer = t5x.checkpoint_importer
  theirs = importer._maybe_correct_relpos_bias(
    importer._add_missing_param_states(
      importer.t5_importer.apply(importer.load_tf_ckpt(str(prefix)))
    )
  )
  assert reader.shapes.keys() == theirs.keys()
  different = set()
  for name, value in theirs.items():
    array = value.get() if hasattr(value, 'get') else np.asarray(value)
    if not np.array_equal(reader.read(name), array):
      different.add(name.rpartition('/')[2])
      parameter = name.removeprefix('state/param_states/').rpartition('/')[0]
      shape = reader.shapes[f'target/{parameter}']
      assert shape[0] == shape[1], name
  # Theirs are over the other axis of a square kernel.
  assert different == {'v_row', 'v_col'}


@pytest.mark.parametrize('form', ['orbax', 'zarr'])
def test_reads_what_t5x_writes(t5x, tmp_path, form):
  model = make_model(t5x, their_network(t5x, WIDE))
  initializer = make_initializer(t5x, model)
  state = initializer.from_scratch(jax.random.key(1))
  state = state.replace_step(np.array(5, np.int32))
  partitioner = t5x.partitioning.PjitPartitioner(num_partitions=1)
  source = tmp_path / 'source'
  source.mkdir()
  if form == 'orbax':
    manager = t5x.checkpoints.OrbaxCheckpointManagerInterface(
      str(source), state, partitioner
    )
    manager.save(state)
    manager.close()
    assert (source / 'checkpoint_5' / 'state' / 'manifest.ocdbt').exists()
  else:
    t5x.checkpoints.Checkpointer(
      initializer.global_train_state_shape, partitioner, str(source)
    ).save(state)
    assert (source / 'checkpoint_5' / 'checkpoint').exists()
  files.write_json(source / 'config.json', WIDE.to_hf())
  t5_checkpoints.write_pieces(source)
  config, params = t5_convert.load(source)
  assert config == WIDE
  expected = flat(state.params)
  assert flat(params).keys() == expected.keys()
  for name, array in flat(params).items():
    np.testing.assert_array_equal(array, expected[name])
  # And the whole of it comes through convert, into the other form.
  again = restore(
    t5x, initializer, to_t5x(source, tmp_path / 'again', from_format='t5x')
  )
  assert int(again.step) == 5
  jax.tree.map(
    np.testing.assert_array_equal, again.param_states, state.param_states
  )


@pytest.mark.parametrize('name', CONFIGS)
def test_logits_equal_those_of_t5x(t5x, tmp_path, name):
  config, batch = CONFIGS[name], make_batch()
  source = write_model(tmp_path / 'hf', config)
  checkpoint = to_t5x(source, tmp_path / 't5x')
  logits = {}
  for kind, module in (
    ('theirs', their_network(t5x, config)),
    ('ours in t5x', network.Transformer(config)),
  ):
    model = make_model(t5x, module)
    state = restore(t5x, make_initializer(t5x, model), checkpoint)
    logits[kind] = jax.jit(model._compute_logits)(state.params, batch)
  _, params = t5_convert.load(checkpoint.parent)
  del batch['decoder_loss_weights']
  logits['ours'] = jax.jit(network.Transformer(config).apply)(
    {'params': params}, **batch
  )
  assert logits['theirs'].std() > 0.5
  for kind in ('ours in t5x', 'ours'):
    np.testing.assert_allclose(logits[kind], logits['theirs'], atol=1e-5)
