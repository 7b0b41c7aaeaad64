"""A sweep's file and the runs that it asks for. Reads; starts nothing.

datasets: [scifact, nfcorpus]       # Names below data_dir, or folders.
seeds: [1, 2]                       # Of SEED; left out: the recipe's own.
gin:                                # All combinations.
  LEARNING_RATE: [1e-3, 3e-4]
settings:                           # Or by name, several numbers together;
  short: {TRAIN_STEPS: 50}          # each with all combinations of gin.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from etils import epath

from inpars_tpu import cli, errors, files
from inpars_tpu import recipe as recipe_lib

_KEYS = ('datasets', 'seeds', 'gin', 'settings')
# Of the flags of `run`, what a sweep says itself.
_OWN = ('dataset', 'work_dir')
BASE = 'base'  # Called so where a sweep changes no number.


@dataclasses.dataclass(frozen=True)
class Run:
  """One `inpars-tpu run`."""

  setting: str  # 'LEARNING_RATE=0.001'.
  seed: int
  dataset: str  # As the file has it.
  work_dir: epath.Path  # The run's own; of all seeds of a setting, below one.
  words: Sequence[str]  # The command line.
  recipe: recipe_lib.Recipe

  @property
  def dataset_name(self) -> str:
    """Its folder's, as `run` calls it."""
    return os.path.basename(os.path.abspath(self.dataset))

  @property
  def name(self) -> str:
    """'LEARNING_RATE=0.001/seed1/scifact': also its place in the work_dir."""
    return f'{self.setting}/{self.work_dir.name}/{self.dataset_name}'

  @property
  def folder(self) -> epath.Path:
    """Where its outputs are."""
    return self.work_dir / self.dataset_name

  @property
  def flags(self) -> list[str]:
    """What it shares with the other runs of its dataset: no gin, no place."""
    return [
      word
      for word in self.words
      if not word.startswith(('--gin', '--work_dir'))
    ]


def load(path: str, work_dir: str, flags: Sequence[str]) -> list[Run]:
  """Every run of a sweep, checked; all of one dataset and seed together.

  Args:
    path: the YAML file.
    work_dir: the sweep's; a run's is work_dir/SETTING/seedN.
    flags: of `inpars-tpu run`, the same for all.

  Raises:
    InputError: YAML with unknown keys, names of gin that do not exist or values
      that they do not take, flags that `run` does not have, a dataset that is
      not there, two runs of one name.
  """
  content = _read(path)
  for flag in flags:
    name = flag.lstrip('-').partition('=')[0]
    if name in _OWN or name.removeprefix('gin.') in content['gin']:
      raise errors.InputError(f'--{name}: {path} says it')
  runs: dict[str, Run] = {}
  for dataset, seed in itertools.product(content['datasets'], content['seeds']):
    for setting, bindings in _settings(path, content):
      run = _make(dataset, seed, setting, bindings, work_dir, flags)
      if run.name in runs:
        raise errors.InputError(f'{path}: two runs are called {run.name}')
      runs[run.name] = run
  return list(runs.values())


def check_datasets(runs: Iterable[Run], data_dir: str) -> None:
  """Checks that each dataset is there, where data_dir can be looked into.

  Raises:
    InputError: one is not.
  """
  from inpars_tpu import run as run_lib  # Seconds, which help should not pay.

  for dataset in dict.fromkeys(run.dataset for run in runs):
    run_lib.find_dataset(dataset, data_dir)


def _make(dataset, seed, setting, bindings, work_dir, flags) -> Run:
  gin = {**bindings, **({} if seed is None else {'SEED': str(seed)})}
  gin_words = [f'--gin.{name}={value}' for name, value in gin.items()]
  words = [f'--dataset={dataset}', f'--work_dir={work_dir}', *flags, *gin_words]
  recipe = cli.parse('run', words).recipe
  seed = recipe.SEED
  place = epath.Path(work_dir) / setting / f'seed{seed}'
  words = [
    'run', f'--dataset={dataset}', f'--work_dir={place}', *flags, *gin_words
  ]  # fmt: skip
  return Run(setting, seed, dataset, place, words, recipe)


def _settings(path, content) -> Iterator[tuple[str, dict[str, str]]]:
  """(name, bindings as gin text) of every combination."""
  named = content['settings'] or {'': {}}
  names = sorted(content['gin'])  # Whatever the file's order.
  for title, fixed in named.items():
    for values in itertools.product(*(content['gin'][n] for n in names)):
      bindings = dict(zip(names, values, strict=True))
      both = sorted(bindings.keys() & fixed.keys())
      if both:
        raise errors.InputError(f'{path}: {both[0]} is in gin and in {title}')
      parts = [title] if title else []
      parts += [f'{name}={_show(value)}' for name, value in bindings.items()]
      yield (
        '+'.join(parts) or BASE,
        {name: _to_gin(value) for name, value in {**fixed, **bindings}.items()},
      )


def _to_gin(value: Any) -> str:
  """A value of YAML as gin text. 1e-3 has no dot, and is a text to YAML."""
  return value if _is_number(value) else repr(value)


def _show(value: Any) -> str:
  """A value as a part of a folder's name."""
  text = f'{float(value):g}' if _is_number(value) else str(value)
  return re.sub(r'[^\w.=-]', '-', text)


def _is_number(value: Any) -> bool:
  if not isinstance(value, str):
    return False
  try:
    float(value)
  except ValueError:
    return False
  return True


class _Loader(yaml.SafeLoader):
  """Of plain values; a key that stands twice is an error, not the last."""

  def construct_mapping(self, node, deep=False):
    keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
      raise yaml.constructor.ConstructorError(
        None, None, f'{twice[0]} stands twice', node.start_mark
      )
    return super().construct_mapping(node, deep)


def _read(path: str) -> dict[str, Any]:
  """The file with every key, as lists and mappings of the right shape."""
  text = files.must_be_file(path, 'sweep').read_text()
  try:
    content = yaml.load(text, _Loader)
  except yaml.YAMLError as error:
    reason = ' '.join(str(error).split())
    raise errors.InputError(f'{path}: not YAML: {reason}') from None
  if not isinstance(content, Mapping):
    raise errors.InputError(f'{path}: a mapping with datasets: [...]')
  for key in content:
    if key not in _KEYS:
      raise errors.unknown(f'key in {path}', str(key), _KEYS)
  datasets = _list(path, 'datasets', content.get('datasets'), str)
  seeds = content.get('seeds')
  seeds = [None] if seeds is None else _list(path, 'seeds', seeds, int)
  gin = _mapping(path, 'gin', content.get('gin'))
  settings = _mapping(path, 'settings', content.get('settings'))
  for title, fixed in settings.items():
    if not re.fullmatch(r'[\w.-]+', str(title)):
      raise errors.InputError(
        f'{path}: setting {title!r}: letters, digits, ._-'
      )
    _check_names(path, _mapping(path, title, fixed), seeds)
  _check_names(path, gin, seeds)
  for name, values in gin.items():
    _list(path, name, values, object)
  return {
    'datasets': datasets, 'seeds': seeds, 'gin': gin, 'settings': settings
  }  # fmt: skip


def _check_names(path, names: Iterable[str], seeds) -> None:
  for name in names:
    if name not in recipe_lib.MACROS:
      raise errors.unknown(f'gin name in {path}', str(name), recipe_lib.MACROS)
    if name == 'SEED' and seeds != [None]:
      raise errors.InputError(f'{path}: SEED is in gin, and there are seeds')


def _list(path, name: str, values: Any, kind: type) -> list[Any]:
  is_right = isinstance(values, list) and values
  if not is_right or not all(type(v) is kind or kind is object for v in values):
    of = {str: ' of names', int: ' of integers', object: ''}[kind]
    raise errors.InputError(f'{path}: {name} must be a list{of}: [a, b]')
  return values


def _mapping(path, name: str, value: Any) -> dict[str, Any]:
  if value is None:
    return {}
  if not isinstance(value, Mapping):
    raise errors.InputError(f'{path}: {name} must be a mapping, NAME: value')
  return dict(value)
