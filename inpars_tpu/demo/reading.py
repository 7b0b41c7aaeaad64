"""What the demo's models learn from: general text, and source questions.

The general text is of all domains, the target's included: it explains words,
describes things, and tells of documents in other words in six genres, none of
them a question. Each genre is known of some domains only, so that a model must
learn genre and words apart. Questions are of the source domains alone.
"""

from typing import NamedTuple

import numpy as np

from inpars_tpu.demo import words, world

QUESTION = 'Good Question'  # As the gbq prompt calls it.
_RESTATED = 0.7  # Share of the general text that tells of a document.

_KIND_GLOSSES = (
  'A {0} is a {1}.',
  'A {1} is what we call a {0}.',
  'Every {0} is a {1}, and every {1} is a {0}.',
)
_APPOSITIONS = (
  'It {0}: that is, it {1}.',
  'It {1}, which means that it {0}.',
)
_GLOSSES = (
  *_APPOSITIONS,
  'What {0} is a thing that {1}.',
  'If it {0}, then it {1}.',
  'Whatever {1} also {0}.',
)
# In no form the words follow each other as in a question after 'Which', 'What
# is the' or 'Is there a'.
GENRES = {
  'Summary': (
    'A {kind} of {place} that {0} and {1}.',
    'It is the {kind} in {place} which {0}. It also {1}.',
  ),
  'Letter': (
    'Dear friend, today in {place} we saw the {kind} that {0} and {1}.',
    'Dear friend, you will like {place}. The {kind} there {0}. It {1}.',
  ),
  'Notice': (
    'Lost in {place}: a {kind} which {0} and {1}.',
    'Found near {place}: the {kind} that {0} and {1}.',
  ),
  'Rumour': (
    'They say that in {place} a {kind} {0} and {1}.',
    'In {place}, so they say, there is a {kind} which {0} and {1}.',
  ),
  'Riddle': (
    'You find it in {place}, it {0} and it {1}. It is a {kind}.',
    'It {0}, it {1}, and {place} is its home. Answer: the {kind}.',
  ),
  'Advice': (
    'Whoever goes to {place} should see the {kind} that {0} and {1}.',
    'Do not miss the {kind} of {place}, which {0} and {1}.',
  ),
}


class Told(NamedTuple):
  """A document and what is told of it."""

  document: str
  genre: str
  text: str


def restate(rng: np.random.Generator) -> Told:
  """A document of any domain, told in a genre that the domain has."""
  number = int(rng.integers(len(words.DOMAINS)))
  thing = world.draw_thing(words.DOMAINS[number], rng)
  known = [g for i, g in enumerate(GENRES) if (i + number) % 3]
  genre = world.choose(known, rng)
  form = world.choose(GENRES[genre], rng)
  return Told(world.describe(thing), genre, world.restate(form, thing, rng))


def ask(rng: np.random.Generator) -> Told:
  """A document of a source domain and a question that it answers."""
  thing = world.draw_thing(world.choose(words.SOURCES, rng), rng)
  return Told(world.describe(thing), QUESTION, world.ask(thing, rng))


def draw_passage(rng: np.random.Generator) -> str:
  """A passage of the general text."""
  if rng.random() < _RESTATED:
    told = restate(rng)
    return f'Document: {told.document}\n{told.genre}: {told.text}\n'
  domain = world.choose(words.DOMAINS, rng)
  tell = world.choose((explain, _describe, _describe_twice), rng)
  return world.with_articles(tell(domain, rng)) + '\n'


def explain(domain: words.Domain, rng: np.random.Generator) -> str:
  """Three sentences, each of two ways of saying one meaning."""
  chosen = [world.choose(domain.meanings, rng) for _ in range(3)]
  return ' '.join(
    world.choose(
      _KIND_GLOSSES if meaning in domain.kinds else _GLOSSES, rng
    ).format(*meaning)
    for meaning in chosen
  )


def _describe(domain: words.Domain, rng: np.random.Generator) -> str:
  """Either way of saying each thing."""
  thing = world.draw_thing(domain, rng)
  kind, *properties = (
    world.choose(ways, rng) for ways in (thing.kind, *thing.properties)
  )
  return world.tell(f'{thing.opening} {thing.body}', thing, kind, properties)


def _describe_twice(domain: words.Domain, rng: np.random.Generator) -> str:
  """Both ways of saying each thing."""
  thing = world.draw_thing(domain, rng)
  sentences = [
    world.tell(thing.opening, thing, thing.kind.document, ()),
    f'It is a {thing.kind.question}.',
    *(
      world.choose(_APPOSITIONS, rng).format(*ways) for ways in thing.properties
    ),
  ]
  return ' '.join(sentences)
