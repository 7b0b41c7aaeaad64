"""Both checkpoints from nothing, at tiny sizes."""

import json
import logging
import re

import jax
import ml_dtypes
import numpy as np
import pytest

from inpars_tpu import GPTJ, MonoT5, model_dir
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
  num_explanations=200,
  lesson_tokens=512,
  courses=(
    pretrain.Course(num_told=2, num_tokens=64, num_steps=100),
    pretrain.Course(num_told=5, num_tokens=128, num_steps=100),
  ),
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


@pytest.mark.parametrize(
  'name,what', [('gptj', 'general text'), ('monot5', 'questions')]
)
def test_loss_falls(made, name, what):
  losses = [
    float(re.search(r'loss ([\d.]*)', line)[1])
    for line in made[1]
    if line.startswith(f'{name}, {what}')
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


def test_cards_say_what_they_are(made):
  gptj, monot5 = (
    (made[0] / name / 'README.md').read_text() for name in ('gptj', 'monot5')
  )
  assert '200 steps of 4 rows of 40 tokens of general text' in gptj
  assert '100 steps of 8 questions of source domains' in monot5
  assert 'that tells 2 of five parts of a thing' in monot5
  for name, card in (('gptj', gptj), ('monot5', monot5)):
    reader = model_dir.TensorReader(made[0] / name)
    count = sum(int(np.prod(shape)) for shape in reader.shapes.values())
    assert f'{count:,} parameters' in card
    assert f'--only={name}' in card
    assert 'No question of the target domain was read.' in card


def test_vocabularies_fit_the_embeddings(made):
  for name in ('gptj', 'monot5'):
    config = json.loads((made[0] / name / 'config.json').read_text())
    assert config['vocab_size'] == 768  # 700 pieces, a multiple of 128.
