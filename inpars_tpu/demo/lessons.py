"""What monoT5 learns from: a source question, and a document to judge.

Half of the documents answer. Of the others it is known which of the question's
words they do not bear out. The first lessons are of short documents, which
tell some of a thing; the last are of whole ones.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from inpars_tpu.demo import words, world

KIND, PLACE = 'kind', 'place'
PARTS = (KIND, PLACE, *words.SLOTS)  # Of a thing.

_ANSWERS = 0.5  # Share of documents that answer.
_NEAR = 0.4  # Of the others: one asked part alone is another.
_OTHER = 0.4  # Else, of each part.
_FORMS = (  # What stands before the kind, the place, the properties.
  ('Which', 'of', ''),
  ('What is the', 'in', 'that'),
  ('Is there a', 'of', 'which'),
)


class Word(NamedTuple):
  """A word of a question."""

  text: str
  part: str | None  # Which part of the thing it tells, if any.


@dataclasses.dataclass(frozen=True)
class Lesson:
  """A question and a document."""

  question: tuple[Word, ...]
  document: str
  wrong: frozenset[str]  # Parts of the thing that are others there.

  @property
  def label(self) -> int:
    """1 if the document answers, else 0."""
    return int(self.wrong.isdisjoint(word.part for word in self.question))

  @property
  def text(self) -> str:
    """'Which rowing tender of Jetty works with vapour?'"""
    return ' '.join(word.text for word in self.question)


def draw(
  domain: words.Domain, num_told: int, rng: np.random.Generator
) -> Lesson:
  """A lesson whose document tells so many of a thing's five parts."""
  thing = world.draw_thing(domain, rng)
  by_slot = {
    slot: meaning
    for meaning in thing.properties
    for slot in words.SLOTS
    if meaning in domain.properties[slot]
  }
  asked_of: dict[str, str | words.Meaning] = {
    KIND: thing.kind, PLACE: thing.place, **by_slot
  }  # fmt: skip
  chosen = set(rng.choice(len(PARTS), num_told, replace=False).tolist())
  told = [part for part in asked_of if PARTS.index(part) in chosen]
  asked = _draw_asked(told, rng)
  question = _ask({part: asked_of[part] for part in asked}, rng)
  wrong = _draw_wrong(told, asked, rng)
  found = {
    part: _draw_other(domain, part, asked_of[part], rng)
    if part in wrong
    else asked_of[part]
    for part in told
  }
  return Lesson(question, _describe(found, thing, rng), frozenset(wrong))


def _draw_asked(told: list[str], rng: np.random.Generator) -> list[str]:
  """The kind and the place, and one or two properties, of what is told."""
  properties = [part for part in told if part in words.SLOTS]
  num = min(len(properties), 1 if rng.random() < world.ONE_PROPERTY else 2)
  places = rng.permutation(len(properties))[:num]
  return [
    *(part for part in told if part not in words.SLOTS),
    *(properties[i] for i in places),
  ]


def _draw_wrong(
  told: list[str], asked: list[str], rng: np.random.Generator
) -> set[str]:
  if rng.random() < _ANSWERS:
    return set()
  if rng.random() < _NEAR:
    return {world.choose(asked, rng)}
  wrong: set[str] = set()
  while wrong.isdisjoint(asked):
    wrong = {part for part in told if rng.random() < _OTHER}
  return wrong


def _draw_other(
  domain: words.Domain,
  part: str,
  current: str | words.Meaning,
  rng: np.random.Generator,
) -> str | words.Meaning:
  options = {KIND: domain.kinds, PLACE: domain.places, **domain.properties}
  while (other := world.choose(options[part], rng)) == current:
    pass
  return other


def _ask(
  asked: dict[str, str | words.Meaning], rng: np.random.Generator
) -> tuple[Word, ...]:
  """The question: as `world.ask` has it where all its parts are asked."""
  before_kind, before_place, before_properties = world.choose(_FORMS, rng)
  found: list[Word] = []

  def add(text: str, part: str | None = None) -> None:
    found.extend(Word(word, part) for word in text.split())

  add(before_kind)
  if KIND in asked:
    add(world.say(asked[KIND], rng), KIND)
  else:
    add('thing')
  if PLACE in asked:
    add(before_place)
    add(asked[PLACE], PLACE)
  joint = before_properties
  for slot in asked:
    if slot in words.SLOTS:
      add(joint)
      add(world.say(asked[slot], rng), slot)
      joint = 'and'
  text = world.with_articles(' '.join(word.text for word in found)) + '?'
  parts = [word.part for word in found]
  return tuple(map(Word, text.split(), parts))


def _describe(
  found: dict[str, str | words.Meaning],
  thing: world.Thing,
  rng: np.random.Generator,
) -> str:
  """The document: as `world.describe` has it where all is told."""
  name = world.draw_name(rng)
  opening = {
    (True, True): thing.opening,
    (True, False): '{name} is a {kind}.',
    (False, True): 'In {place} there is {name}.',
    (False, False): '',
  }[KIND in found, PLACE in found]
  properties = [found[slot].document for slot in found if slot in words.SLOTS]
  body = (
    '',
    'It {0}.',
    'It {0} and {1}.',
    thing.body,
  )[len(properties)]
  kind = found[KIND].document if KIND in found else ''
  text = f'{opening} {body}'.strip()
  return world.with_articles(
    text.format(*properties, name=name, kind=kind, place=found.get(PLACE, ''))
  )
