"""Both checkpoints from nothing, at tiny sizes; and those that ship."""

import logging
import re

import jax
import ml_dtypes
import numpy as np
import pytest

from inpars_tpu import GPTJ, MonoT5, model_dir, tokenizer
from inpars_tpu.demo import pretrain

PLAN = pretrain.Plan(
  num_texts=600,
  num_pieces=700,
  model_dim=32,
  gptj_layers=1,
  encoder_layers=1,
  decoder_layers=1,
  gptj_rows=4,
  text_tokens=40,
  text_steps=200,
  prompt_tokens=120,
  prompt_steps=3,
  batch_size=8,
  input_tokens=160,
  span_texts=100,
  span_steps=100,
  pairs=50,
  pair_steps=3,
)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """Folder of both models, and what was logged."""
  folder = tmp_path_factory.mktemp('pretrain')
  logger = logging.getLogger('inpars_tpu.demo.pretrain')
  lines = []
  handler = logging.Handler()
  handler.emit = lambda record: lines.append(record.getMessage())
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  try:
    with jax.numpy_dtype_promotion('standard'):  # optax's Adam needs it.
      pretrain.pretrain(folder, PLAN)
  finally:
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
  return folder, lines


def test_loss_falls(made):
  losses = [
    float(re.search(r'general text: step \d+, loss (.*)', line)[1])
    for line in made[1]
    if line.startswith('gptj')
  ]
  assert len(losses) == 2 and losses[1] < losses[0] < 7


def test_models_load_and_are_bfloat16(made):
  folder, _ = made
  (query,) = GPTJ.load(folder / 'gptj').generate(['A skiff.'], max_new_tokens=4)
  assert len(query.log_probs) <= 4
  (score,) = MonoT5.load(folder / 'monot5').score('a skiff', ['a tender'])
  assert score < 0
  for name in ('gptj', 'monot5'):
    reader = model_dir.TensorReader(folder / name)
    dtypes = {reader.read(tensor).dtype for tensor in reader.shapes}
    assert dtypes == {np.dtype(ml_dtypes.bfloat16)}


def test_card_says_what_it_is(made):
  card = (made[0] / 'gptj' / 'README.md').read_text()
  assert '200 steps of 4 rows of 40 tokens of general text' in card
  assert 'No question of the target domain was read.' in card


def test_documents_count_less_than_what_is_told(made):
  tokens = tokenizer.GPT2Tokenizer(made[0] / 'gptj')
  told, plain = pretrain.texts_to_parts(
    tokens, ['Document: It vents steam.\nSummary: A skiff.\n', 'A skiff.\n']
  )
  answer = tokens.encode([' A skiff.\n'])[0]
  assert told.tokens[-len(answer) :] == answer
  assert told.weights == [0.1] * (len(told.tokens) - len(answer)) + [1.0] * len(
    answer
  )
  assert set(plain.weights) == {1.0}


def test_spans_left_out_are_what_sentinels_stand_for():
  class Fixed:
    """Leaves out two tokens after every first."""

    draws = iter([0.9, 0.0, 0.9, 0.9])

    def random(self):
      return next(self.draws)

    def integers(self, *_):
      return 2

  inputs, targets = pretrain.leave_out([5, 6, 7, 8, 9], 128, 1, Fixed())
  assert inputs.tolist() == [5, 127, 8, 9, 1]
  assert targets[:5].tolist() == [127, 6, 7, 1, 0]
  assert len(targets) == 28 and not targets[4:].any()
