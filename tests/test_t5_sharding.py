"""monoT5 on meshes of 8 virtual CPU devices, against Hugging Face's T5.

The devices are another process's: this file run as a program is that process.
Hugging Face's outputs are stored in data/t5_hf_lengths.npz, which the torch
test makes anew.
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

from inpars_tpu import cli, device, errors
from inpars_tpu import mesh as mesh_lib
from inpars_tpu import reranker as reranker_lib
from inpars_tpu.t5 import convert, score, sharding, tensors
from tests import t5_checkpoints, test_t5_network

STORED = pathlib.Path(__file__).parent / 'data' / 't5_hf_lengths.npz'
CONFIGS = {
  'v1_0': dataclasses.replace(t5_checkpoints.V1_0, num_heads=8),
  'v1_1': dataclasses.replace(t5_checkpoints.V1_1, num_heads=8),
}
BATCH_TOKENS = 8_192  # One batch, all rows padded to 512.
LENGTHS = (1, 512, 65, 257, 64, 2, 511, 450, 37, 320, 256, 128, 200, 150, 17, 1)
MESHES = ('data=8', 'data=2,model=4', 'model=8')


def make_inputs():
  generator = np.random.default_rng(5)
  return [[*generator.integers(2, 256, n - 1).tolist(), 1] for n in LENGTHS]


def load(directory, mesh=None, dtype='float32', **options):
  options = {'batch_tokens': BATCH_TOKENS} | options
  return reranker_lib.MonoT5.load(directory, dtype=dtype, mesh=mesh, **options)


def main(directory: str, output: str) -> None:
  """Scores of every checkpoint on every mesh of 8 devices."""
  found: dict = {'scores': {}, 'again': {}}
  for name in CONFIGS:
    for mesh in MESHES:
      model = load(f'{directory}/{name}', mesh)
      for key in ('scores', 'again'):
        found[key][f'{name} {mesh}'] = model.score_inputs(make_inputs())
      if (name, mesh) == ('v1_1', 'data=2,model=4'):
        found['parts'] = parts(model._scorer._params)
  v1_0 = f'{directory}/v1_0'
  model = load(v1_0, 'data=2,model=4', 'bfloat16')
  found['bfloat16'] = model.score_inputs(make_inputs())
  turned = load(v1_0, 'data=8', batch_tokens=1).score_inputs
  found['turned'] = turned(make_inputs()[:-8:-1])[::-1]
  found['whole'] = str(mesh_lib.shape_of(load(v1_0)._scorer._mesh))
  config, weight_bytes = CONFIGS['v1_0'], 10**6
  device.memory_bytes = lambda: 10**6
  found['chosen'] = {
    batch_tokens: str(mesh_lib.shape_of(score.make_mesh(
      config, None, weight_bytes=weight_bytes, dtype='float32',
      batch_tokens=batch_tokens)))
    for batch_tokens in (8, 200, 320)
  }  # fmt: skip
  try:
    reranker_lib.check(v1_0, mesh='data=2,model=3')
  except errors.InputError as error:
    found['refused'] = str(error)
  pathlib.Path(output).write_text(json.dumps(found))


def parts(params):
  """Path of an array -> shape of what one device holds."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): (
      array.addressable_shards[0].data.shape
    )
    for path, array in leaves
  }


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('models')
  for name, config in CONFIGS.items():
    t5_checkpoints.write_reranker(folder / name, config)
  return folder


@pytest.fixture(scope='module')
def found(folder, tmp_path_factory):
  output = tmp_path_factory.mktemp('found') / 'found.json'
  flags = '--xla_force_host_platform_device_count=8'
  subprocess.run(
    [sys.executable, '-m', 'tests.test_t5_sharding', folder, output],
    env=os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'},
    check=True,
  )
  return json.loads(output.read_text())


@pytest.fixture(scope='module')
def expected(folder):
  """Of Hugging Face: name -> [label logits, log_prob_true]."""
  with np.load(STORED) as stored:
    logits = dict(stored)
  ids = reranker_lib.check(folder / 'v1_0')[2]
  outputs = {}
  for name in CONFIGS:
    two = logits[name][:, ids].astype(np.float64)
    log_prob_true = -np.logaddexp(0, two[:, 0] - two[:, 1])
    assert np.ptp(log_prob_true) > 0.1  # The rows differ.
    outputs[name] = two, log_prob_true
  return outputs


@pytest.mark.parametrize('name', CONFIGS)
def test_one_device_gives_hugging_faces_logits(folder, expected, name):
  config, params = convert.load(folder / name)
  ids = reranker_lib.check(folder / name)[2]
  for column, token_id in enumerate(ids):
    scorer = score.Scorer(
      config, params, [token_id], dtype='float32', max_tokens=512,
      batch_tokens=BATCH_TOKENS,
    )  # fmt: skip
    logits = scorer.score(make_inputs())
    wanted = expected[name][0][:, column]
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
  scores = load(folder / name).score_inputs(make_inputs())
  np.testing.assert_allclose(scores, expected[name][1], atol=1e-5)


@pytest.mark.parametrize('mesh', MESHES)
@pytest.mark.parametrize('name', CONFIGS)
def test_eight_devices_give_hugging_faces_scores(found, expected, name, mesh):
  scores = found['scores'][f'{name} {mesh}']
  np.testing.assert_allclose(scores, expected[name][1], atol=1e-5)


def test_scores_are_the_same_to_the_last_digit(found):
  assert found['again'] == found['scores']


def test_scores_do_not_depend_on_batches_or_order(found, expected):
  # Rows of every length, eight at a time: one for each device.
  np.testing.assert_allclose(
    found['turned'], expected['v1_0'][1][-7:], atol=1e-5
  )


def test_bfloat16(found, expected):
  np.testing.assert_allclose(found['bfloat16'], expected['v1_0'][1], atol=0.05)


def test_each_device_holds_its_part(found):
  parts = found['parts']
  assert len(parts) == len(tensors.shapes(CONFIGS['v1_1']))
  for path, shape in {
    'token_embedder/embedding': [256, 32],
    'encoder/relpos_bias/rel_embedding': [2, 32],
    'encoder/layers_2/attention/query/kernel': [32, 16],
    'encoder/layers_2/attention/out/kernel': [16, 32],
    'encoder/layers_0/mlp/wi_1/kernel': [32, 10],
    'decoder/layers_1/mlp/wo/kernel': [10, 32],
    'decoder/layers_1/pre_mlp_layer_norm/scale': [32],
    'decoder/logits_dense/kernel': [32, 256],
  }.items():
    assert parts[path] == shape, path


def test_weights_are_parted_as_little_as_the_memory_allows(found):
  assert found['whole'] == 'data=8,model=1'
  # A megabyte of weights and 18 kB a token, in nine tenths of a megabyte.
  assert found['chosen'] == {
    '8': 'data=4,model=2',
    '200': 'data=2,model=4',
    '320': 'data=1,model=8',
  }


def test_a_mesh_that_cannot_be_is_refused(found):
  assert found['refused'] == (
    '--mesh=data=2,model=3 is of 6 devices and there are 8; nearest: '
    'data=2,model=4'
  )


FILES = {
  'pairs': '{"query": "a boat", "text": "water"}',
  'run': 'q1 Q0 d1 1 1.0 bm25',
  'corpus': '{"_id": "d1", "title": "", "text": "water"}',
  'topics': '{"_id": "q1", "text": "a boat"}',
  'documents': '{"doc_id": "d1", "text": "water"}',
  'queries': '{"doc_id": "d1", "query": "a boat on it", '
  '"log_probs": [-1, -1, -1, -1], "finished": true}',
}


@pytest.mark.parametrize('argv', [
  'score --pairs_file=pairs',
  'rerank --run=run --corpus=corpus --queries=topics',
  'filter --queries=queries --documents=documents',
])  # fmt: skip
def test_the_verbs_take_a_mesh(folder, tmp_path, argv, capsys, monkeypatch):
  def refuse(*args, mesh, **options):
    raise errors.InputError(f'loaded on {mesh}')

  monkeypatch.setattr(reranker_lib.MonoT5, 'load', refuse)
  for name, text in FILES.items():
    (tmp_path / name).write_text(text + '\n')
  verb, *flags = argv.replace('=', f'={tmp_path}/').split()
  flags += [f'--model={folder}/v1_0', f'--output={tmp_path}/output']
  for mesh, message in (
    ('model=2', 'is of 2 devices and there are 1'),
    ('data=1', 'loaded on data=1'),
  ):
    assert cli.main([verb, *flags, f'--mesh={mesh}']) == cli.WRONG_INPUT
    assert message in capsys.readouterr().err


def test_stacked_parameters_are_parted_too():
  mesh = mesh_lib.make(mesh_lib.Shape(1, 1), jax.devices()[:1])
  kernel = ('attention', 'query', 'kernel')
  spec = jax.sharding.PartitionSpec
  for layer, wanted in (
    ('layers_1', spec(None, 'model')),
    ('layers', spec(None, None, 'model')),
  ):
    path = ('encoder', layer, *kernel)
    found = sharding.of_param(CONFIGS['v1_0'], path, mesh)
    assert found.spec == wanted


@pytest.mark.torch
def test_hugging_face_gives_the_stored_outputs():
  outputs = {}
  for name, config in CONFIGS.items():
    model, torch = test_t5_network.hugging_face(config)
    logits = []
    with torch.no_grad():
      for tokens in make_inputs():  # Each alone: nothing is padded.
        start = torch.zeros((1, 1), dtype=torch.long)
        inputs = torch.tensor([tokens])
        outputs_ = model(input_ids=inputs, decoder_input_ids=start)
        logits.append(outputs_.logits[0, 0].numpy())
    outputs[name] = np.stack(logits)
  test_t5_network.check_stored(STORED, outputs)


if __name__ == '__main__':
  main(*sys.argv[1:])
