"""Our counts beside XLA's, of the demo's sizes and of wider ones."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from inpars_tpu import flops, init, layout, program_flops, tpu_programs, trainer
from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.gptj import convert as gptj_convert
from inpars_tpu.gptj import decode, model, programs
from inpars_tpu.t5 import config as t5_config
from inpars_tpu.t5 import score, tensors

GPTJ = gptj_config.GPTJConfig.from_hf(init.named_config('gptj_tiny'))
T5 = t5_config.T5Config.from_hf(init.named_config('t5_tiny'))
GATED = dataclasses.replace(T5, is_gated=True, activation='gelu_new')


def count(function, *args, **kwargs) -> float:
  """XLA's count of a compiled program."""
  compiled = function.lower(*args, **kwargs).compile()
  return compiled.cost_analysis()['flops']


def test_generation_is_what_xla_counts():
  num_rows, num_filled, prefix, own, new = 20, 4, 60, 72, 16
  params = gptj_convert.abstract_params(GPTJ, jnp.dtype('float32'), mesh=None)
  shared, rows, cache = jax.eval_shape(
    lambda params: (
      model.prefill_prefix(params, GPTJ, jnp.zeros(prefix, jnp.int32)),
      decode.empty_rows(num_rows, new),
      model.empty_cache(params, GPTJ, num_rows, own + new),
    ),
    params,
  )

  def array(dtype, *shape):
    return jax.ShapeDtypeStruct(shape, dtype)

  numbers = array(jnp.int32, num_filled)
  is_stop = array(jnp.bool_, GPTJ.vocab_size)
  filled = count(
    programs.fill, params, GPTJ, shared, array(jnp.int32, num_filled, own),
    numbers, numbers, rows, cache, is_stop=is_stop,
    is_filler=array(jnp.bool_, num_filled), mesh=None,
  )  # fmt: skip
  assert program_flops.fill(GPTJ, num_filled, own, prefix) == pytest.approx(
    filled, rel=0.05
  )
  step = count(
    programs.advance, params, GPTJ, shared, rows, cache, is_stop=is_stop,
    num_prompt_slots=own, min_done=array(jnp.int32), mesh=None,
  )  # fmt: skip
  assert program_flops.step(GPTJ, num_rows, own + new, prefix) == (
    pytest.approx(step, rel=0.05)
  )


@pytest.mark.parametrize('config', [T5, GATED])
def test_scoring_is_what_xla_counts(config):
  tokens = jax.ShapeDtypeStruct((4, 96), jnp.int32)
  ids = jax.ShapeDtypeStruct((2,), jnp.int32)
  (program,) = tpu_programs.score_batch(
    config, 4, 96, mesh=None, dtype='float32'
  ).values()
  network, params, *_ = program.args
  counted = count(score.score_batch, network, params, tokens, ids)
  assert program_flops.score(config, 4, 96) == pytest.approx(counted, rel=0.05)


@pytest.mark.parametrize(('config', 'dropout'), [(T5, 0.1), (GATED, 0.0)])
def test_training_is_what_xla_counts(config, dropout):
  settings = trainer.Settings(
    seed=1, num_steps=2, batch_size=4, learning_rate=1e-3,
    dropout_rate=dropout, z_loss=1e-4, dtype='float32', max_input_tokens=96,
  )  # fmt: skip
  programs = tpu_programs.train(config, settings, 4, 96, layout.Layout())
  counted = {
    name: count(program.function, *program.args)
    for name, program in programs.items()
  }
  num_parameters = sum(map(math.prod, tensors.shapes(config).values()))
  assert program_flops.accumulate(
    config, 4, 96, has_dropout=dropout > 0, num_parameters=num_parameters
  ) == pytest.approx(counted['accumulate'], rel=0.05)
  assert program_flops.update(num_parameters) == pytest.approx(
    counted['update'], rel=0.05
  )


def test_computing_layers_again_is_one_more_forward_pass():
  plain, again = (
    program_flops.accumulate(
      T5, 1, 64, has_dropout=False, num_parameters=0, remat=remat
    )
    for remat in (False, True)
  )
  # A scored pair's, whose decoder has one position for two and no head.
  forward = sum(flops.score_pair(T5, 64, num_labels=0))
  assert again - plain == pytest.approx(forward, rel=0.05)
