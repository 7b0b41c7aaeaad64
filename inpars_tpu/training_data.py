"""Pairs on disk to training examples in memory, through their seqio task."""

import collections
import os
from collections.abc import Iterator

import numpy as np
import tqdm

from inpars_tpu import batches, errors, files, monot5, pairs, stores, tasks

TRAIN, VALIDATION = 'train', 'validation'


def read(
  data_dir: files.PathLike,
  split: str,
  *,
  vocabulary_file: files.PathLike,
  spec: monot5.RerankerSpec,
  max_input_tokens: int,
  has_lists: bool = False,
) -> tuple[batches.Examples, dict[str, int]]:
  """Reads one split of the pairs in a data directory, in the order on disk.

  Args:
    data_dir: holds one set of pairs.
    split: 'train' or 'validation'.
    vocabulary_file: the model's spiece.model.
    spec: input text and label words of the model.
    max_input_tokens: longer inputs are cut as monot5.build_inputs does.
    has_lists: each group must be a positive and its negatives.

  Returns:
    The examples, and {'pairs': ., 'positive': ., 'negative': .,
    'documents cut': ., 'queries cut': .}; if has_lists, 'lists' too.

  Raises:
    InputError: no pairs or several sets of them, no such split, or one that
      has not both positives and negatives, or not in every group that is to
      be a list.
  """
  name = pairs.find(data_dir)
  tasks.vocabulary(stores.local(vocabulary_file))
  task = tasks.register(name.removeprefix(pairs.PREFIX), spec)
  local = os.fspath(stores.local(data_dir))
  task.source.tfds_dataset.override_data_dir(local)
  return read_task(task, split, max_input_tokens, has_lists)


def read_task(
  task,
  split: str,
  max_input_tokens: int,
  has_lists: bool = False,
) -> tuple[batches.Examples, dict[str, int]]:
  """As `read`, of a seqio.Task whose pairs and vocabulary are known to it."""
  name, data_dir = task.name, task.source.tfds_dataset.data_dir
  if split not in task.source.splits:
    raise errors.InputError(
      f'{data_dir} has no split {split!r} of {name}, only '
      f'{", ".join(task.source.splits)}'
    )
  cut: collections.Counter[str] = collections.Counter()
  examples = batches.Examples.collect(
    _read_examples(task, split, max_input_tokens, cut)
  )
  counts = {
    'pairs': len(examples),
    'positive': examples.num_positives,
    'negative': len(examples) - examples.num_positives,
    monot5.DOCUMENTS_CUT: cut[monot5.DOCUMENTS_CUT],
    monot5.QUERIES_CUT: cut[monot5.QUERIES_CUT],
  }
  for kind in ('positive', 'negative'):
    if not counts[kind]:
      raise errors.InputError(
        f'{data_dir}: the split {split!r} of {name} has no {kind} pair among '
        f'its {len(examples)}; both are needed'
      )
  if has_lists:
    _check_lists(examples, f'{data_dir}: the split {split!r} of {name}')
    counts['lists'] = len(examples.lists)
  return examples, counts


def _check_lists(examples: batches.Examples, where: str) -> None:
  groups, members = np.unique(examples.groups, return_inverse=True)
  num_positives = np.bincount(members, examples.labels).astype(int)
  num_negatives = np.bincount(members) - num_positives
  is_wrong = (num_positives != 1) | (num_negatives == 0)
  if is_wrong.any():
    first = np.argmax(is_wrong)
    raise errors.InputError(
      f'{where}: {is_wrong.sum()} of {len(groups)} groups are not one positive '
      f'and its negatives, as a list is; group {groups[first]} has '
      f'{num_positives[first]} and {num_negatives[first]}'
    )


def _read_examples(
  task, split: str, max_input_tokens: int, cut: collections.Counter[str]
) -> Iterator[batches.Example]:
  dataset = task.get_dataset(
    sequence_length={'inputs': max_input_tokens, 'targets': 2},
    split=split,
    shuffle=False,  # Steps draw at random from all of them.
    try_in_mem_cache=False,
  )
  for example in tqdm.tqdm(
    dataset.as_numpy_iterator(),
    desc=f'read {split} pairs',
    total=task.num_input_examples(split),
    unit='pair',
  ):
    cut[monot5.DOCUMENTS_CUT] += int(example['is_document_cut'])
    cut[monot5.QUERIES_CUT] += int(example['is_query_cut'])
    yield batches.Example(
      inputs=example['inputs'],
      targets=example['targets'],
      label=int(example['label']),
      group=int(example['group']),
    )
