"""Against what the TPU's compiler said of the same programs."""

import dataclasses

import pytest

from inpars_tpu import init, mesh, train_memory
from inpars_tpu.t5 import config as t5_config

MIB = 2**20
# libtpu 0.0.42.1 on a v3:2x2: 4,096 tokens a core, rows of 512, bfloat16.
COMPILED = [
  # Size, its changes, the task's, MiB of a core.
  ('t5_tiny', {}, {}, 259),
  ('t5_tiny', {}, {'row_tokens': 256}, 138),
  ('t5_tiny', {'d_model': 128, 'd_kv': 32, 'd_ff': 256}, {}, 218),
  ('t5_16m', {}, {}, 423),
  ('t5_16m', {}, {'row_tokens': 256}, 359),
  ('t5_16m', {'num_layers': 8}, {'scan_layers': True, 'remat': True}, 541),
  ('t5_small', {}, {}, 1_410),
  ('t5_base', {'num_layers': 2, 'is_gated': True}, {}, 1_122),
  ('t5_base', {'num_layers': 2}, {'scan_layers': True}, 1_853),
  ('t5_base', {'num_layers': 2, 'is_gated': True}, {'scan_layers': True},
   2_143),
  ('t5_large', {'num_layers': 2},
   {'scan_layers': True, 'shards_params': True}, 1_812),
  ('t5_3b', {'num_layers': 2},
   {'scan_layers': True, 'shards_params': True}, 4_038),
  ('t5_3b', {'num_layers': 2},
   {'scan_layers': True, 'shards_params': True, 'remat': True}, 1_524),
  ('t5_large', {}, {'scan_layers': True, 'shards_params': True}, 13_647),
  ('t5_3b', {},
   {'scan_layers': True, 'shards_params': True, 'remat': True}, 5_618),
  ('t5_3b', {'num_layers': 2},
   {'shape': mesh.Shape(2, 4), 'scan_layers': True, 'remat': True}, 1_452),
]  # fmt: skip


def make_task(name: str, sizes: dict, options: dict) -> train_memory.Task:
  config = t5_config.T5Config.from_hf(init.named_config(name))
  if 'num_layers' in sizes:
    sizes = sizes | {'num_decoder_layers': sizes['num_layers']}
  options = {'shape': mesh.Shape(8, 1), 'row_tokens': 512} | options
  return train_memory.Task(
    dataclasses.replace(config, **sizes),
    dtype='bfloat16',
    num_tokens=4_096,
    **options,
  )


@pytest.mark.parametrize(('name', 'sizes', 'options', 'compiled'), COMPILED)
def test_total_is_what_the_compiler_needs(name, sizes, options, compiled):
  needed = train_memory.needed_bytes(make_task(name, sizes, options))
  assert needed / MIB == pytest.approx(compiled, rel=0.17)


def test_of_short_rows_of_a_tiny_model_it_says_too_much():
  # Padded copies of the embedding, two of which the compiler spares here.
  task = make_task('t5_tiny', {}, {'row_tokens': 128})
  assert 66 < train_memory.needed_bytes(task) / MIB < 1.5 * 66


def test_what_a_tiny_model_needs_is_padding():
  needed = train_memory.needed_bytes(make_task('t5_tiny', {}, {}))
  # Rows of 4 numbers for each pair of tokens and five embeddings of 32, both in
  # 128 lanes; positions of 4 heads; parameters and their sums.
  by_hand = 128 + 5 * 15.7 + 3 * 4 + 2 * 4.4
  assert needed / MIB == pytest.approx(by_hand, abs=1)


def test_a_layer_more_costs_what_it_keeps():
  def kept(**options) -> float:
    ten, nine = (
      train_memory.needed_bytes(
        make_task('t5_3b', {'num_layers': num_layers}, options)
      )
      for num_layers in (10, 9)
    )
    return (ten - nine) / MIB

  looped = {'scan_layers': True, 'shards_params': True}
  # A core's eighth of the kernels of an encoder layer and of a decoder layer,
  # 50 and 67 M: with sums and gradients in float32, and once in bfloat16. An
  # input of 1,024 bfloat16 numbers for each of 4,096 tokens is 8 MiB.
  assert kept(remat=True, **looped) == pytest.approx(
    3.5 * (24 + 32) + 8, rel=0.01
  )
  # The weights of 32 heads for 512 keys alone are 256 MiB in float32.
  assert kept(**looped) > 1_000
