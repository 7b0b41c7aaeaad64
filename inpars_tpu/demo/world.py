"""A small invented world: documents, questions, and which answers which.

Every document describes one made-up thing; a question asks for a property of
it in other words than the document has. Written out of a seed; no sentence
comes from elsewhere.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from etils import epath

from inpars_tpu import files

NUM_THINGS = 240
NUM_QUESTIONS = 40

# Kind -> what a question calls it.
_KINDS = {
  'boat': 'vessel',
  'lamp': 'light',
  'mill': 'grinding house',
  'bridge': 'crossing',
  'bell': 'chime',
  'kiln': 'oven',
}
_PLACES = ('harbour', 'valley', 'island', 'plateau', 'marsh', 'forest')
# Document phrase -> what a question says instead.
_POWERS = {
  'is driven by the tide': 'uses moving sea water',
  'burns dried reed': 'takes plants as fuel',
  'runs on falling sand': 'needs grains that drop',
  'is turned by two goats': 'depends on animals',
  'works with heated air': 'is powered by warm gas',
}
_USES = {
  'carries salt to the upper market': 'transport something for seasoning',
  'warns the divers of fog': 'tell people under water about mist',
  'dries the winter apples': 'keep fruit for the cold season',
  'counts the hours of the night watch': 'measure time for guards',
  'lifts wool bales over the wall': 'raise cloth material',
}
_MAKERS = ('the weavers', 'two sisters', 'a retired pilot', 'the old guild')
_SYLLABLES = 'bar den fol gri hul jor kel lum mor nev pol rin sav vel'.split()


@dataclasses.dataclass(frozen=True)
class Thing:
  """One invented thing, and all that its document says of it."""

  name: str
  kind: str
  place: str
  power: str
  use: str
  maker: str
  year: int


def things(seed: int) -> list[Thing]:
  """The things of the world, names all different."""
  generator = np.random.default_rng(seed)
  names: dict[str, None] = {}
  while len(names) < NUM_THINGS:
    names[''.join(generator.choice(_SYLLABLES, 3)).capitalize()] = None

  def choose(options: Sequence[str]) -> str:
    return str(generator.choice(list(options)))

  return [
    Thing(
      name=name,
      kind=choose(_KINDS),
      place=choose(_PLACES),
      power=choose(_POWERS),
      use=choose(_USES),
      maker=choose(_MAKERS),
      year=int(generator.integers(1_400, 1_900)),
    )
    for name in names
  ]


def describe(thing: Thing) -> dict[str, str]:
  """A line of corpus.jsonl."""
  return {
    '_id': f'thing-{thing.name.lower()}',
    'title': f'The {thing.kind} {thing.name}',
    'text': (
      f'{thing.name} is a {thing.kind} of the {thing.place}. It {thing.power} '
      f'and {thing.use}. {thing.maker.capitalize()} built it in {thing.year}.'
    ),
  }


def ask(thing: Thing) -> str:
  """A question whose best answer is the thing's document."""
  return (
    f'Which {_KINDS[thing.kind]} of the {thing.place} {_POWERS[thing.power]} '
    f'to {_USES[thing.use]}?'
  )


def write(directory: files.PathLike, seed: int) -> None:
  """Writes the world in BEIR's layout: corpus, test queries, qrels.

  A document is relevant where kind, place, power and use all fit (2), and
  partly where all but one do (1).
  """
  directory = epath.Path(directory)
  world = things(seed)
  asked = np.random.default_rng([seed, 1]).choice(
    len(world), NUM_QUESTIONS, replace=False
  )
  files.write_jsonl(directory / 'corpus.jsonl', map(describe, world))
  files.write_jsonl(
    directory / 'queries.jsonl',
    ({'_id': f'q{i}', 'text': ask(world[i])} for i in asked),
  )
  lines = ['query-id\tcorpus-id\tscore\n']
  for i in asked:
    for thing in world:
      grade = max(0, _matches(world[i], thing) - 2)
      if grade:
        lines.append(f'q{i}\t{describe(thing)["_id"]}\t{grade}\n')
  files.write_text(directory / 'qrels' / 'test.tsv', ''.join(lines))


def _matches(one: Thing, other: Thing) -> int:
  fields = ('kind', 'place', 'power', 'use')
  return sum(getattr(one, f) == getattr(other, f) for f in fields)
