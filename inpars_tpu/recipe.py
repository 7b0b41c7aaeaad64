"""The method's numbers: gin macros, one name for one number.

A recipe is gin files and bindings of macros; `MACROS` below is every name that
a stage may read, with the check that its value must pass. Paths and datasets
are flags of the command line, not gin.
"""

import dataclasses
import importlib.util  # noqa: F401  gin 0.5 uses it without importing it.
import math
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gin

from inpars_tpu import errors

DEFAULT_FILE = 'gin/inpars_v2.gin'

Check = Callable[[Any], bool]


@dataclasses.dataclass(frozen=True)
class Macro:
  """What values a macro takes."""

  is_valid: Check
  wanted: str  # Completes "NUM_PAIRS must be ...".


def _integer(low: int, high: float = math.inf) -> Macro:
  def is_valid(value: Any) -> bool:
    return type(value) is int and low <= value <= high

  top = '' if math.isinf(high) else f', at most {high}'
  return Macro(is_valid, f'an integer of {low} or more{top}')


def _optional_integer(low: int) -> Macro:
  inner = _integer(low)
  return Macro(
    lambda value: value is None or inner.is_valid(value),
    f'None or {inner.wanted}',
  )


def _number(low: float, high: float, *, above: bool = False) -> Macro:
  def is_valid(value: Any) -> bool:
    if type(value) not in (int, float) or not math.isfinite(value):
      return False
    return (low < value if above else low <= value) and value <= high

  edge = 'above' if above else 'of at least'
  top = '' if math.isinf(high) else f' and at most {high:g}'
  return Macro(is_valid, f'a number {edge} {low:g}{top}')


def _one_of(*values: Any) -> Macro:
  return Macro(
    lambda value: type(value) in {type(v) for v in values} and value in values,
    'one of ' + ', '.join(map(repr, values)),
  )


_TEXT = Macro(lambda value: isinstance(value, str) and value != '', 'a text')
_DTYPE = _one_of('bfloat16', 'float32')

MACROS: Mapping[str, Macro] = {
  'SEED': _integer(0, 2**32 - 1),  # What numpy's RandomState takes.
  'NUM_DOCUMENTS': _integer(1),
  'MIN_DOCUMENT_CHARS': _integer(0),
  'PROMPT': _TEXT,
  'MAX_DOCUMENT_TOKENS': _integer(1),
  'MAX_NEW_TOKENS': _integer(1),
  'GENERATOR_DTYPE': _DTYPE,
  'GENERATOR_WEIGHTS': _one_of(None, 'int8'),
  'GENERATOR_BATCH_SIZE': _optional_integer(1),
  'FILTER_BY': _one_of('reranker', 'log_probs', 'none'),
  'NUM_PAIRS': _integer(1),
  'MIN_QUERY_TOKENS': _integer(0),
  'MAX_QUERY_TOKENS': _integer(1),
  'MIN_QUERY_CHARS': _integer(0),
  'MAX_QUERY_CHARS': _optional_integer(1),
  'DROP_COPIED_QUERIES': _one_of(True, False),
  'DROP_DUPLICATE_QUERIES': _one_of(True, False),
  'BM25_K1': _number(0.0, math.inf),
  'BM25_B': _number(0.0, 1.0),
  'NEGATIVE_HITS': _integer(1),
  'NUM_NEGATIVES': _integer(1),
  'MAX_INPUT_TOKENS': _integer(16),
  'MAX_PASSAGES': _integer(1),
  'RERANKER_DTYPE': _DTYPE,
  'SCORE_BATCH_TOKENS': _optional_integer(1),
  'TRAIN_STEPS': _integer(1),
  'TRAIN_BATCH_SIZE': _integer(2),
  'LEARNING_RATE': _number(0.0, math.inf, above=True),
  'LOSS': _one_of('monot5', 'rankt5'),
  'DROPOUT_RATE': _number(0.0, 0.99),
  'Z_LOSS': _number(0.0, math.inf),
  'TRAIN_DTYPE': _DTYPE,
  'LENGTH_BUCKETS': _one_of(True, False),
  'LEARNING_RATE_SCHEDULE': _one_of(
    'constant', 'linear', 'cosine', 'inverse_sqrt'
  ),
  'WARMUP_STEPS': _integer(0),
  'SCAN_LAYERS': _one_of(None, True, False),
  'SHARD_PARAMS': _one_of(None, True, False),
  'REMAT': _one_of(None, True, False),
  'CHECKPOINT_STEPS': _integer(1),
  'FIRST_STAGE_HITS': _integer(1),
  'RERANK_HITS': _integer(1),
}


class Recipe:
  """Resolved macros, read as attributes: `recipe.NUM_PAIRS`."""

  def __init__(self, values: Mapping[str, Any]):
    self._values = dict(values)

  def __getattr__(self, name: str) -> Any:
    if name not in MACROS:
      raise AttributeError(name)
    return self.only(name)[name]

  def only(self, *names: str) -> dict[str, Any]:
    """The macros that one stage reads: its part of the manifest.

    Raises:
      InputError: a gin file left one of them out.
    """
    missing = [name for name in names if name not in self._values]
    if missing:
      raise errors.InputError(
        f'the gin files leave out {", ".join(missing)}; '
        f'include {DEFAULT_FILE!r} first, then override'
      )
    return {name: self._values[name] for name in names}


def recipes_dir() -> pathlib.Path:
  """Where the shipped gin files are: in the package, or in a checkout."""
  package = pathlib.Path(__file__).resolve().parent
  installed = package / 'recipes'
  return installed if installed.is_dir() else package.parent / 'gin'


def find_gin_file(name: str) -> pathlib.Path | None:
  """Looks for `gin/x.gin` in the current folder, then among those shipped."""
  if pathlib.Path(name).is_file():
    return pathlib.Path(name)
  parts = pathlib.PurePath(name).parts
  if parts[:1] == ('gin',):
    shipped = recipes_dir().joinpath(*parts[1:])
    return shipped if shipped.is_file() else None
  return None


def open_gin_file(name: str):
  """A reader of gin's, of files that `is_gin_file` is true of."""
  return open(find_gin_file(name), encoding='utf-8')


def is_gin_file(name: str) -> bool:
  """Whether `find_gin_file` finds it."""
  return find_gin_file(name) is not None


def load(
  gin_files: Iterable[str] = (), bindings: Mapping[str, str] | None = None
) -> Recipe:
  """Parses gin files, then bindings of macros, and checks every value.

  Args:
    gin_files: paths, found as `find_gin_file` does; `DEFAULT_FILE` if empty.
    bindings: macro -> its value as gin text: {'PROMPT': "'gbq'"}.

  Raises:
    InputError: a file that is not there or does not parse, a macro that no
      stage reads, a value that its macro does not take.
  """
  files = list(gin_files) or [DEFAULT_FILE]
  bindings = dict(bindings or {})
  for name in files:
    if not is_gin_file(name):
      shipped = sorted(f'gin/{f.name}' for f in recipes_dir().glob('*.gin'))
      raise errors.InputError(
        f'no gin file at {name}; shipped: {", ".join(shipped)}'
      )
  for name in bindings:
    if name not in MACROS:
      raise errors.unknown('gin name', name, MACROS)
  gin.clear_config()
  gin.config.register_file_reader(open_gin_file, is_gin_file)
  for source in [*files, *bindings]:
    try:
      if source in bindings:
        gin.parse_config(f'{source} = {bindings[source]}')
      else:
        gin.parse_config_file(source)
    except (ValueError, SyntaxError, OSError, NameError) as error:
      raise _not_gin(source, bindings.get(source), error) from None
  values = _resolve_macros()
  gin.clear_config()
  for name, value in values.items():
    if name not in MACROS:
      raise errors.unknown(f'gin name in {", ".join(files)}:', name, MACROS)
    if not MACROS[name].is_valid(value):
      raise errors.InputError(
        f'{name} must be {MACROS[name].wanted}, not {value!r}'
      )
  return Recipe(values)


def _not_gin(
  source: str, binding: str | None, error: Exception
) -> errors.InputError:
  reason = ' '.join(str(error).split())
  if binding is None:
    return errors.InputError(f'{source}: not gin: {reason}')
  hint = ''
  if re.fullmatch(r'[A-Za-z_][\w./-]*', binding):  # The shell ate the quotes.
    hint = f'; a text needs quotes of its own: --gin.{source}="\'{binding}\'"'
  return errors.InputError(f'--gin.{source}={binding}: not gin{hint}')


def _resolve_macros() -> dict[str, Any]:
  """Every macro that the parsed configuration binds, with its value."""
  names = re.findall(r'^(\w+) = ', gin.config_str(), flags=re.MULTILINE)
  try:
    return {
      name: gin.get_bindings(f'{name}/gin.macro')['value'] for name in names
    }
  except TypeError as error:  # A macro that refers to one without a value.
    name = re.search(r"in scope '(\w+)'", str(error))
    raise errors.InputError(
      f'gin: %{name[1] if name else "?"} is used and never given a value'
    ) from None
