"""Word vectors: what explains each other is alike, nothing else is."""

import numpy as np
import pytest

from inpars_tpu.demo import vectors


class Words:
  """A tokenizer of whole words: their places in the alphabet of all."""

  known = 'a and every hay horse house is mare palace plain straw x'.split()

  def encode(self, texts):
    return [[self.known.index(word) for word in t.split()] for t in texts]


SENTENCES = [
  'every horse is a mare', 'a mare is a horse',
  'every house is a palace', 'a palace is a house',
  'every hay is straw', 'a straw is hay',
] * 3  # fmt: skip


@pytest.fixture(scope='module')
def made():
  # Six meanings are not rarer than e**2 times what chance has.
  return vectors.make(
    Words(), SENTENCES, 16, 256, np.random.default_rng(0), min_log_ratio=0.7
  )


def cosine(made, one, other):
  a, b = (made[Words.known.index(word)] for word in (one, other))
  return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_shapes_and_scale(made):
  assert made.shape == (16, 256) and made.dtype == np.float32
  np.testing.assert_allclose((made[[3, 5]] ** 2).mean(axis=1), 1, atol=0.2)


@pytest.mark.parametrize(
  'one,other', [('horse', 'mare'), ('house', 'palace'), ('hay', 'straw')]
)
def test_what_explains_each_other_is_alike(made, one, other):
  assert 0.5 < cosine(made, one, other) < 0.9


@pytest.mark.parametrize(
  'one,other',
  [('horse', 'palace'), ('hay', 'house'), ('horse', 'every'), ('plain', 'x')],
)
def test_what_does_not_is_not(made, one, other):
  assert abs(cosine(made, one, other)) < 0.25


def test_depends_on_the_seed_alone(made):
  again = vectors.make(
    Words(), SENTENCES, 16, 256, np.random.default_rng(0), min_log_ratio=0.7
  )
  np.testing.assert_array_equal(again, made)
