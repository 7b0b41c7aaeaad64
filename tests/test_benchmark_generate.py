"""The measurement of generation alone: what it computes, at a tiny size."""

import argparse
import dataclasses

import numpy as np
import pytest

from benchmarks import generate_alone, side_by_side
from inpars_tpu import row_batch
from inpars_tpu.gptj import config as config_lib


def test_prompts_have_the_mean_of_real_ones():
  built = generate_alone.random_prompts(101, vocab_size=50)
  lengths = [len(own) for own in built.own]
  assert (len(built.prefix), sum(lengths)) == (312, 101 * 170)
  assert (min(lengths), max(lengths)) >= (24, 200)
  assert max(lengths) <= built.buckets[-1] <= 256
  assert max(map(max, built.own)) < 50


def test_the_generator_alone_says_its_share_of_a_matrix_product(monkeypatch):
  monkeypatch.setitem(side_by_side._MATMUL_DIM, 'cpu', 64)
  args = argparse.Namespace(
    config='gptj_tiny', dtype='float32', num_documents=3, batch_size=2,
    mesh=None, shard_documents=2,
  )  # fmt: skip
  found = generate_alone.measure(args)
  assert (found['documents'], found['rows']) == (3, 2)
  assert (found['device'], found['mesh']) == ('cpu', 'data=1,model=1')
  assert found['mean_tokens'] == 170.0
  assert 1 < found['mean_new_tokens'] < 64
  assert 0 < found['occupancy'] <= 1
  assert found['share_of_matmul'] == pytest.approx(
    found['tflops_per_s'] / found['matmul_tflops_per_s'], rel=0.01
  )
  # 2 layers of 4 x 32 x 32 and 2 x 32 x 128 weights, the head of 32 x 50,400.
  layers, head = 2 * 2 * 12_288, 2 * 32 * 50_400
  num_new = 3 * found['mean_new_tokens']
  by_weights = (312 + 3 * 170 + num_new) * layers + num_new * head
  seconds = num_new / found['new_tokens_per_s']
  assert found['tflops_per_s_by_weights'] * 1e12 * seconds == pytest.approx(
    by_weights, rel=0.01
  )
  # Attention comes to it, part of the last layer is not needed.
  assert found['tflops_per_s'] / found[
    'tflops_per_s_by_weights'
  ] == pytest.approx(1, abs=0.3)


def test_needed_work_is_of_the_prefix_once_and_of_tokens_that_are_read():
  # A layer of 4 x 4 and 2 x 4 x 4 weights a dimension: 96 in all, of which 32
  # are keys' and values'; a head of 4 x 10.
  config = config_lib.GPTJConfig(
    vocab_size=10, model_dim=4, num_layers=1, num_heads=1, rotary_dim=2,
    mlp_dim=4,
  )  # fmt: skip
  built = generate_alone.random_prompts(2, vocab_size=10)
  ended = [
    row_batch.Ended(i, np.zeros(n, np.int32), np.zeros(n), True)
    for i, n in ((0, 1), (1, 3))
  ]
  num_own = [len(own) for own in built.own]
  seen = [312 + n for n in num_own]
  positions = sum(seen) + seen[1] + 1 + seen[1] + 2  # Attended to.
  tokens = 32 * (312 + sum(num_own))  # Their keys and values.
  last = 2 * (96 - 32 + 40)  # What chooses each first token.
  steps = 2 * (96 + 40)  # Two tokens of the second row are read again.
  assert generate_alone.needed_flops(config, built, ended) == 2 * (
    tokens + last + steps + 2 * 4 * positions
  )


def test_rows_write_unlike_tokens_and_end_like_queries():
  config = config_lib.GPTJConfig(
    num_layers=8, model_dim=256, num_heads=4, rotary_dim=4, mlp_dim=1_024
  )
  decoder = generate_alone.random_decoder(config, 'float32', None)
  assert decoder.params['head']['kernel'].std() == pytest.approx(
    256**-0.5, rel=0.01
  )
  assert decoder.params['layers'][1]['norm']['scale'].tolist() == [1.0] * 256
  built = generate_alone.random_prompts(60, config.vocab_size)
  built = dataclasses.replace(
    built, own=[own[:24] for own in built.own], buckets=[24]
  )
  shared = decoder.read_shared(built)
  ended = list(decoder.decode(built, shared, range(60), max_new_tokens=64))
  tokens = np.concatenate([row.tokens for row in ended])
  assert 11 < len(tokens) / 60 < 20
  assert len(np.unique(tokens)) > 0.6 * len(tokens)
