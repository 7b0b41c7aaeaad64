"""The measurements of scoring: what they compute, at a tiny size."""

import argparse
import json
import sys

import jax
import numpy as np
import pytest

from benchmarks import (
  reranker_checkpoint,
  score,
  score_alone,
  side_by_side,
)
from inpars_tpu import files
from tests import t5_checkpoints


def test_lengths_have_the_mean_of_real_pairs():
  inputs = score_alone.random_inputs(101, vocab_size=50)
  lengths = np.array([len(tokens) for tokens in inputs])
  assert lengths.sum() == 101 * 230
  assert (lengths.min(), lengths.max()) >= (24, 400)
  assert lengths.max() <= 512
  assert {tokens[-1] for tokens in inputs} == {1}
  assert max(map(max, inputs)) < 50
  assert score_alone.random_inputs(101, vocab_size=50) == inputs


def test_a_share_of_a_document_is_its_first_words():
  text = 'a b c d e'
  assert reranker_checkpoint.first_words(text, 1) == text
  assert reranker_checkpoint.first_words(text, 0.5) == 'a b c'


def test_the_scorer_alone_says_its_share_of_a_matrix_product(monkeypatch):
  monkeypatch.setitem(side_by_side._MATMUL_DIM, 'cpu', 64)
  found = score_alone.measure('t5_tiny', 'float32', 2, 512)
  assert (found['pairs'], found['mean_tokens']) == (2, 230.0)
  assert found['device'] == 'cpu'
  assert found['std_of_scores'] > 0
  assert found['share_of_matmul'] == pytest.approx(
    found['tflops_per_s'] / found['matmul_tflops_per_s'], rel=0.1
  )
  # About 0.1 MFLOP a token at this size: 2 layers of 4 x 32 x 32 and 2 x 32 x
  # 64 weights, attention, and little for the decoder.
  per_pair = found['tflops_per_s'] * 1e12 * found['seconds'] / 2
  assert 0.5 * 230 * 0.1e6 < per_pair < 2 * 230 * 0.1e6
  assert found['tflops_per_s_as_plain_t5'] > found['tflops_per_s']


def test_ours_is_measured_with_and_without_compiling(tmp_path):
  directory = t5_checkpoints.write_reranker(tmp_path)
  pairs = [{'query': 'a river', 'text': 'stone'}, {'query': 'b', 'text': ''}]
  files.write_jsonl(directory / 'pairs.jsonl', pairs)
  args = argparse.Namespace(dtype='float32', batch_tokens=128)
  jax.clear_caches()  # Another test may have compiled the same.
  record = score.measure_ours(directory, args)
  assert record['compile_seconds'] > record['seconds'] > 0
  written = json.loads((directory / 'ours.json').read_text())
  assert record['mean_tokens'] == sum(written['lengths']) / 2
  assert len(written['scores']) == 2


def test_differences_are_of_pairs_that_nobody_cut(tmp_path):
  files.write_json(
    tmp_path / 'ours.json',
    {'scores': [-0.5, -9.0, -2.0], 'lengths': [100, 512, 511]},
  )
  peers = np.exp([-0.5, -1.0, -2.25])
  (tmp_path / 'peer.json').write_text('\n'.join(map(str, peers)))
  assert score._differences(tmp_path) == {
    'max_score_difference': 0.25,
    'pairs_compared': 2,
    'lowest_score': -2.0,
    'highest_score': -0.5,
  }


def record(seconds, cpu, rss):
  return {
    'seconds': seconds,
    'cpu_seconds': cpu,
    'compile_seconds': 3.0,
    'compile_cpu_seconds': 2.0,
    'peak_rss_mb': rss,
  }


def test_ratios_are_to_the_best_of_the_peer():
  ours = [record(2.0, 4.0, 100.4), record(3.0, 1.0, 90.0)]
  peers = {
    'peer 1': [record(5.0, 30.0, 70.0)] * 2,
    'peer 8': [record(9.0, 20.0, 80.0)] * 2,
  }
  assert side_by_side.summarise('pair', 10, ours, {}) == {
    'pairs_per_s': 4.0,
    'cpu_ms_per_pair': 250.0,
    'compile_seconds': 3.0,
    'compile_cpu_seconds': 2.0,
    'peak_rss_mb': 95,
  }
  both = side_by_side.summarise('pair', 10, ours, peers)
  assert (both['ratio'], both['cpu_ratio']) == (2.0, 8.0)
  assert both['peer_pairs_per_s'] == 2.0
  assert both['peer_cpu_ms_per_pair'] == {'peer 1': 3000.0, 'peer 8': 2000.0}
  assert both['peer_peak_rss_mb'] == {'peer 1': 70, 'peer 8': 80}


def test_a_child_does_not_begin_with_the_memory_of_its_parent():
  held = np.ones(200 << 20, np.uint8)
  code = (
    'import json, resource; usage = resource.getrusage(resource.RUSAGE_SELF); '
    'print(json.dumps({"peak_rss_mb": usage.ru_maxrss / 1024}))'
  )
  found = side_by_side.run([sys.executable, '-c', code], 1)
  assert found['peak_rss_mb'] < 100 < held.nbytes / 2**20
