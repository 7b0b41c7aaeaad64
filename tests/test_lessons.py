"""Lessons: what is asked, what is told, and which of it is wrong."""

import numpy as np
import pytest

from inpars_tpu.demo import lessons, words, world


@pytest.fixture
def rng():
  return np.random.default_rng(0)


@pytest.mark.parametrize('domain', words.SOURCES, ids=lambda d: d.name)
def test_whole_lessons_are_the_world_s_questions(domain, rng):
  for _ in range(100):
    lesson = lessons.draw(domain, len(lessons.PARTS), rng)
    assert world.parse(domain, lesson.text), lesson.text


def test_wrong_words_are_not_in_the_document_and_right_ones_are(rng):
  """Either way of saying a meaning is looked up, in the whole document."""
  domain = words.BEASTS
  meanings = {way: m for m in domain.meanings for way in m}
  for num_told in (2, 3, 5):
    for _ in range(100):
      lesson = lessons.draw(domain, num_told, rng)
      for part in lessons.PARTS:
        said = ' '.join(w.text for w in lesson.question if w.part == part)
        said = said.rstrip('?')
        if said:
          way = meanings[said].document if said in meanings else said
          is_told = f'{way}' in lesson.document
          assert is_told == (part not in lesson.wrong), (lesson, part)


def test_half_answer_and_the_others_miss_something_asked(rng):
  drawn = [lessons.draw(words.DISHES, 5, rng) for _ in range(1_000)]
  assert 450 < sum(lesson.label for lesson in drawn) < 550
  for lesson in drawn:
    asked = {word.part for word in lesson.question}
    assert lesson.label == (not lesson.wrong & asked)
    assert lesson.label or lesson.wrong


def test_a_short_lesson_asks_only_what_is_told(rng):
  for _ in range(100):
    lesson = lessons.draw(words.HOUSES, 1, rng)
    assert len({word.part for word in lesson.question} - {None}) == 1
    assert len(lesson.document.split()) < 12


def test_label_and_text():
  question = (
    lessons.Word('Which', None),
    lessons.Word('mill', 'kind'),
    lessons.Word('brews', 'use'),
    lessons.Word('ale?', 'use'),
  )
  right = lessons.Lesson(question, 'd', frozenset({'place'}))
  wrong = lessons.Lesson(question, 'd', frozenset({'use'}))
  assert right.text == 'Which mill brews ale?'
  assert (right.label, wrong.label) == (1, 0)
