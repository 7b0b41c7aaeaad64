"""What a user did wrong, said in one line."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
  """Wrong input: what is wrong, where, and what to do, in one line.

  The command line prints it without a traceback and exits with 2.
  """


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
  """An error for a name that does not exist, nearest known names first.

  unknown('verb', 'scor', ['score', 'run']) ->
    "unknown verb 'scor'; did you mean score?"
  unknown('verb', 'x', ['score', 'run']) ->
    "unknown verb 'x'; known: run, score"
  """
  known = sorted(known)
  near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
  hint = f'did you mean {" or ".join(near)}?'
  listed = f'known: {", ".join(known)}'
  return InputError(f'unknown {kind} {name!r}; {hint if near else listed}')


def some(names: list[str]) -> str:
  """The first few of many: 'a', 'b' and 7 more."""
  more = f' and {len(names) - 5} more' if len(names) > 5 else ''
  return ', '.join(map(repr, names[:5])) + more
