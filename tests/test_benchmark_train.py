"""The measurement of fine-tuning: what it computes, at a tiny size."""

import argparse

import jax
import pytest

from benchmarks import train
from inpars_tpu import files
from tests import t5_checkpoints


@pytest.fixture
def checkpoint(tmp_path):
  directory = t5_checkpoints.write_reranker(tmp_path)
  pairs = [
    {'query': 'a river', 'text': 'stone ' * (1 + 60 * number), 'label': number}
    for number in (1, 0)
  ]
  files.write_jsonl(directory / 'train_pairs.jsonl', pairs)
  return directory


def test_the_pairs_are_read_as_training_reads_them(checkpoint):
  examples = train.read_examples(checkpoint)
  assert examples.labels.tolist() == [1, 0]
  assert examples.groups.tolist() == [0, 0]
  assert (examples.targets[:, 1] == 1).all()
  assert examples.targets[0, 0] != examples.targets[1, 0]
  assert examples.lengths[0] > examples.lengths[1]


def test_ours_is_measured_grouped_by_length_and_padded(checkpoint):
  args = argparse.Namespace(
    dtype='float32',
    batch_size=2,
    num_steps=1,
    microbatch_tokens=64,
    fixed=False,
  )
  jax.clear_caches()  # Another test may have compiled the same.
  grouped = train.measure_ours(checkpoint, args)
  assert grouped['compile_seconds'] > grouped['seconds'] > 0
  assert grouped['programs'] == 2
  args.fixed = True
  padded = train.measure_ours(checkpoint, args)
  assert padded['programs'] == 1
  assert padded['mean_tokens'] == grouped['mean_tokens']
