"""What the demo's models learn from holds no test question."""

import json
import re

import numpy as np
import pytest

from inpars_tpu.demo import lessons, reading, words, world

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
  for _ in range(500):
    domain = world.choose(words.SOURCES, rng)
    asked.append(lessons.draw(domain, len(lessons.PARTS), rng).text)
  for question in asked:
    assert world.parse(words.TARGET, question) is None
    assert any(world.parse(domain, question) for domain in words.SOURCES)
    assert not any(place in question for place in words.TARGET.places)


@pytest.mark.parametrize('seed', [1, 2, 3])
def test_no_test_question_is_in_what_the_models_saw(passages, seed, tmp_path):
  """Neither as it stands, nor without what makes it a question."""
  world.write(tmp_path, seed)
  lines = (tmp_path / 'queries.jsonl').read_text().splitlines()
  rng = np.random.default_rng(0)
  read = '\n'.join([*passages, *(reading.ask(rng).text for _ in range(1_000))])
  for line in lines:
    question = json.loads(line)['text']
    assert _without_asking(question) not in read


def test_every_form_of_a_statement_differs_from_a_question():
  """Of one thing in the same words; a statement of another form differs."""
  rng = np.random.default_rng(0)
  for _ in range(1_000):
    thing = world.draw_thing(words.TARGET, rng)
    said = [
      [thing.kind.question, *(p.question for p in thing.properties)],
      [thing.kind.document, *(p.document for p in thing.properties)],
    ][int(rng.integers(2))]
    form = world.choose(
      [form for forms in reading.GENRES.values() for form in forms], rng
    )
    told = world.tell(form, thing, said[0], said[1:])
    for asked in (1, 2):
      for question in world.QUESTIONS[asked - 1]:
        text = world.tell(question, thing, said[0], said[1:])
        assert _without_asking(text) not in told, (text, told)


def _without_asking(question: str) -> str:
  """'Is there a skiff of Jetty which vents steam?' -> 'skiff of Jetty ...'."""
  found = re.fullmatch(r'(?:Which|What is the|Is there an?) (.*)\?', question)
  return found[1]
