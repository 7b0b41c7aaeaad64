"""Training examples in memory, and which of them make a step's batch.

Knows no file and no device. What a step reads is a function of the seed and
the step alone, so that a resumed run reads what the other would have read.

Axes: N examples, B batch, S input tokens, T target tokens, G lists (groups),
L examples of a list.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

PAD_ID = 0
NO_EXAMPLE = -1  # Where a list is shorter than the longest.
_POSITIVE, _NEGATIVE = 1, 0
_LIST = 2  # Seeds the order of lists, as 1 and 0 do those of the classes.
# Lengths that a microbatch is padded to, a compiled program each.
_BUCKET_TOKENS = (64, 128, 192, 256, 384, 512, 768, 1_024)
# Where programs are cheap: of SciFact's pairs in batches of 8 / 128 padding is
# 14 / 8% then, for 13 / 19 programs, and not 39 / 19% for 4 / 5.
_FINE_BUCKET_TOKENS = (*range(32, 256, 32), *range(256, 1_025, 64))
# What a microbatch costs beside its tokens: gradients of the embedding and of
# the head, added to their sums. As tokens, of T5 of 16M and 60M on a CPU.
_MICROBATCH_COST = 60


class Example(NamedTuple):
  """One tokenised pair, ends of text included."""

  inputs: np.ndarray  # [S] int32
  targets: np.ndarray  # [T] int32: the label word and </s>.
  label: int  # 1 or 0.
  group: int  # A positive and its negatives share one.


@dataclasses.dataclass(frozen=True)
class Examples:
  """All examples of one split; inputs lie end to end in one array."""

  tokens: np.ndarray  # int32, of all inputs.
  ends: np.ndarray  # [N] int64, where each example's inputs end.
  targets: np.ndarray  # [N, T] int32
  labels: np.ndarray  # [N] int32, 1 or 0.
  groups: np.ndarray  # [N] int64

  @classmethod
  def collect(cls, examples: Iterable[Example]) -> 'Examples':
    """Joins examples; all targets are equally long."""
    examples = list(examples)
    inputs = [example.inputs for example in examples]
    return cls(
      tokens=np.concatenate(inputs or [np.zeros(0)]).astype(np.int32),
      ends=np.cumsum([len(tokens) for tokens in inputs], dtype=np.int64),
      targets=np.array([e.targets for e in examples], np.int32),
      labels=np.array([e.label for e in examples], np.int32),
      groups=np.array([e.group for e in examples], np.int64),
    )

  def __len__(self) -> int:
    return len(self.labels)

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    """[N] int64, input tokens of each example."""
    return np.diff(self.ends, prepend=0)

  def inputs(self, index: int) -> np.ndarray:
    """[S] int32, the input tokens of one example."""
    end = self.ends[index]
    return self.tokens[end - self.lengths[index] : end]

  @functools.cached_property
  def lists(self) -> np.ndarray:
    """[G, L] int64, the examples of each group, positives first.

    In the order of the groups' numbers; NO_EXAMPLE ends those that are shorter
    than the longest.
    """
    order = np.lexsort((-self.labels, self.groups))
    _, starts, places, counts = np.unique(
      self.groups[order],
      return_index=True,
      return_inverse=True,
      return_counts=True,
    )
    lists = np.full((len(counts), counts.max(initial=0)), NO_EXAMPLE)
    lists[places, np.arange(len(self)) - starts[places]] = order
    return lists

  @property
  def num_positives(self) -> int:
    """How many have the label 1."""
    return int((self.labels == _POSITIVE).sum())


class Microbatch(NamedTuple):
  """Rows of one static shape; filler rows are all zeros.

  The rows of a list lie together, L of them, its positive first.
  """

  inputs: np.ndarray  # [B, S] int32, 0 where padded.
  targets: np.ndarray  # [B, T] int32
  labels: np.ndarray  # [B] int32


def draw(
  examples: Examples,
  *,
  seed: int,
  step: int,
  batch_size: int,
  list_size: int = 1,
) -> np.ndarray:
  """Chooses the examples of one step: half positive, half negative; or lists.

  Each class, or all the lists, are read in an order of their own, drawn anew
  for each epoch, so that none comes again before all have come.

  Args:
    examples: with both labels.
    seed: of all draws.
    step: from 1.
    batch_size: B, even, and a multiple of `list_size`.
    list_size: above 1, L of the lists, which are drawn whole; none of
      `examples.lists` may be longer.

  Returns:
    [B] int64 indices, positives first; or rows of `examples.lists`, [B / L, L],
    with NO_EXAMPLE where they are shorter.
  """
  if list_size > 1:
    num = batch_size // list_size
    lists = examples.lists
    chosen = lists[_draw(len(lists), seed, _LIST, step, num)]
    num_missing = list_size - lists.shape[1]
    return np.pad(
      chosen, ((0, 0), (0, num_missing)), constant_values=NO_EXAMPLE
    )
  chosen = []
  for label in (_POSITIVE, _NEGATIVE):
    members = np.flatnonzero(examples.labels == label)
    places = _draw(len(members), seed, label, step, batch_size // 2)
    chosen.append(members[places])
  return np.concatenate(chosen)


def bucket_lengths(
  max_tokens: int, is_grouped: bool = True, is_fine: bool = False
) -> list[int]:
  """Lengths that inputs are padded to, shortest first; the last is the limit.

  300 -> [64, 128, 192, 256, 300]; fine: [32, 64, ..., 256, 300]; not grouped:
  [300]
  """
  table = _FINE_BUCKET_TOKENS if is_fine else _BUCKET_TOKENS
  shorter = [n for n in table if n < max_tokens]
  return [*(shorter if is_grouped else []), max_tokens]


def by_length(examples: Examples, chosen: np.ndarray) -> np.ndarray:
  """Rows or lists with the longest example first; equal ones in their order.

  `chosen` is [B] or [G, L], as `draw` gives it.
  """
  lengths = np.where(chosen == NO_EXAMPLE, 0, examples.lengths[chosen])
  longest = lengths if chosen.ndim == 1 else lengths.max(axis=1)
  return chosen[np.argsort(-longest, kind='stable')]


def split(
  examples: Examples,
  chosen: np.ndarray,
  *,
  lengths: Sequence[int],
  microbatch_tokens: int,
  num_parts: int = 1,
  is_fine: bool = False,
) -> Iterator[Microbatch]:
  """Groups a batch by length into microbatches of few static shapes.

  The longest rows, or lists, come first, padded to the shortest of `lengths`
  that holds them; shorter ones fill the rest of their microbatch, so that
  filler is only in the last, and at the end of lists.

  Args:
    examples: of the whole split.
    chosen: [B] indices of the batch, or [G, L], lists that stay together.
    lengths: as `bucket_lengths` gives them.
    microbatch_tokens: budget of input tokens, padding counted; a row, or a
      list, longer than it is a microbatch of its own.
    num_parts: the number of rows, or lists, of a microbatch is a multiple.
    is_fine: a microbatch may have half as many rows as the budget allows,
      where that spares padding.
  """
  list_size = 1 if chosen.ndim == 1 else chosen.shape[1]
  ordered = by_length(examples, chosen)
  tokens = np.where(ordered == NO_EXAMPLE, 0, examples.lengths[ordered])
  longest = tokens.reshape(len(ordered), -1).max(axis=1, initial=0)
  padded = np.array(lengths)[np.searchsorted(lengths, longest)]
  most = -(-len(chosen) // num_parts)

  def sizes(num_tokens: int) -> list[int]:
    budget = microbatch_tokens // (num_tokens * list_size * num_parts)
    full = min(max(budget, 1), most)
    return [num_parts * n for n in {full, -(-full // 2) if is_fine else full}]

  done = 0
  for size in _cheapest(padded.tolist(), sizes):
    rows = ordered[done : done + size].reshape(-1)
    yield _fill(examples, rows, size * list_size, int(padded[done]))
    done += size


def _cheapest(
  padded: Sequence[int], sizes: Callable[[int], Iterable[int]]
) -> list[int]:
  """Sizes of microbatches that together compute the fewest tokens.

  Args:
    padded: tokens of each row, falling; a microbatch has those of its first.
    sizes: what a microbatch of so many tokens may have rows, filler too.
  """
  # Of the first n rows: the tokens, and the rows before their last microbatch
  # with its size.
  best = [(0, 0, 0)] + [(math.inf, 0, 0)] * len(padded)
  for start, num_tokens in enumerate(padded):
    for size in sizes(num_tokens):
      end = min(start + size, len(padded))
      cost = best[start][0] + size * num_tokens + _MICROBATCH_COST
      best[end] = min(best[end], (cost, start, size))
  found = []
  end = len(padded)
  while end:
    _, end, size = best[end]
    found.append(size)
  return found[::-1]


def _fill(
  examples: Examples, rows: np.ndarray, num_rows: int, num_tokens: int
) -> Microbatch:
  inputs = np.full((num_rows, num_tokens), PAD_ID, np.int32)
  targets = np.full((num_rows, examples.targets.shape[1]), PAD_ID, np.int32)
  labels = np.zeros(num_rows, np.int32)
  for row, example in enumerate(rows):
    if example != NO_EXAMPLE:
      tokens = examples.inputs(example)
      inputs[row, : len(tokens)] = tokens
      targets[row] = examples.targets[example]
      labels[row] = examples.labels[example]
  return Microbatch(inputs, targets, labels)


def _draw(
  num_members: int, seed: int, kind: int, step: int, num: int
) -> np.ndarray:
  """[num] int64, which of the members step number `step` reads."""
  places = np.arange((step - 1) * num, step * num)
  epochs, offsets = np.divmod(places, num_members)
  return np.concatenate(
    [
      _order(num_members, seed, kind, epoch)[offsets[epochs == epoch]]
      for epoch in range(epochs[0], epochs[-1] + 1)
    ]
  )


@functools.lru_cache(maxsize=4)
def _order(num: int, seed: int, kind: int, epoch: int) -> np.ndarray:
  """[num] int64. RandomState: its stream is the same in every numpy."""
  bits = np.random.SeedSequence([seed, kind, epoch]).generate_state(8)
  return np.random.RandomState(bits).permutation(num)
