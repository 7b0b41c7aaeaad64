"""GPT-J on meshes of 8 virtual CPU devices, against one device.

The devices are another process's: this file run as a program is that process.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from inpars_tpu import errors, model_dir, prompts, tokenizer
from inpars_tpu import generator as generator_lib
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import convert, sharding
from tests import checkpoints

# Model axes of 2 and 4 divide the vocabulary, 8 does not.
CONFIG = config_lib.GPTJConfig(
  vocab_size=404, max_positions=128, model_dim=32, num_layers=2,
  num_heads=8, rotary_dim=4, mlp_dim=64,
)  # fmt: skip
PROMPT = prompts.Prompt('Example: the bird\nDocument: ', '\nGood Question:')
TEXTS = checkpoints.random_sentences(13, seed=1)
CASES = [  # Mesh, batch size, step through the texts, weights.
  ('data=8', 20, -1, None),  # Rounded up to 24: 3 rows on a device.
  ('model=8', 8, -1, None),
  ('data=2,model=4', 8, -1, None),
  ('data=2,model=4', 1, 1, 'int8'),  # Rounded up to 2.
]


def write_model(directory):
  checkpoints.write_gpt2_tokenizer(directory)
  # A likely newline, so that some queries end and some do not.
  newline = tokenizer.GPT2Tokenizer(directory).ids_with_newline()[0]
  checkpoints.write_gptj(directory, CONFIG, seed=4, head_bias={newline: 2})
  return directory


def decode(generator, texts, batch_size):
  """[text, log_probs, is_finished] of each text."""
  built = generator.build_prompts(
    texts, PROMPT, max_document_tokens=16, max_new_tokens=6
  )
  shared = generator.read_shared(built)
  queries = dict(
    generator.write_queries(
      built, shared, range(len(texts)), max_new_tokens=6, batch_size=batch_size
    )
  )
  return [
    [query.text, query.log_probs, query.is_finished]
    for _, query in sorted(queries.items())
  ]


def main(directory: str, output: str) -> None:
  """What every case gives on 8 devices."""
  found = {'cases': [try_case(directory, *case) for case in CASES]}
  chosen = generator_lib.GPTJ.load(directory, 'float32')
  found['chosen'] = str(chosen._decoder.shape)
  try:
    generator_lib.GPTJ.load(directory, 'float32', mesh='data=2,model=3')
  except errors.InputError as error:
    found['refused'] = str(error)
  pathlib.Path(output).write_text(json.dumps(found))


def try_case(directory, mesh, batch_size, step, weights):
  read, parts = model_dir.TensorReader.read, collections.defaultdict(list)

  def note(self, name, index=()):
    array = read(self, name, index)
    parts[name].append(array.shape)
    return array

  model_dir.TensorReader.read = note
  generator = generator_lib.GPTJ.load(directory, 'float32', weights, mesh)
  model_dir.TensorReader.read = read
  leaves = jax.tree_util.tree_leaves_with_path(generator._decoder.params)
  return {
    'queries': decode(generator, TEXTS[::step], batch_size)[::step],
    'parts': parts,
    'shapes': {
      jax.tree_util.keystr(path): array.addressable_shards[0].data.shape
      for path, array in leaves
    },
  }


@pytest.fixture(scope='module')
def model_path(tmp_path_factory):
  return write_model(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def found(model_path, tmp_path_factory):
  output = tmp_path_factory.mktemp('found') / 'found.json'
  flags = '--xla_force_host_platform_device_count=8'
  subprocess.run(
    [sys.executable, '-m', 'tests.test_gptj_sharding', model_path, output],
    env=os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'},
    check=True,
  )
  return json.loads(output.read_text())


@pytest.fixture(scope='module')
def expected(model_path):
  """On one device, a row at a time; by weights."""
  return {
    weights: decode(
      generator_lib.GPTJ.load(model_path, 'float32', weights), TEXTS, 1
    )
    for weights in (None, 'int8')
  }


@pytest.mark.parametrize('number', range(len(CASES)))
def test_queries_equal_those_of_one_device(found, expected, number):
  got, wanted = found['cases'][number]['queries'], expected[CASES[number][3]]
  assert [query[0] for query in got] == [query[0] for query in wanted]
  assert [query[2] for query in got] == [query[2] for query in wanted]
  for one, other in zip(got, wanted, strict=True):
    np.testing.assert_allclose(one[1], other[1], atol=1e-5)
  assert {is_finished for _, _, is_finished in wanted} == {True, False}
  assert len({text for text, _, _ in wanted}) > 5


def test_each_device_reads_and_holds_its_part(found):
  case = found['cases'][2]  # data=2,model=4
  # Once for both parts of the rows.
  assert case['parts']['transformer.h.0.attn.q_proj.weight'] == [[8, 32]] * 4
  assert case['parts']['transformer.h.1.attn.out_proj.weight'] == [[32, 8]] * 4
  assert case['parts']['transformer.h.1.mlp.fc_in.bias'] == [[16]] * 4
  assert case['parts']['transformer.ln_f.weight'] == [[32]]
  shapes = case['shapes']
  assert shapes["['layers'][0]['query']"] == [32, 8]
  assert shapes["['layers'][1]['mlp_out']['kernel']"] == [16, 32]
  assert shapes["['embedding']"] == [101, 32]
  assert shapes["['head']['kernel']"] == [32, 101]


def test_vocabulary_that_the_mesh_does_not_divide_stays_whole(found):
  shapes = found['cases'][1]['shapes']  # model=8
  assert shapes["['embedding']"] == [404, 32]
  assert shapes["['head']['bias']"] == [404]
  assert shapes["['layers'][0]['key']"] == [32, 4]


def test_int8_kernels_are_parted_with_their_scales(found):
  shapes = found['cases'][3]['shapes']  # data=2,model=4
  assert shapes["['layers'][0]['query']['int8']"] == [32, 8]
  assert shapes["['layers'][0]['query']['scale']"] == [8]
  assert shapes["['layers'][0]['out']['int8']"] == [8, 32]
  assert shapes["['layers'][0]['out']['scale']"] == [32]
  assert shapes["['head']['kernel']"] == [32, 101]


def test_small_model_is_whole_on_every_device(found):
  assert found['chosen'] == 'data=8,model=1'


def test_mesh_that_does_not_fit_is_refused(found):
  assert found['refused'] == (
    '--mesh=data=2,model=3 is of 6 devices and there are 8; nearest: '
    'data=2,model=4'
  )


def test_table_has_every_parameter(model_path):
  _, params = convert.load(model_path, np.dtype('float32'))
  for path, array in jax.tree_util.tree_leaves_with_path(params):
    keys = tuple(key.key for key in path if hasattr(key, 'key'))
    keys = keys[1:] if keys[0] == 'layers' else keys
    assert len(sharding.PARAMS[keys]) == array.ndim, keys


def test_heads_of_gptj_6b_on_a_v3_8():
  counts = sharding.counts(config_lib.GPTJConfig())
  assert mesh_lib.model_sizes(8, counts) == [1, 2, 4, 8]
  assert mesh_lib.model_sizes(32, counts) == [1, 2, 4, 8, 16]


if __name__ == '__main__':
  main(*sys.argv[1:])
