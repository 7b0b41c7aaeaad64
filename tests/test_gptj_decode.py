import jax
import jax.numpy as jnp
import numpy as np

from inpars_tpu.gptj import decode

VOCAB, STOP, OTHER_STOP = 10, 9, 4
IS_STOP = jnp.isin(jnp.arange(VOCAB), jnp.array([STOP, OTHER_STOP]))
PROMPT_SLOTS = 2


def count_up(tokens, positions, slot, is_visible, cache):
  """A model that is sure the next token is the last one plus one."""
  return 50.0 * jax.nn.one_hot(tokens + 1, VOCAB), cache


def fill(rows, places, first_tokens, is_filler=None):
  """Starts rows whose first token is given, prompts of one token."""
  return decode.fill(
    rows,
    jnp.array(places),
    50.0 * jax.nn.one_hot(jnp.array(first_tokens), VOCAB),
    jnp.ones(len(places), jnp.int32),
    is_stop=IS_STOP,
    is_filler=jnp.array(is_filler or [False] * len(places)),
  )


def advance(rows, min_done=None, step=count_up, cache=(), num_parts=1):
  return decode.advance(
    step,
    rows,
    cache,
    is_stop=IS_STOP,
    num_prompt_slots=PROMPT_SLOTS,
    min_done=jnp.int32(len(rows.is_done) if min_done is None else min_done),
    num_parts=num_parts,
  )


def run(first_tokens, max_new_tokens=6, **kwargs):
  rows = decode.empty_rows(len(first_tokens), max_new_tokens)
  return advance(fill(rows, range(len(first_tokens)), first_tokens, **kwargs))[
    0
  ]


def test_stops_at_any_stop_token_and_pads():
  rows = run([5, 8, 2])
  np.testing.assert_array_equal(
    rows.tokens, [[5, 6, 7, 8, 9, 0], [8, 9, 0, 0, 0, 0], [2, 3, 4, 0, 0, 0]]
  )
  np.testing.assert_array_equal(rows.num_tokens, [5, 2, 3])
  np.testing.assert_allclose(rows.log_probs, np.zeros((3, 6)), atol=1e-5)
  assert rows.is_done.all()
  assert rows.has_stopped.all()


def test_row_that_runs_out_of_room_is_done_and_has_not_stopped():
  rows = run([0, 8], max_new_tokens=3)
  np.testing.assert_array_equal(rows.tokens, [[0, 1, 2], [8, 9, 0]])
  np.testing.assert_array_equal(rows.num_tokens, [3, 2])
  np.testing.assert_array_equal(rows.is_done, [True, True])
  np.testing.assert_array_equal(rows.has_stopped, [False, True])


def test_one_token_is_all_that_fits():
  rows = run([0, 9], max_new_tokens=1)
  np.testing.assert_array_equal(rows.tokens, [[0], [9]])
  np.testing.assert_array_equal(rows.has_stopped, [False, True])


def test_log_prob_is_of_the_chosen_token():
  rows = decode.fill(
    decode.empty_rows(1, 2),
    jnp.array([0]),
    jnp.log(jnp.array([[0.2, 0.5, 0.3]])),
    jnp.array([1]),
    is_stop=jnp.array([False, True, False]),
    is_filler=jnp.array([False]),
  )
  np.testing.assert_array_equal(rows.tokens, [[1, 0]])
  np.testing.assert_allclose(rows.log_probs, [[np.log(0.5), 0]], atol=1e-6)


def test_row_does_not_depend_on_its_batch():
  both, alone = run([2, 7]), run([7])
  np.testing.assert_array_equal(both.tokens[1:], alone.tokens)


def test_filler_rows_are_done_at_once_and_hold_nobody_up():
  rows = run([0, 8], is_filler=[True, False])
  np.testing.assert_array_equal(rows.is_done, [True, True])
  assert rows.clock == 1


def test_rows_are_filled_anew_while_others_go_on():
  rows = fill(decode.empty_rows(3, 6), [0, 1, 2], [5, 8, 0])
  rows, _ = advance(rows, min_done=1)
  np.testing.assert_array_equal(rows.is_done, [False, True, False])
  rows, _ = advance(fill(rows, [1], [7]), min_done=3)
  np.testing.assert_array_equal(
    rows.tokens, [[5, 6, 7, 8, 9, 0], [7, 8, 9, 0, 0, 0], [0, 1, 2, 3, 4, 0]]
  )


def test_enough_must_be_done_in_every_part():
  rows = fill(decode.empty_rows(4, 6), [0, 1, 2, 3], [8, 7, 6, 5])
  whole, _ = advance(rows, min_done=2)
  np.testing.assert_array_equal(whole.is_done, [True, True, False, False])
  parts, _ = advance(rows, min_done=1, num_parts=2)
  np.testing.assert_array_equal(parts.is_done, [True, True, True, False])


def test_enough_done_already_takes_no_step():
  rows, _ = advance(fill(decode.empty_rows(2, 6), [0], [5]), min_done=1)
  assert rows.clock == 0


def test_slots_go_round_and_each_row_sees_its_own():
  """Every step records what a row may see, by the tokens written there."""

  def remember(tokens, positions, slot, is_visible, cache):
    written, _ = cache
    written = jax.lax.dynamic_update_slice_in_dim(
      written, tokens[:, None], slot, axis=1
    )
    visible = jnp.where(is_visible, written, -1)
    logits, _ = count_up(tokens, positions, slot, is_visible, None)
    return logits, (written, visible)

  # The clock is at 5 of a ring of 6 when row 1 starts, so that it goes round.
  rows = decode.empty_rows(2, 6)._replace(clock=jnp.int32(5))
  rows = fill(rows, [1], [6])
  cache = (jnp.full((2, PROMPT_SLOTS + 6), 7), jnp.zeros((2, 8), jnp.int32))
  rows, (_, visible) = advance(rows, step=remember, cache=cache)
  np.testing.assert_array_equal(rows.tokens[1], [6, 7, 8, 9, 0, 0])
  # One prompt token, then 7 and 8 in the ring's first slots, 6 in its last.
  np.testing.assert_array_equal(visible[1], [7, -1, 7, 8, -1, -1, -1, 6])
