"""Rules that a synthetic query must pass before it is scored.

Which are on, and their bounds, are macros. The paper's own are the toolkit's:
3 to 1,000 tokens. An empty query never passes: BM25 finds nothing for it.
"""

import collections
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from inpars_tpu import errors, synthetic
from inpars_tpu import recipe as recipe_lib

MACROS = (
  'MIN_QUERY_TOKENS',
  'MAX_QUERY_TOKENS',
  'MIN_QUERY_CHARS',
  'MAX_QUERY_CHARS',
  'DROP_COPIED_QUERIES',
  'DROP_DUPLICATE_QUERIES',
)


class Rule(NamedTuple):
  """One reason to drop a query."""

  reason: str
  applies: Callable[[synthetic.Query], bool]


def build(recipe: recipe_lib.Recipe) -> list[Rule]:
  """The rules that are on, for one pass over the queries.

  Raises:
    InputError: bounds that no query could keep.
  """
  _check_bounds(recipe, 'TOKENS')
  # A mean over no token is no score.
  min_tokens = max(recipe.MIN_QUERY_TOKENS, recipe.FILTER_BY == 'log_probs')
  max_tokens = recipe.MAX_QUERY_TOKENS
  rules = [
    Rule('empty query', lambda query: not query.text.strip()),
    Rule('too few tokens', lambda query: len(query.log_probs) < min_tokens),
    Rule('too many tokens', lambda query: len(query.log_probs) > max_tokens),
  ]
  min_chars, max_chars = recipe.MIN_QUERY_CHARS, recipe.MAX_QUERY_CHARS
  if min_chars:
    rules.append(
      Rule('too few characters', lambda query: len(query.text) < min_chars)
    )
  if max_chars is not None:
    _check_bounds(recipe, 'CHARS')
    rules.append(
      Rule('too many characters', lambda query: len(query.text) > max_chars)
    )
  if recipe.DROP_COPIED_QUERIES:
    rules.append(Rule('copied from the document', is_copied))
  if recipe.DROP_DUPLICATE_QUERIES:
    rules.append(Rule('duplicate', _Seen()))
  return rules


def apply(
  rules: Sequence[Rule], queries: Iterable[synthetic.Query]
) -> tuple[list[synthetic.Query], collections.Counter]:
  """Sorts queries into those that pass and a number for each reason.

  Returns:
    The queries that pass, in their order; and how many each rule dropped, 0
    included. A query counts for the first rule that it fails.
  """
  kept, dropped = [], collections.Counter({rule.reason: 0 for rule in rules})
  for query in queries:
    for rule in rules:
      if rule.applies(query):
        dropped[rule.reason] += 1
        break
    else:
      kept.append(query)
  return kept, dropped


def is_copied(query: synthetic.Query) -> bool:
  """True where the document has the query in it, as the toolkit asks it.

  'Cold Stone' of 'a cold stone' -> True
  """
  return query.text.lower() in query.record['text'].lower()


class _Seen:
  """True of a query that came before; case and white space do not count."""

  def __init__(self):
    self._texts: set[str] = set()

  def __call__(self, query: synthetic.Query) -> bool:
    text = ' '.join(query.text.lower().split())
    is_seen = text in self._texts
    self._texts.add(text)
    return is_seen


def _check_bounds(recipe: recipe_lib.Recipe, unit: str) -> None:
  low, high = f'MIN_QUERY_{unit}', f'MAX_QUERY_{unit}'
  bounds = recipe.only(low, high)
  if bounds[low] > bounds[high]:
    raise errors.InputError(
      f'{low} {bounds[low]} is more than {high} {bounds[high]}: no query could '
      'pass'
    )
