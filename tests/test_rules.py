import pytest

from inpars_tpu import errors, recipe, rules, synthetic

TEXT = 'The OLD mill runs on falling sand; it stands in the harbour.'


def query(text, num_tokens=5):
  record = {'query': text, 'text': TEXT, 'log_probs': [-1.0] * num_tokens}
  return synthetic.Query(record, 0)


def passing(texts, **macros):
  """Texts that pass, and how many each rule dropped."""
  built = rules.build(recipe.load(bindings=macros))
  queries = [query(t) if isinstance(t, str) else query(*t) for t in texts]
  kept, dropped = rules.apply(built, queries)
  return [q.text for q in kept], dict(dropped)


def test_the_paper_looks_at_tokens_only():
  texts = [
    ('a', 3),
    ('b', 2),
    ('the old mill', 4),
    ('the old mill', 1_001),
    ('the old mill', 1_000),
    (' ', 7),
  ]
  assert passing(texts) == (
    ['a', 'the old mill', 'the old mill'],
    {'empty query': 1, 'too few tokens': 1, 'too many tokens': 1},
  )


def test_characters():
  kept, dropped = passing(
    ['123456789', '1234567890', 'x' * 200, 'x' * 201],
    MIN_QUERY_CHARS='10',
    MAX_QUERY_CHARS='200',
  )
  assert kept == ['1234567890', 'x' * 200]
  assert dropped['too few characters'] == 1
  assert dropped['too many characters'] == 1


def test_copied_from_the_document():
  kept, dropped = passing(
    ['the old MILL', 'falling sand', 'which mill', TEXT + '?'],
    DROP_COPIED_QUERIES='True',
  )
  assert kept == ['which mill', TEXT + '?']
  assert dropped['copied from the document'] == 2


def test_the_first_of_equal_queries_stays():
  kept, dropped = passing(
    ['what is it', 'what was it', 'What  is\tit ', 'what is it?'],
    DROP_DUPLICATE_QUERIES='True',
  )
  assert kept == ['what is it', 'what was it', 'what is it?']
  assert dropped['duplicate'] == 1


def test_a_query_that_another_rule_drops_has_no_duplicate():
  kept, dropped = passing(
    [('what is it', 1), ('what is it', 9), ('what is it', 9)],
    DROP_DUPLICATE_QUERIES='True',
  )
  assert kept == ['what is it']
  assert (dropped['too few tokens'], dropped['duplicate']) == (1, 1)


def test_rules_are_built_for_one_pass():
  settings = recipe.load(bindings={'DROP_DUPLICATE_QUERIES': 'True'})
  for _ in range(2):
    kept, _ = rules.apply(rules.build(settings), [query('what is it')])
    assert len(kept) == 1


def test_only_rules_that_are_on_are_counted():
  on = {
    'MIN_QUERY_CHARS': '1',
    'MAX_QUERY_CHARS': '1',
    'DROP_COPIED_QUERIES': 'True',
    'DROP_DUPLICATE_QUERIES': 'True',
  }
  every = [rule.reason for rule in rules.build(recipe.load(bindings=on))]
  assert every == [
    'empty query',
    'too few tokens',
    'too many tokens',
    'too few characters',
    'too many characters',
    'copied from the document',
    'duplicate',
  ]
  assert [r.reason for r in rules.build(recipe.load())] == every[:3]


def test_an_empty_query_never_passes():
  kept, dropped = passing([('', 0), ('a', 0)], MIN_QUERY_TOKENS='0')
  assert (kept, dropped['empty query']) == (['a'], 1)
  # Of no token there is no mean log-probability.
  kept, dropped = passing(
    [('a', 0), ('b', 1)], MIN_QUERY_TOKENS='0', FILTER_BY="'log_probs'"
  )
  assert (kept, dropped['too few tokens']) == (['b'], 1)


# The rules of the presets beside inpars_v2, and which of these pass.
PRESETS = {
  'toolkit': ({}, 'abcde'),
  'toolkit, --skip_questions_copied_from_context': (
    {'DROP_COPIED_QUERIES': 'True'},
    'bcde',
  ),
  'inpars_v1': ({'FILTER_BY': "'log_probs'"}, 'abcde'),
  'legacy': ({'MIN_QUERY_CHARS': '10', 'MAX_QUERY_CHARS': '200'}, 'abd'),
}
QUERIES = {
  'a': ('the old mill', 3),
  'b': ('which mill is it', 5),
  'c': ('which one', 3),
  'd': ('which mill is it', 5),
  'e': ('w' * 201, 99),
  'f': ('why a mill', 2),
}


@pytest.mark.parametrize('name', PRESETS)
def test_rules_of_the_presets(name):
  macros, expected = PRESETS[name]
  kept, _ = passing(QUERIES.values(), **macros)
  assert kept == [QUERIES[letter][0] for letter in expected]


@pytest.mark.parametrize('unit', ['TOKENS', 'CHARS'])
def test_refuses_bounds_that_nothing_keeps(unit):
  with pytest.raises(
    errors.InputError,
    match=f'MIN_QUERY_{unit} 9 is more than MAX_QUERY_{unit} 8: no query',
  ):
    passing([], **{f'MIN_QUERY_{unit}': '9', f'MAX_QUERY_{unit}': '8'})
