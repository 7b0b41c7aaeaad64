"""The invented world: its words, documents, questions and judgements."""

import numpy as np
import pytest

from inpars_tpu import collection
from inpars_tpu.demo import words, world

TIDE, STEAM, MASTS, MUD = (
  next(m for m in words.VESSELS.meanings if m.document == document)
  for document in (
    'is driven by the tide', 'vents steam', 'has two masts', 'dredges mud'
  )
)  # fmt: skip
SKIFF, BARGE = words.VESSELS.kinds[:2]
THING = world.Thing(
  name='Halmor',
  place='Jetty',
  kind=SKIFF,
  properties=(TIDE, MASTS, MUD),
  opening='{name} is a {kind} of {place}.',
  body='It {0}. It also {1} and {2}.',
)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  folder = tmp_path_factory.mktemp('world')
  world.write(folder, seed=1)
  return folder


def test_domains_share_grammar_and_no_other_word():
  owners: dict[str, set[str]] = {}
  for domain in words.DOMAINS:
    for meaning in domain.meanings:
      for word in ' '.join(meaning).split():
        owners.setdefault(word, set()).add(domain.name)
    for place in domain.places:
      owners.setdefault(place, set()).add(domain.name)
  shared = {word for word, names in owners.items() if len(names) > 1}
  assert shared <= words.GRAMMAR


@pytest.mark.parametrize('domain', words.DOMAINS, ids=lambda d: d.name)
def test_every_way_of_saying_has_one_meaning(domain):
  ways = [way for meaning in domain.meanings for way in meaning]
  assert len(ways) == len(set(ways)) == 80
  assert len(set(domain.places)) == 12


def test_document_says_all_of_a_thing():
  assert world.describe(THING) == (
    'Halmor is a skiff of Jetty. It is driven by the tide. It also has two '
    'masts and dredges mud.'
  )


def test_question_says_it_in_other_words():
  class Fixed:
    """Draws the first option; never a property alone, nor the same words."""

    def random(self):
      return 0.5

    def integers(self, *_):
      return 0

  assert world.ask(THING, Fixed()) == (
    'Which rowing tender of Jetty uses moving sea water and rises on double '
    'spars?'
  )


@pytest.mark.parametrize(
  'text,properties',
  [
    ('Which rowing tender of Jetty uses moving sea water?', {TIDE}),
    (
      'What is the skiff in Jetty that clears silt and has two masts?',
      {MUD, MASTS},
    ),
    ('Is there a skiff of Jetty which works with vapour?', {STEAM}),
  ],
)
def test_parse_reads_every_form(text, properties):
  parsed = world.parse(words.VESSELS, text)
  assert parsed == world.Question('Jetty', SKIFF, frozenset(properties))


@pytest.mark.parametrize(
  'text',
  [
    '',
    'Which rowing tender of Jetty uses moving sea water',
    'Which rowing tender of Aldgate uses moving sea water?',
    'Which rowing tender uses moving sea water?',
    'Which rowing tender of Jetty uses moving sea?',
  ],
)
def test_parse_refuses_what_is_no_question(text):
  assert world.parse(words.VESSELS, text) is None


@pytest.mark.parametrize(
  'place,kind,properties,grade',
  [
    ('Jetty', SKIFF, {TIDE, MASTS}, 2),
    ('Jetty', SKIFF, {TIDE, STEAM}, 1),
    ('Jetty', BARGE, {TIDE}, 1),
    ('Fathom', SKIFF, {TIDE}, 1),
    ('Fathom', BARGE, {TIDE}, 0),
    ('Jetty', BARGE, {TIDE, STEAM}, 0),
  ],
)
def test_grade_counts_what_does_not_fit(place, kind, properties, grade):
  question = world.Question(place, kind, frozenset(properties))
  assert question.grade(THING) == grade


@pytest.mark.parametrize('domain', words.DOMAINS, ids=lambda d: d.name)
def test_every_question_is_answered_by_its_document(domain):
  rng = np.random.default_rng(0)
  for thing in world.draw_things(domain, seed=3, count=50):
    question = world.ask(thing, rng)
    assert world.answers(domain, question, thing), question


def test_articles():
  assert world.with_articles('A oat mush is a jam.') == 'An oat mush is a jam.'


def test_written_world_has_its_counts(dataset):
  corpus = collection.Corpus(dataset / 'corpus.jsonl')
  queries = collection.read_queries(dataset / 'queries.jsonl')
  qrels = collection.read_qrels(dataset / 'qrels' / 'test.tsv')
  assert len(corpus) == 2_000
  assert len(set(queries.values())) == len(queries) == len(qrels) == 200
  assert all(2 in grades.values() for grades in qrels.values())
  partly = [list(grades.values()).count(1) for grades in qrels.values()]
  assert 5 < np.mean(partly) < 30


def test_written_world_depends_on_the_seed_alone(dataset, tmp_path):
  names = ('corpus.jsonl', 'queries.jsonl', 'qrels/test.tsv')
  world.write(tmp_path / 'again', seed=1)
  world.write(tmp_path / 'other', seed=2)
  for name in names:
    content = (dataset / name).read_bytes()
    assert (tmp_path / 'again' / name).read_bytes() == content
    assert (tmp_path / 'other' / name).read_bytes() != content
