"""Outputs that one run of a sweep has, and another would make once more.

The hours of GPT-J do not depend on the learning rate. Before a run begins it is
given the complete outputs of others whose manifests have the settings that it
would have, made from the inputs that it has: `run` then checks them as if it
had made them itself, and goes on after them.
"""

import logging
import os
from collections.abc import Iterable

from etils import epath

from inpars_tpu import filter, manifest  # The stage, not the builtin.
from inpars_tpu import recipe as recipe_lib

_log = logging.getLogger('inpars_tpu.sweep')

# Output -> its manifest's name of each input that a stage before it makes.
# In the order of the loop. What comes after training is nobody else's.
_STAGES = {
  'documents.jsonl': {},
  'queries': {'documents': 'documents.jsonl'},
  'filtered.jsonl': {'documents': 'documents.jsonl', 'queries': 'queries'},
  'index': {},
  'pairs': {'queries': 'filtered.jsonl', 'index': 'index'},
  'bm25.trec': {'index': 'index'},
  'reranked_base.trec': {'run': 'bm25.trec'},
}
_BESIDE = {'filtered.jsonl': filter.VALIDATION_NAME}


def borrow(
  folder: epath.Path, recipe: recipe_lib.Recipe, others: Iterable[epath.Path]
) -> list[str]:
  """Puts what others have made into a run's folder.

  Local files are linked, not copied: no stage changes one that is complete.

  Args:
    folder: of one dataset of the run.
    recipe: the run's.
    others: folders of runs of the same dataset, models and flags, with whatever
      gin.

  Returns:
    What was taken.
  """
  taken = []
  others = [other for other in others if other != folder and other.exists()]
  for name, inputs in _STAGES.items():
    if _is_begun(folder, name):
      continue
    for other in others:
      record = _record(other / name)
      if record and _is_same(record, recipe, folder, inputs):
        _take(other, folder, name)
        taken.append(name)
        break
  if taken:
    _log.info('%s: taken from other runs: %s', folder, ', '.join(taken))
  return taken


def _record(path: epath.Path):
  return manifest.read(path) if path.exists() else None


def _is_begun(folder: epath.Path, name: str) -> bool:
  """An output that is complete, or on which work would be lost.

  What was being taken when the sweep was killed is taken again.
  """
  path = folder / name
  if path.exists() and not path.is_dir():
    return _record(path) is not None
  marker = folder / f'{name}{_MARK}'
  if marker.exists():
    return False
  return path.exists() or (folder / f'{name}.parts').exists()


def _is_same(record, recipe, folder, inputs) -> bool:
  """Whether the run would make the same: its settings, from its own inputs."""
  settings = {
    name: value
    for name, value in record['settings'].items()
    if name in recipe_lib.MACROS
  }
  if recipe.only(*settings) != settings:
    return False
  for name, upstream in inputs.items():
    path = folder / upstream
    if _record(path) is None:
      return False
    theirs = record['inputs'].get(name, {}).get('sha256')
    if manifest.digest(path)['sha256'] != theirs:
      return False
  return True


_MARK = '.taking'


def _take(other: epath.Path, folder: epath.Path, name: str) -> None:
  """Links or copies an output, its manifest last."""
  source, target = other / name, folder / name
  folder.mkdir(parents=True, exist_ok=True)
  if not source.is_dir():
    if name in _BESIDE and (other / _BESIDE[name]).exists():
      _link(other / _BESIDE[name], folder / _BESIDE[name])
    _link(source, target)
    _link(
      manifest.manifest_path(source, False),
      manifest.manifest_path(target, False),
    )
    return
  marker = folder / f'{name}{_MARK}'
  marker.write_text('')
  _link_folder(source, target)
  _link(source / manifest.COMPLETE_NAME, target / manifest.COMPLETE_NAME)
  marker.unlink()


def _link_folder(source: epath.Path, target: epath.Path) -> None:
  target.mkdir(parents=True, exist_ok=True)
  for entry in source.iterdir():
    if entry.is_dir():
      _link_folder(entry, target / entry.name)
    elif entry.name not in (manifest.COMPLETE_NAME, manifest.PARTIAL_NAME):
      _link(entry, target / entry.name)


def _link(source: epath.Path, target: epath.Path) -> None:
  if target.exists():
    target.unlink()
  try:
    os.link(source, target)
  except OSError:  # gs://, or another disk.
    source.copy(target)
