"""What the demo's models learn from holds no test question."""

import json

import numpy as np
import pytest

from inpars_tpu.demo import reading, words, world

NUM_PASSAGES = 3_000


@pytest.fixture(scope='module')
def passages():
  rng = np.random.default_rng([1, 1])
  return [reading.draw_passage(rng) for _ in range(NUM_PASSAGES)]


def test_general_text_asks_nothing(passages):
  assert not any('?' in passage for passage in passages)


def test_general_text_knows_the_target(passages):
  text = '\n'.join(passages)
  for meaning in words.TARGET.meanings:
    assert all(way in text for way in meaning), meaning


def test_no_genre_is_known_of_all_domains():
  rng = np.random.default_rng(0)
  found = {}
  for _ in range(NUM_PASSAGES):
    told = reading.restate(rng)
    place = next(
      d.name for d in words.DOMAINS if any(p in told.document for p in d.places)
    )
    found.setdefault(told.genre, set()).add(place)
  assert sorted(map(len, found.values())) == [3, 3, 3, 3, 4, 4]


def test_questions_are_of_source_domains():
  rng = np.random.default_rng(0)
  asked = [reading.ask(rng).text for _ in range(500)]
  asked += [pair.query for pair in reading.draw_pairs(rng, 500)]
  for question in asked:
    assert world.parse(words.TARGET, question) is None
    assert any(world.parse(domain, question) for domain in words.SOURCES)
    assert not any(place in question for place in words.TARGET.places)


@pytest.mark.parametrize('seed', [1, 2, 3])
def test_no_test_question_is_in_what_the_models_saw(passages, seed, tmp_path):
  world.write(tmp_path, seed)
  lines = (tmp_path / 'queries.jsonl').read_text().splitlines()
  rng = np.random.default_rng(0)
  read = '\n'.join([*passages, *(reading.ask(rng).text for _ in range(1_000))])
  for line in lines:
    question = json.loads(line)['text']
    assert question not in read


def test_pairs_have_one_answer_each():
  pairs = reading.draw_pairs(np.random.default_rng(0), 200)
  assert [pair.label for pair in pairs] == [1, 0] * 200
  same_place = 0
  for right, wrong in zip(pairs[::2], pairs[1::2], strict=True):
    assert right.query == wrong.query and right.document != wrong.document
    question = next(filter(None, (
      world.parse(domain, right.query) for domain in words.SOURCES
    )))  # fmt: skip
    same_place += question.place in wrong.document
  assert 110 < same_place < 150
