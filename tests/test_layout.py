"""Training on meshes of 8 virtual CPU devices, against one device.

The devices are another process's: this file run as a program is that process.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from inpars_tpu import checkpoints, device, errors, init, layout, trainer
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.t5 import config as config_lib
from tests import test_trainer

CONFIG = dataclasses.replace(
  test_trainer.CONFIG, num_layers=2, num_decoder_layers=1, num_heads=4
)
NUM_STEPS = 4
LAYOUTS = {
  'data 8': {'data': 8},
  'data 2 x model 4': {'data': 2, 'model': 4},
  'fully sharded 8': {'data': 8, 'shards_params': True},
  'all': {
    'data': 8, 'shards_params': True, 'scan_layers': True, 'remat': True,
  },
}  # fmt: skip


def make_layout(data=1, model=1, **options) -> layout.Layout:
  mesh = mesh_lib.make(mesh_lib.Shape(data, model), jax.devices())
  return layout.Layout(mesh=mesh, **options)


def make_trainer(where=layout.Layout(), **changes) -> trainer.Trainer:
  options = {'num_steps': NUM_STEPS, 'batch_size': 16} | changes
  settings = dataclasses.replace(test_trainer.SETTINGS, **options)
  labels = test_trainer.FALSE, test_trainer.TRUE
  return trainer.Trainer(CONFIG, settings, labels, where)


def train(where=layout.Layout(), **changes):
  """The trainer, the state after the last step, the metrics of each step."""
  model_trainer = make_trainer(where, **changes)
  params = test_trainer.init_params(CONFIG)
  state, log, _ = test_trainer.fit(
    model_trainer,
    model_trainer.init(params),
    test_trainer.random_examples(40, 60),
  )
  return model_trainer, state, log


def shards(tree) -> dict:
  """Path of an array -> shape of what one device holds."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): (
      array.addressable_shards[0].data.shape
    )
    for path, array in jax.tree_util.tree_leaves_with_path(tree)
  }


def main(output: str) -> None:
  """Trains in every layout of 8 devices; restores one in another."""
  found: dict = {'losses': {}, 'shards': {}}
  for name, options in LAYOUTS.items():
    model_trainer, state, log = train(make_layout(**options))
    found['losses'][name] = [record['loss'] for record in log]
    found['shards'][name] = shards(state)
    params = jax.device_get(model_trainer.export(state))
  program, arguments = model_trainer.programs(16, 32, 2)['accumulate']
  found['program'] = program.lower(*arguments).as_text()
  np.savez(f'{output}/exported.npz', *jax.tree.leaves(params))
  folder = f'{output}/checkpoints'
  with checkpoints.Checkpoints(folder) as kept:
    kept.save(3, state)
  with checkpoints.Checkpoints(folder) as kept:
    other = make_trainer(make_layout(2, 4, scan_layers=True))
    _, restored = kept.restore(other.abstract_state())
  found['is_restored'] = jax.tree.all(
    jax.tree.map(lambda a, b: bool((a == b).all()), state, restored)
  )
  found['restored'] = shards(restored)
  pathlib.Path(output, 'found.json').write_text(json.dumps(found))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('found')
  flags = (
    '--xla_force_host_platform_device_count=8 '
    # Eight devices wait for each other, and may have one core.
    '--xla_cpu_collective_call_terminate_timeout_seconds=600'
  )
  subprocess.run(
    [sys.executable, '-m', 'tests.test_layout', folder],
    env=os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'},
    check=True,
  )
  return folder


@pytest.fixture(scope='module')
def found(folder):
  return json.loads((folder / 'found.json').read_text())


@pytest.fixture(scope='module')
def alone():
  """One device, layers not stacked: trainer, state, metrics."""
  return train()


@pytest.mark.parametrize('name', LAYOUTS)
def test_eight_devices_have_the_losses_of_one(found, alone, name):
  losses = [record['loss'] for record in alone[2]]
  assert losses[0] - losses[-1] > 0.3  # It learns, so gradients count.
  np.testing.assert_allclose(found['losses'][name], losses, rtol=1e-4)


def test_each_device_holds_its_part(found):
  kernel = 'params/encoder/layers_1/mlp/wi/kernel'
  slot = 'opt_state/0/v/encoder/layers_1/mlp/wi/kernel'
  embedding = 'params/token_embedder/embedding'
  for name, parts in {
    'data 8': [[32, 64], [32, 64], [32, 32]],
    'data 2 x model 4': [[32, 16], [32, 16], [32, 32]],
    'fully sharded 8': [[4, 64], [4, 64], [32, 4]],
  }.items():
    held = found['shards'][name]
    assert [held[path] for path in (kernel, slot, embedding)] == parts, name
  stacked = found['shards']['all']
  assert stacked['params/encoder/layers/mlp/wi/kernel'] == [2, 4, 64]


def test_the_exported_model_is_not_stacked(folder, alone):
  expected = alone[0].export(alone[1])
  with np.load(folder / 'exported.npz') as stored:
    exported = [stored[name] for name in stored.files]
  for a, b in zip(exported, jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-3)


def test_a_checkpoint_is_read_on_another_mesh(found):
  assert found['is_restored']
  kernel = 'params/encoder/layers/mlp/wi/kernel'
  assert found['restored'][kernel] == [2, 32, 16]


def test_the_partitioner_is_told_where_activations_and_kernels_lie(found):
  # Else of kernels that are parted as the rows are it gathers none: it sums
  # what every row would have over the devices.
  told = [
    line
    for line in found['program'].splitlines()
    if 'sdy.sharding_constraint' in line
  ]
  units = f'tensor<16x32x{CONFIG.d_ff}x'
  kernel = f'tensor<{CONFIG.d_model}x{CONFIG.d_ff}x'
  for shape, place in (
    (units, '[{"data"}, {}, {"model"}]'),
    (kernel, '[{}, {"model"}]'),
  ):
    lines = [line for line in told if shape in line]
    assert lines
    assert all(place in line for line in lines)


def test_scanned_layers_have_the_same_losses():
  options = {'num_steps': 20}
  _, plain, expected = train(**options)
  where = layout.Layout(scan_layers=True, remat=True)
  model_trainer, state, log = train(where, **options)
  assert expected[0]['loss'] - expected[-1]['loss'] > 0.3
  np.testing.assert_allclose(
    [record['loss'] for record in log],
    [record['loss'] for record in expected],
    rtol=1e-4,
  )
  assert 'layers' in state.params['encoder']
  exported = model_trainer.export(state)
  assert jax.tree.structure(exported) == jax.tree.structure(plain.params)
  for a, b in zip(
    jax.tree.leaves(exported), jax.tree.leaves(plain.params), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.parametrize(('name', 'gib', 'expected'), [
  ('t5_3b', 80, (False, False)), ('t5_3b', 48, (True, False)),
  ('t5_3b', 30, (True, True)), ('t5_3b', 1, (True, True)),
  ('t5_large', 12, (False, True)),
])  # fmt: skip
def test_the_least_that_fits_is_chosen(name, gib, expected, monkeypatch):
  monkeypatch.setattr(device, 'memory_bytes', lambda: gib * 2**30)
  monkeypatch.setitem(layout.MICROBATCH_TOKENS, 'cpu', 4_096)
  monkeypatch.setattr(jax, 'device_count', lambda: 8)
  monkeypatch.setattr(mesh_lib, 'make', lambda shape, _: shape)
  options = {'dtype': 'bfloat16', 'max_tokens': 512, 'batch_size': 128}
  config = config_lib.T5Config.from_hf(init.named_config(name))
  where = layout.choose(config, **options)
  assert (where.shards_params, where.remat) == expected
  assert where.scan_layers
  # What is asked for is not asked again.
  where = layout.choose(config, shard_params=False, remat=False, **options)
  assert (where.shards_params, where.remat) == (False, False)


def test_a_batch_that_cannot_be_parted():
  layout.check_batch(mesh_lib.Shape(8, 1), 128)
  with pytest.raises(errors.InputError) as caught:
    layout.check_batch(mesh_lib.Shape(8, 1), 12)
  assert str(caught.value) == (
    'TRAIN_BATCH_SIZE = 12 is no multiple of the 8 parts of '
    '--mesh=data=8,model=1; nearest: 8 or 16'
  )
  with pytest.raises(errors.InputError, match='nearest: 6$'):
    layout.check_batch(mesh_lib.Shape(3, 1), 4)
  layout.check_batch(mesh_lib.Shape(2, 1), 32, list_size=8)
  with pytest.raises(errors.InputError, match='lists of 8; nearest: 16 or 32$'):
    layout.check_batch(mesh_lib.Shape(2, 1), 24, list_size=8)


if __name__ == '__main__':
  main(*sys.argv[1:])
