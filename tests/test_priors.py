"""Where heads look before they have learned anything."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from inpars_tpu.demo import priors
from inpars_tpu.t5 import network
from tests import t5_checkpoints


def test_biases_of_near_right_left_and_all():
  near, right, left, everywhere = priors.biases(32)
  assert near[:4].tolist() == [0, 0, 0, -3]  # Itself, then to the left.
  assert near[16:20].tolist() == [-3, 0, 0, -3]  # No distance 0 to the right.
  assert right[16:24].tolist() == [-6] * 6 + [0] * 2
  assert left[:8].tolist() == [-6] * 6 + [0] * 2
  assert (right[:16] == -6).all() and (left[16:] == -6).all()
  assert not everywhere.any()


def test_a_head_finds_its_like_far_to_the_right():
  config = dataclasses.replace(
    t5_checkpoints.V1_0, d_model=64, d_kv=64, num_heads=4, num_layers=1
  )
  net = network.Transformer(config, jnp.float32)
  tokens = jnp.ones((1, 1), jnp.int32)
  params = net.init(jax.random.key(0), tokens, tokens, tokens)['params']
  priors.prepare(params, config)
  attention = params['encoder']['layers_0']['attention']
  query, key = (
    np.asarray(attention[name]['kernel']).reshape(64, 4, 64)
    for name in ('query', 'key')
  )
  bias = np.asarray(net.apply(
    {'params': params}, method=lambda net: net.encoder.relpos_bias(
      12, bidirectional=True
    )
  ))  # fmt: skip
  x = np.random.default_rng(0).normal(size=(12, 64))
  x[9] = x[1]
  logits = np.einsum('sd,dhk,te,ehk->hst', x, query, x, key) + bias[0]
  right, left = logits[1], logits[2]
  assert right[1].argmax() == 9  # Not itself, and not what is nearer.
  assert left[9].argmax() == 1
  assert abs(left[1].argmax() - 1) < 6  # Has nothing on that side.
