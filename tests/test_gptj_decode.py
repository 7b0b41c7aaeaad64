import jax
import jax.numpy as jnp
import numpy as np

from inpars_tpu.gptj import decode

VOCAB, STOP, OTHER_STOP = 10, 9, 4


def count_up(tokens, step, cache):
  """A model that is sure the next token is the last one plus one."""
  return 50.0 * jax.nn.one_hot(tokens + 1, VOCAB), cache


def run(
  first_tokens, max_new_tokens=6, is_filler=None, step=count_up, cache=()
):
  """Greedy decoding of rows whose first token is given."""
  if is_filler is None:
    is_filler = [False] * len(first_tokens)
  return decode.greedy_decode(
    step,
    50.0 * jax.nn.one_hot(jnp.array(first_tokens), VOCAB),
    cache,
    is_stop=jnp.zeros(VOCAB, bool).at[jnp.array([STOP, OTHER_STOP])].set(True),
    is_filler=jnp.array(is_filler),
    max_new_tokens=max_new_tokens,
  )


def test_stops_at_any_stop_token_and_pads():
  out = run([5, 8, 2])
  np.testing.assert_array_equal(
    out.tokens, [[5, 6, 7, 8, 9, 0], [8, 9, 0, 0, 0, 0], [2, 3, 4, 0, 0, 0]]
  )
  np.testing.assert_array_equal(out.num_tokens, [5, 2, 3])
  np.testing.assert_allclose(out.log_probs, np.zeros((3, 6)), atol=1e-5)
  assert out.is_done.all()


def test_row_that_never_stops_is_not_done():
  out = run([0, 8], max_new_tokens=3)
  np.testing.assert_array_equal(out.tokens, [[0, 1, 2], [8, 9, 0]])
  np.testing.assert_array_equal(out.num_tokens, [3, 2])
  np.testing.assert_array_equal(out.is_done, [False, True])


def test_log_prob_is_of_the_chosen_token():
  logits = jnp.log(jnp.array([[0.2, 0.5, 0.3]]))
  out = decode.greedy_decode(
    count_up,
    logits,
    (),
    is_stop=jnp.array([False, True, False]),
    is_filler=jnp.array([False]),
    max_new_tokens=2,
  )
  np.testing.assert_array_equal(out.tokens, [[1, 0]])
  np.testing.assert_allclose(out.log_probs, [[np.log(0.5), 0]], atol=1e-6)


def test_row_does_not_depend_on_its_batch():
  both, alone = run([2, 7]), run([7])
  np.testing.assert_array_equal(both.tokens[1:], alone.tokens)


def test_filler_rows_write_nothing_and_hold_nobody_up():
  def count_steps(tokens, step, steps):
    return count_up(tokens, step, None)[0], steps + 1

  out = run([0, 8], is_filler=[True, False], step=count_steps,
            cache=jnp.int32(0))  # fmt: skip
  np.testing.assert_array_equal(out.tokens[0], np.zeros(6))
  np.testing.assert_array_equal(out.num_tokens, [0, 2])
