"""The TPU's compiler on two layers of the 3B sizes; no TPU is needed.

In processes of their own: libtpu would stay in this one.
"""

import dataclasses
import json
import subprocess
import sys

import jax.numpy as jnp
import pytest

from inpars_tpu import (
  init,
  layout,
  mesh,
  plan_memory,
  tpu_compiler,
  tpu_programs,
  trainer,
)
from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.t5 import config as t5_config
from inpars_tpu.t5 import sharding

pytestmark = pytest.mark.libtpu
GIB = 2**30


@pytest.fixture(autouse=True)
def libtpu():
  path = tpu_compiler.libtpu_path()
  if not path.is_file():
    pytest.skip(f'the compiler {path} is missing: `make compiler`')


def compile_for_tpu(*flags: str) -> dict:
  command = [sys.executable, '-m', 'benchmarks.aot_tpu', *flags]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.stdout, done.stderr[-2_000:]
  return json.loads(done.stdout) | {'returncode': done.returncode}


def two_layers(name: str) -> t5_config.T5Config:
  config = t5_config.T5Config.from_hf(init.named_config(name))
  return dataclasses.replace(config, num_layers=2, num_decoder_layers=2)


def check_estimate(found: dict, memory: plan_memory.Memory) -> None:
  assert memory.arguments == pytest.approx(found['argument_bytes'], rel=0.02)
  assert memory.total == pytest.approx(found['total_bytes'], rel=0.25)


def check_scoring(found: dict, config, *, num_rows: int, num_tokens: int):
  shape = mesh.Shape(8, 1)
  check_estimate(
    found,
    plan_memory.estimate(
      tpu_programs.score_batch(
        config, num_rows, num_tokens, mesh.abstract(shape), dtype='bfloat16'
      ),
      plan_memory.score_temporaries(
        config, num_rows // 8, num_tokens, shape, 2
      ),
      unread=plan_memory.score_unread,
    ),
  )


def check_generation(found: dict, config, shape: mesh.Shape) -> None:
  rows = tpu_programs.Rows(512, 64, 312, 256, 64)
  programs = tpu_programs.generate(
    config, rows, mesh.abstract(shape), dtype='bfloat16'
  )
  temporaries = plan_memory.generate_temporaries(config, rows, shape, 2)
  for name, program in programs.items():
    check_estimate(
      found[name], plan_memory.estimate({name: program}, temporaries)
    )


def check_training(
  found: dict, config, where: layout.Layout, *, num_rows: int, num_tokens: int
) -> None:
  settings = trainer.Settings(
    seed=1, num_steps=2, batch_size=128, learning_rate=1e-3, dropout_rate=0.1,
    z_loss=1e-4, dtype='bfloat16', max_input_tokens=num_tokens,
  )  # fmt: skip
  needed = where.needed_bytes(
    config,
    mesh.shape_of(where.mesh),
    dtype='bfloat16',
    num_tokens=num_rows * num_tokens // where.num_parts,
    row_tokens=num_tokens,
  )
  check_estimate(
    found['accumulate'] | {
      'argument_bytes': found['update']['argument_bytes'],
    },
    plan_memory.estimate(
      tpu_programs.train(config, settings, num_rows, num_tokens, where), {},
      total=needed,
    ),
  )  # fmt: skip


def test_score_on_a_v3_8():
  found = compile_for_tpu('--program=score', '--num_layers=2')
  assert (found['device'], found['num_cores']) == ('TPU v3', 8)
  # Two layers' weights, whole on every core; 8,192 tokens of 512.
  assert found['argument_bytes'] == pytest.approx(0.468 * GIB, rel=0.01)
  # Attention logits of half the queries, not of all: 0.25 GiB, not 0.5.
  assert found['temporary_bytes'] < 0.65 * GIB
  config = t5_config.T5Config.from_hf(init.named_config('t5_3b'))
  estimate = sharding.temporary_bytes(config, 8_192, jnp.bfloat16)
  assert 1.0 < estimate / found['temporary_bytes'] < 1.5
  assert 1.0 < found['flops_ratio'] < 1.05
  assert found['output_bytes'] < 4_096  # 16 scores in a tile.
  check_scoring(found, two_layers('t5_3b'), num_rows=128, num_tokens=512)


def test_score_on_a_v4_of_one_device_a_chip():
  found = compile_for_tpu(
    '--program=score', '--num_layers=1', '--topology=v4:2x2x1',
    '--batch_tokens=16384',
  )  # fmt: skip
  assert (found['device'], found['num_cores']) == ('TPU v4', 4)


def test_what_does_not_fit_says_by_how_much():
  found = compile_for_tpu(
    '--program=score', '--num_layers=1', '--batch_tokens=4194304'
  )
  assert found['returncode'] == 1
  assert 'exceeds available HBM (15.48G)' in found['error']


def test_generate_on_a_v3_8():
  found = compile_for_tpu(
    '--program=generate', '--num_layers=2', '--mesh=data=2,model=4'
  )
  assert (found['device'], found['num_rows']) == ('TPU v3', 512)
  fill, advance = found['fill'], found['advance']
  # A quarter of two layers, embedding and head; 256 rows of 4 heads: each core
  # has an eighth of the cache.
  assert advance['argument_bytes'] == pytest.approx(1.008 * GIB, rel=0.01)
  # The cache, 0.63 GiB, is neither gathered nor copied, and what is donated is
  # written in place.
  assert advance['temporary_bytes'] < 0.1 * GIB
  assert fill['temporary_bytes'] < 0.8 * GIB
  assert advance['aliased_bytes'] == pytest.approx(0.625 * GIB, rel=0.01)
  assert 1.0 < found['flops_ratio'] < 1.05
  config = gptj_config.GPTJConfig(num_layers=2)
  check_generation(found, config, mesh.Shape(2, 4))


def test_train_on_a_v3_8():
  found = compile_for_tpu('--program=train', '--num_layers=2')
  assert (found['device'], found['microbatch_rows']) == ('TPU v3', 64)
  accumulate, update = found['accumulate'], found['update']
  # An eighth of the float32 parameters of two layers, and of the sums.
  assert accumulate['argument_bytes'] == pytest.approx(0.25 * GIB, rel=0.01)
  # The sums, and the parameters, are written in place.
  for program in (accumulate, update):
    assert program['aliased_bytes'] == pytest.approx(0.125 * GIB, rel=0.01)
  # Each core has its own rows alone, and gathers a layer's kernels: 64 rows of
  # 512 x 16,384 units would be 1 GiB an array.
  assert accumulate['temporary_bytes'] < 1.3 * GIB
  assert update['temporary_bytes'] < 0.05 * GIB
  config = two_layers('t5_3b')
  where = layout.Layout(mesh.abstract(mesh.Shape(8, 1)), True, True, True)
  check_training(found, config, where, num_rows=64, num_tokens=512)


@pytest.mark.parametrize('name', ['t5_tiny', 't5_16m'])
def test_scoring_of_a_small_model_is_estimated(name):
  found = compile_for_tpu('--program=score', f'--config={name}')
  config = t5_config.T5Config.from_hf(init.named_config(name))
  check_scoring(found, config, num_rows=128, num_tokens=512)


@pytest.mark.parametrize('name', ['gptj_tiny', 'gptj_10m'])
def test_generation_of_a_small_model_is_estimated(name):
  found = compile_for_tpu(
    '--program=generate', f'--config={name}', '--num_layers=2', '--mesh=data=8'
  )
  config = dataclasses.replace(
    gptj_config.GPTJConfig.from_hf(init.named_config(name)), num_layers=2
  )
  check_generation(found, config, mesh.Shape(8, 1))


def test_training_of_a_small_model_is_estimated():
  found = compile_for_tpu(
    '--program=train', '--config=t5_tiny', '--unrolled', '--no_remat',
    '--whole_params',
  )  # fmt: skip
  config = t5_config.T5Config.from_hf(init.named_config('t5_tiny'))
  where = layout.Layout(mesh.abstract(mesh.Shape(8, 1)))
  check_training(found, config, where, num_rows=64, num_tokens=512)


def test_a_compiled_plan_is_what_the_compiler_says():
  command = [
    sys.executable, '-m', 'inpars_tpu', 'plan', '--dataset=scifact',
    '--data_dir=nowhere', '--machine=v3-8', '--generator=gptj_tiny',
    '--reranker=t5_tiny', '--document_tokens=100', '--compile', '--json',
  ]  # fmt: skip
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.stdout, done.stderr[-2_000:]
  stages = json.loads(done.stdout)['stages']
  # Documents of up to 175 tokens: prompts have 10 more of their own, pairs 30.
  for stage, flags in {
    'generate': (
      '--program=generate', '--config=gptj_tiny', '--mesh=data=8',
      '--num_rows=4096', '--prompt_tokens=192',
    ),
    'rerank after': ('--program=score', '--config=t5_tiny', '--length=256'),
    'train': (
      '--program=train', '--config=t5_tiny', '--train_tokens=256',
      '--unrolled', '--no_remat', '--whole_params',
    ),
  }.items():  # fmt: skip
    found = compile_for_tpu(*flags)
    programs = [value for value in found.values() if isinstance(value, dict)]
    largest = max(programs or [found], key=lambda one: one['total_bytes'])
    assert stages[stage]['memory'] == {
      'arguments': largest['argument_bytes'],
      'total': largest['total_bytes'],
      'error': None,
    }
