import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inpars_tpu.gptj import attention
from inpars_tpu.gptj import config as config_lib


def test_halved_rotation_turns_the_pairs_that_hugging_face_turns():
  # One head of 6 dims, 4 of which turn: pairs (0, 1) and (2, 3).
  config = config_lib.GPTJConfig(
    model_dim=6, num_layers=1, num_heads=1, rotary_dim=4
  )
  kernel = attention.halve_rotary(jnp.eye(6), config)
  x = jnp.asarray([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) @ kernel
  assert x.tolist() == [1, 3, 2, 4, 5, 6]
  turns = attention.rotation(jnp.asarray([[7]], jnp.int32), 4)
  got = attention.rotate(x[None, None, None], turns)[0, 0, 0]
  a, b = 7.0, 7.0 / 100  # 10000^(2 / 4) = 100.
  expected = [
    1 * np.cos(a) - 2 * np.sin(a), 3 * np.cos(b) - 4 * np.sin(b),
    2 * np.cos(a) + 1 * np.sin(a), 4 * np.cos(b) + 3 * np.sin(b),
    5, 6,
  ]  # fmt: skip
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def random_keys_values(rng, *, heads, rows, positions, dims):
  leading = (heads,) if rows is None else (heads, rows)
  keys, values = (
    jnp.asarray(rng.normal(size=(*leading, positions, dims)), jnp.float32)
    for _ in range(2)
  )
  return attention.KeysValues(keys.swapaxes(1, 2) if rows is None else keys,
                              values)  # fmt: skip


@pytest.mark.parametrize('num_prefix', [0, 5])
def test_one_softmax_over_prefix_and_own(num_prefix):
  rng = np.random.default_rng(0)
  queries = jnp.asarray(rng.normal(size=(2, 3, 4, 8)), jnp.float32)
  sizes = {'heads': 2, 'dims': 8}
  prefix = random_keys_values(rng, rows=None, positions=num_prefix, **sizes)
  own = random_keys_values(rng, rows=3, positions=6, **sizes)
  is_visible = rng.random((3, 4, 6)) < 0.7
  is_visible[..., 0] = True
  got = attention.attend(
    queries, prefix, own, attention.mask_bias(jnp.asarray(is_visible))[None]
  )
  for head in range(2):
    for row in range(3):
      keys = np.concatenate([prefix.keys[head].T, own.keys[head, row]]).T
      values = np.concatenate([prefix.values[head], own.values[head, row]])
      scores = queries[head, row] @ keys / np.sqrt(8)
      scores = np.where(
        np.pad(is_visible[row], ((0, 0), (num_prefix, 0)),
               constant_values=True),
        scores, -np.inf,
      )  # fmt: skip
      expected = jax.nn.softmax(scores, axis=-1) @ values
      np.testing.assert_allclose(
        got[row, :, 8 * head : 8 * head + 8], expected, atol=1e-5
      )


@pytest.mark.parametrize('length', [1, 64, 65, 150])
def test_blocks_of_queries_see_what_comes_before_them(length):
  rng = np.random.default_rng(length)
  queries = jnp.asarray(rng.normal(size=(2, 2, length, 4)), jnp.float32)
  sizes = {'heads': 2, 'dims': 4}
  prefix = random_keys_values(rng, rows=None, positions=3, **sizes)
  own = random_keys_values(rng, rows=2, positions=length, **sizes)
  is_visible = jnp.tril(jnp.ones((length, length), bool))
  whole = attention.attend(
    queries, prefix, own, attention.mask_bias(is_visible)[None, None]
  )
  got = attention.attend_causally(queries, prefix, own)
  np.testing.assert_allclose(got, whole, atol=1e-6)
