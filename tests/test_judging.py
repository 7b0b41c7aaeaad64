"""Training to judge: what a row holds, what is lost, that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inpars_tpu import monot5, tokenizer
from inpars_tpu.demo import judging, lessons
from inpars_tpu.t5 import network
from tests import t5_checkpoints

CONFIG = t5_checkpoints.V1_0
LABELS, EOS = (9, 8), 1  # The words for 0 and for 1.
LESSON = lessons.Lesson(
  (
    lessons.Word('how', None),
    lessons.Word('cold', 'kind'),
    lessons.Word('rivers?', 'use'),
  ),
  'a bird and a river',
  frozenset({'use'}),
)


@pytest.fixture
def params():
  tokens = jnp.ones((1, 1), jnp.int32)
  net = network.Transformer(CONFIG, jnp.float32)
  return net.init(jax.random.key(0), tokens, tokens, tokens)['params']


@pytest.fixture(scope='module')
def tokens(tmp_path_factory):
  folder = tmp_path_factory.mktemp('pieces')
  t5_checkpoints.write_pieces(folder)
  return tokenizer.T5Tokenizer(folder)


def batch():
  return judging.Batch(
    np.array([[5, 6, 7, 1], [7, 6, 1, 0]], np.int32),
    np.array([[-1, 1, 0, -1], [1, -1, -1, -1]], np.int32),
    np.array([0, 1], np.int32),
  )


def test_tokens_are_the_scorer_s(tokens):
  ids, verdicts = judging.Encoder(tokens).encode(LESSON)
  (expected,) = monot5.build_inputs(
    monot5.MONOT5, tokens, [LESSON.text], [LESSON.document], 100
  )
  assert ids == list(expected)
  assert len(verdicts) == len(ids)


def test_verdicts_stand_at_the_question_s_words(tokens):
  ids, verdicts = judging.Encoder(tokens).encode(LESSON)
  for verdict, text in ((1, 'cold'), (0, 'rivers?')):
    said = [i for i, v in zip(ids, verdicts, strict=True) if v == verdict]
    assert said == list(tokens.encode([text])[0])


def test_batch_pads_and_cuts(tokens):
  made = judging.Encoder(tokens).batch([LESSON, LESSON], 5)
  assert made.inputs.shape == made.verdicts.shape == (2, 5)
  assert made.inputs.all()
  longer = judging.Encoder(tokens).batch([LESSON], 100)
  assert not longer.inputs[0, -1] and longer.verdicts[0, -1] == -1
  assert made.labels.tolist() == [0, 0]


def test_loss_is_that_of_the_scorer_s_logits_and_of_each_word(params):
  net = network.Transformer(CONFIG, jnp.float32)
  total, found = judging.loss(params, net, LABELS, EOS, batch())
  targets = np.array([[9, EOS], [8, EOS]])
  logits = net.apply(
    {'params': params}, batch().inputs, np.array([[0, 9], [0, 8]]), targets
  )
  log_probs = jax.nn.log_softmax(logits)
  expected = 0.0
  for row in range(2):
    expected -= 0.5 * log_probs[row, 0, targets[row, 0]]
    expected -= 0.5 * 0.05 * log_probs[row, 1, EOS]
  encoded = net.apply({'params': params}, batch().inputs, method='encode')
  embedding = params['token_embedder']['embedding']
  for row, place, verdict in ((0, 1, 1), (0, 2, 0), (1, 0, 1)):
    two = embedding[jnp.array(LABELS)] @ encoded[row, place] / 32**0.5
    expected -= jax.nn.log_softmax(two)[verdict] / 3
  np.testing.assert_allclose(total, expected, rtol=1e-5)
  assert found.total == total


def test_padding_changes_nothing(params):
  net = network.Transformer(CONFIG, jnp.float32)
  short = batch()
  long = judging.Batch(
    np.pad(short.inputs, ((0, 0), (0, 3))),
    np.pad(short.verdicts, ((0, 0), (0, 3)), constant_values=-1),
    short.labels,
  )
  values = [judging.loss(params, net, LABELS, EOS, b)[0] for b in (short, long)]
  np.testing.assert_allclose(*values, rtol=1e-5)


def test_learns_both(params):
  log = []
  with jax.numpy_dtype_promotion('standard'):  # optax's Adam needs it.
    judging.fit(
      params,
      CONFIG,
      iter([batch()] * 40),
      label_ids=LABELS,
      eos_id=EOS,
      num_steps=40,
      learning_rate=1e-2,
      log=lambda step, losses: log.append((step, losses)),
    )
  assert [step for step, _ in log] == list(range(1, 41))
  first, last = log[0][1], log[-1][1]
  assert last.total < 0.1 * first.total
  assert last.accuracy == last.word_accuracy == 1
