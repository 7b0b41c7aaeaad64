"""Rows in flight, by a GPT-J that counts: its layers add nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inpars_tpu import prompt_tokens, row_batch, row_decoder
from inpars_tpu.gptj import config as config_lib

VOCAB, STOP = 8, 7
CONFIG = config_lib.GPTJConfig(
  vocab_size=VOCAB, max_positions=32, model_dim=VOCAB, num_layers=2,
  num_heads=2, rotary_dim=2, mlp_dim=VOCAB,
)  # fmt: skip
PROMPTS = prompt_tokens.Prompts(
  prefix=[3, 3],
  own=[np.array(ids, np.int32) if ids else None for ids in (
    [1], [5], None, [3], [2, 0, 1]
  )],
  buckets=[8],
  num_chars=[0] * 5,
  num_cut=0,
)  # fmt: skip


@pytest.fixture
def decoder():
  """Sure, after any token, of the next number."""
  zeros = jnp.zeros((VOCAB, VOCAB))
  norm = {'scale': jnp.ones(VOCAB), 'bias': jnp.zeros(VOCAB)}
  linear = {'kernel': zeros, 'bias': jnp.zeros(VOCAB)}
  layer = dict.fromkeys(('query', 'key', 'value', 'out'), zeros) | {
    'norm': norm,
    'mlp_in': linear,
    'mlp_out': linear,
  }
  params = {
    'embedding': jnp.eye(VOCAB),
    'layers': [layer] * 2,
    'final_norm': norm,
    'head': {
      'kernel': 20 * jnp.roll(jnp.eye(VOCAB), 1, axis=1),
      'bias': jnp.zeros(VOCAB),
    },
  }
  return row_decoder.RowDecoder(
    CONFIG, params, np.arange(VOCAB) == STOP,
    dtype=jnp.dtype('float32'), mesh=None, weight_bytes=0,
  )  # fmt: skip


def decode(decoder, chosen, batch_size):
  shared = decoder.read_shared(PROMPTS)
  return list(
    decoder.decode(
      PROMPTS, shared, chosen, max_new_tokens=4, batch_size=batch_size
    )
  )


@pytest.mark.parametrize('batch_size', [1, 20])
def test_each_prompt_that_fits_gets_its_tokens(decoder, batch_size):
  found = decode(decoder, range(5), batch_size)
  written = sorted((row.index, [*row.tokens], row.has_stopped) for row in found)
  assert written == [
    (0, [2, 3, 4, 5], False),
    (1, [6, 7], True),
    (3, [4, 5, 6, 7], True),  # The stop token in the last place.
    (4, [2, 3, 4, 5], False),
  ]
  for row in found:
    np.testing.assert_allclose(row.log_probs, 0 * row.tokens, atol=1e-5)


def test_a_row_that_ends_is_filled_while_the_other_goes_on(decoder):
  found = decode(decoder, [0, 1, 3], batch_size=2)
  assert [row.index for row in found] == [1, 0, 3]
  # A prompt's first token takes no step. Row 1 writes its second in one, then
  # the last prompt in its place needs three: row 0 has gone before the last.
  assert decoder.num_row_steps == 7
  assert sum(len(row.tokens) - 1 for row in found) == 7


def test_rows_that_have_ended_are_taken_out_down_to_a_quarter(decoder):
  ends = prompt_tokens.Prompts(
    prefix=[], own=[np.array([i], np.int32) for i in (0, 5, 4, 3, 5, 0, 5, 5)],
    buckets=[8], num_chars=[0] * 8, num_cut=0,
  )  # fmt: skip
  shared = decoder.read_shared(ends)
  found = list(
    decoder.decode(ends, shared, range(8), max_new_tokens=7, batch_size=8)
  )
  # Of 8 rows 4 end with their second token and 1 with its third; the fourth is
  # of 4 rows, and the last 3 of the 2 that are a quarter.
  assert [row.index for row in found] == [1, 4, 6, 7, 2, 3, 0, 5]
  assert [[*row.tokens] for row in found[4:]] == [
    [5, 6, 7], [4, 5, 6, 7], *[[1, 2, 3, 4, 5, 6, 7]] * 2
  ]  # fmt: skip
  assert decoder.num_row_steps == 8 + 4 + 4 + 2 * 3


def test_a_second_shard_begins_with_the_same_program(decoder):
  begin = row_batch.programs.begin
  decode(decoder, [0, 1, 3], batch_size=3)
  num_programs = begin._cache_size()
  decode(decoder, [4], batch_size=3)
  assert num_programs == begin._cache_size() > 0


def test_taking_rows_out_needs_no_second_cache(decoder, monkeypatch):
  take_rows, held = row_batch.programs.take_rows, []

  def note(tree, **kwargs):
    held.append(sum(x.nbytes for x in jax.live_arrays() if x.ndim == 4))
    return take_rows(tree, **kwargs)

  monkeypatch.setattr(row_batch.programs, 'take_rows', note)
  decode(decoder, range(5), batch_size=4)
  layer = held[0] // CONFIG.num_layers  # Keys and values of 4 rows.
  assert held == [
    2 * layer, 2 * layer, layer + layer // 2,
    layer, layer, layer // 2 + layer // 4,
  ]  # fmt: skip


def test_batch_size_that_is_not_given_fits_the_memory(decoder, monkeypatch):
  monkeypatch.setattr(row_decoder.device, 'memory_bytes', lambda: 30_000)
  # 8 + 4 slots of keys and values of two layers, and the logits: 1,568 bytes;
  # three quarters of the memory hold 14 of them, which is 8.
  assert decoder.num_rows(PROMPTS, 4) == 8
  assert decoder.num_rows(PROMPTS, 4, batch_size=3) == 3


@pytest.mark.parametrize('num_rows,backend,expected', [
  (40, 'cpu', 4), (512, 'tpu', 64), (1, 'gpu', 1),
])  # fmt: skip
def test_rows_filled_at_once(num_rows, backend, expected):
  assert row_decoder.num_filled(num_rows, backend) == expected
