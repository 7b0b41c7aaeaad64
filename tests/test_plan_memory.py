"""Against what the TPU's compiler said of the same programs."""

import pytest

from inpars_tpu import init, mesh, plan_memory, tpu_programs
from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.t5 import config as t5_config

MIB = 2**20
SHAPE = mesh.Shape(8, 1)


def check(memory: plan_memory.Memory, arguments: float, total: float) -> None:
  assert memory.arguments / MIB == pytest.approx(arguments, rel=0.02)
  assert memory.total / MIB == pytest.approx(total, rel=0.15)


# libtpu 0.0.42.1 on a v3:2x2: MiB of a core, 32 rows of 512 tokens each.
@pytest.mark.parametrize(
  ('name', 'arguments', 'total'),
  [
    ('t5_tiny', 2.257, 145),
    ('t5_16m', 28.77, 191),
    ('t5_small', 109.5, 347),
  ],
)
def test_scoring(name, arguments, total):
  config = t5_config.T5Config.from_hf(init.named_config(name))
  programs = tpu_programs.score_batch(
    config, 256, 512, mesh.abstract(SHAPE), dtype='bfloat16'
  )
  temporaries = plan_memory.score_temporaries(config, 32, 512, SHAPE, 2)
  check(
    plan_memory.estimate(
      programs, temporaries, unread=plan_memory.score_unread
    ),
    arguments,
    total,
  )


# The same, of 64 rows of 256 and 64 tokens after 312.
@pytest.mark.parametrize(
  ('name', 'fill', 'advance'),
  [
    ('gptj_tiny', (12.63, 29.3), (12.57, 133)),
    ('gptj_10m', (256.5, 324), (256.5, 617)),
  ],
)
def test_generation(name, fill, advance):
  config = gptj_config.GPTJConfig.from_hf(init.named_config(name))
  rows = tpu_programs.Rows(512, 64, 312, 256, 64)
  programs = tpu_programs.generate(
    config, rows, mesh.abstract(SHAPE), dtype='bfloat16'
  )
  temporaries = plan_memory.generate_temporaries(config, rows, SHAPE, 2)
  for program, compiled in (('fill', fill), ('advance', advance)):
    memory = plan_memory.estimate({program: programs[program]}, temporaries)
    check(memory, *compiled)


def test_a_head_of_64_numbers_is_decoded_from_a_padded_cache():
  rows = tpu_programs.Rows(512, 64, 312, 256, 64)

  def advance(head_dim: int) -> int:
    config = gptj_config.GPTJConfig(
      num_layers=1, num_heads=4, model_dim=4 * head_dim, rotary_dim=32
    )
    return plan_memory.generate_temporaries(config, rows, SHAPE, 2)['advance']

  # Keys and values of 64 rows, 4 heads and 320 slots, in 128 lanes of bfloat16.
  assert advance(64) - advance(128) == pytest.approx(
    2 * 64 * 4 * 320 * 128 * 2, rel=0.03
  )
