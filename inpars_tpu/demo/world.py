"""A small invented world: documents, questions, and which answers which.

Every document describes one made-up thing of one domain; a question asks for a
thing by its place, its kind and one or two properties, mostly in other words
than the document has. Written out of a seed; no sentence comes from elsewhere.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence

import numpy as np
from etils import epath

from inpars_tpu import files
from inpars_tpu.demo import words

NUM_THINGS = 2_000
NUM_QUESTIONS = 200

# How often a question asks about one property and not two, about those that
# the document has first, and says a meaning in the document's own words.
ONE_PROPERTY = 0.25
_FIRST_PROPERTIES = 0.75
_SAME_WORDS = 0.2

_SYLLABLES = (
  'bar bel cal cor den dor dun eld fen fol gar gri hal hul ild jor kal kel lam '
  'lor lum mar mor nar nev nor old pel pol ran rin ros sav sel sol tam tor ulf '
  'val vel vin wen wis yar yor zan zel zor'.split()
)
OPENINGS = (
  '{name} is a {kind} of {place}.',
  'In {place} there is a {kind} called {name}.',
  'The {kind} {name} belongs to {place}.',
)
_BODIES = (
  'It {0}. It also {1} and {2}.',
  'It {0} and {1}. People say that it {2}.',
  'Everybody knows that it {0}. It {1} and {2}.',
)
QUESTIONS = (  # About one property, about two.
  (
    'Which {kind} of {place} {0}?',
    'What is the {kind} in {place} that {0}?',
    'Is there a {kind} of {place} which {0}?',
  ),
  (
    'Which {kind} of {place} {0} and {1}?',
    'What is the {kind} in {place} that {0} and {1}?',
    'Is there a {kind} of {place} which {0} and {1}?',
  ),
)


@dataclasses.dataclass(frozen=True)
class Thing:
  """One invented thing, and all that its document says of it."""

  name: str
  place: str
  kind: words.Meaning
  properties: tuple[words.Meaning, ...]  # In the document's order.
  opening: str
  body: str


@dataclasses.dataclass(frozen=True)
class Question:
  """What a question asks for, in whatever words."""

  place: str
  kind: words.Meaning
  properties: frozenset[words.Meaning]

  def grade(self, thing: Thing) -> int:
    """2 where everything fits, 1 where all but one do, else 0."""
    misses = (
      (self.place != thing.place)
      + (self.kind != thing.kind)
      + len(self.properties.difference(thing.properties))
    )
    return max(0, 2 - misses)


def draw_thing(
  domain: words.Domain, rng: np.random.Generator, name: str | None = None
) -> Thing:
  """A thing of a domain; its name too is drawn where none is given."""
  slots = [words.SLOTS[i] for i in rng.permutation(len(words.SLOTS))]
  return Thing(
    name=name or draw_name(rng),
    place=choose(domain.places, rng),
    kind=choose(domain.kinds, rng),
    properties=tuple(choose(domain.properties[s], rng) for s in slots),
    opening=choose(OPENINGS, rng),
    body=choose(_BODIES, rng),
  )


def draw_things(domain: words.Domain, seed: int, count: int) -> list[Thing]:
  """Things of a domain, names all different."""
  rng = np.random.default_rng([seed, 0])
  names: dict[str, None] = {}
  while len(names) < count:
    names[draw_name(rng)] = None
  return [draw_thing(domain, rng, name) for name in names]


def describe(thing: Thing) -> str:
  """The text of its document.

  'Halmor is a skiff of Jetty. It vents steam. It also has two masts and ...'
  """
  return tell(
    f'{thing.opening} {thing.body}',
    thing,
    thing.kind.document,
    [meaning.document for meaning in thing.properties],
  )


def tell(form: str, thing: Thing, kind: str, properties: Sequence[str]) -> str:
  """Fills a form with words for a thing's kind and properties."""
  return with_articles(
    form.format(*properties, name=thing.name, kind=kind, place=thing.place)
  )


def ask(thing: Thing, rng: np.random.Generator) -> str:
  """A question that the thing's document answers.

  'Which rowing tender of Jetty works with vapour and rises on double spars?'
  """
  number = 1 if rng.random() < ONE_PROPERTY else 2
  return restate(choose(QUESTIONS[number - 1], rng), thing, rng)


def restate(form: str, thing: Thing, rng: np.random.Generator) -> str:
  """Says some of what a document says, mostly in a question's words."""
  properties = thing.properties
  if rng.random() >= _FIRST_PROPERTIES:
    properties = [properties[i] for i in rng.permutation(len(properties))]

  kind, *told = (say(meaning, rng) for meaning in (thing.kind, *properties))
  return tell(form, thing, kind, told)


def say(meaning: words.Meaning, rng: np.random.Generator) -> str:
  """A meaning in a question's words, or now and then in a document's."""
  return meaning.document if rng.random() < _SAME_WORDS else meaning.question


def parse(domain: words.Domain, text: str) -> Question | None:
  """What a question asks for; None where it is no question of the domain.

  'Which tavern of Aldgate brews ale?' -> Question('Aldgate', ...)
  """
  for pattern in _patterns(domain):
    match = pattern.fullmatch(text)
    if match:
      said = match.groupdict()
      place, kind = said.pop('place'), said.pop('kind')
      meanings = _meanings(domain)
      return Question(
        place, meanings[kind], frozenset(meanings[way] for way in said.values())
      )
  return None


def answers(domain: words.Domain, question: str, thing: Thing) -> bool:
  """Whether it is a question, and the thing's document answers it whole."""
  parsed = parse(domain, question)
  return parsed is not None and parsed.grade(thing) == 2


def write(
  directory: files.PathLike,
  seed: int,
  num_things: int = NUM_THINGS,
  num_questions: int = NUM_QUESTIONS,
) -> None:
  """Writes the target domain in BEIR's layout: corpus, test queries, qrels.

  No question is asked twice. Grades are `Question.grade`'s.
  """
  directory = epath.Path(directory)
  world = draw_things(words.TARGET, seed, num_things)
  files.write_jsonl(
    directory / 'corpus.jsonl',
    (
      {'_id': _id(thing), 'title': '', 'text': describe(thing)}
      for thing in world
    ),
  )
  questions = _draw_questions(world, seed, num_questions)
  files.write_jsonl(
    directory / 'queries.jsonl',
    ({'_id': f'q{i}', 'text': text} for i, text in enumerate(questions, 1)),
  )
  lines = ['query-id\tcorpus-id\tscore\n']
  for number, text in enumerate(questions, 1):
    question = parse(words.TARGET, text)
    for thing in world:
      grade = question.grade(thing)
      if grade:
        lines.append(f'q{number}\t{_id(thing)}\t{grade}\n')
  files.write_text(directory / 'qrels' / 'test.tsv', ''.join(lines))


def _draw_questions(world: Sequence[Thing], seed: int, count: int) -> list[str]:
  rng = np.random.default_rng([seed, 1])
  questions: dict[str, None] = {}
  for i in rng.permutation(len(world)):
    if len(questions) < count:
      questions[ask(world[i], rng)] = None
  return list(questions)


def _id(thing: Thing) -> str:
  return thing.name.lower()


@functools.cache
def _patterns(domain: words.Domain) -> list[re.Pattern]:
  """Of every form of a question; the article fits whatever follows."""

  def one_of(ways) -> str:
    return '|'.join(map(re.escape, ways))

  kinds = one_of(way for ways in domain.kinds for way in ways)
  properties = one_of(
    way for slot in domain.properties.values() for ways in slot for way in ways
  )
  return [
    re.compile(
      form.replace('?', r'\?')
      .replace(' a ', ' an? ')
      .format(
        *(f'(?P<p{i}>{properties})' for i in range(2)),
        kind=f'(?P<kind>{kinds})',
        place=f'(?P<place>{one_of(domain.places)})',
      )
    )
    for forms in QUESTIONS
    for form in forms
  ]


@functools.cache
def _meanings(domain: words.Domain) -> dict[str, words.Meaning]:
  return {way: meaning for meaning in domain.meanings for way in meaning}


def with_articles(text: str) -> str:
  """'a oat mush' -> 'an oat mush'."""
  return re.sub(r'\b([Aa]) (?=[aeiou])', r'\1n ', text)


def choose(options: Sequence, rng: np.random.Generator):
  """One of the options."""
  return options[int(rng.integers(len(options)))]


def draw_name(rng: np.random.Generator) -> str:
  """'Halmor'."""
  return ''.join(choose(_SYLLABLES, rng) for _ in range(2)).capitalize()
