"""Training examples in memory, and which of them make a step's batch.

Knows no file and no device. What a step reads is a function of the seed and
the step alone, so that a resumed run reads what the other would have read.

Axes: N examples, B batch, S input tokens, T target tokens.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

PAD_ID = 0
_POSITIVE, _NEGATIVE = 1, 0
# Lengths that a microbatch is padded to, a compiled program each; at
# SciFact's lengths a finer table saves less than its programs cost.
_BUCKET_TOKENS = (64, 128, 192, 256, 384, 512, 768, 1_024)


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

  @property
  def num_positives(self) -> int:
    """How many have the label 1."""
    return int((self.labels == _POSITIVE).sum())


class Microbatch(NamedTuple):
  """Rows of one static shape; filler rows are all zeros."""

  inputs: np.ndarray  # [B, S] int32, 0 where padded.
  targets: np.ndarray  # [B, T] int32
  labels: np.ndarray  # [B] int32


def draw(
  examples: Examples, *, seed: int, step: int, batch_size: int
) -> np.ndarray:
  """Chooses the examples of one step: half positive, half negative.

  Each class is read in an order of its own, drawn anew for each epoch, so that
  none comes again before all have come.

  Args:
    examples: with both labels.
    seed: of all draws.
    step: from 1.
    batch_size: B, even.

  Returns:
    [B] int64 indices, positives first.
  """
  half = batch_size // 2
  chosen = []
  for label in (_POSITIVE, _NEGATIVE):
    members = np.flatnonzero(examples.labels == label)
    places = np.arange((step - 1) * half, step * half)
    epochs, offsets = np.divmod(places, len(members))
    order = np.concatenate(
      [
        _order(len(members), seed, label, epoch)[offsets[epochs == epoch]]
        for epoch in range(epochs[0], epochs[-1] + 1)
      ]
    )
    chosen.append(members[order])
  return np.concatenate(chosen)


def bucket_lengths(max_tokens: int, is_grouped: bool = True) -> list[int]:
  """Lengths that inputs are padded to, shortest first; the last is the limit.

  300 -> [64, 128, 192, 256, 300]; not grouped: [300]
  """
  shorter = [n for n in _BUCKET_TOKENS if n < max_tokens]
  return [*(shorter if is_grouped else []), max_tokens]


def split(
  examples: Examples,
  chosen: np.ndarray,
  *,
  lengths: Sequence[int],
  microbatch_tokens: int,
) -> Iterator[Microbatch]:
  """Groups a batch by length into microbatches of few static shapes.

  The longest rows come first, padded to the shortest of `lengths` that holds
  them; shorter ones fill the rest of their microbatch, so that filler rows are
  only in the last.

  Args:
    examples: of the whole split.
    chosen: [B] indices of the batch.
    lengths: as `bucket_lengths` gives them.
    microbatch_tokens: budget of input tokens, padding counted; a row longer
      than it is a microbatch of its own.
  """
  by_length = iter(chosen[np.argsort(-examples.lengths[chosen], kind='stable')])
  for index in by_length:
    num_tokens = min(n for n in lengths if n >= examples.lengths[index])
    num_rows = min(max(microbatch_tokens // num_tokens, 1), len(chosen))
    rows = [index, *itertools.islice(by_length, num_rows - 1)]
    inputs = np.full((num_rows, num_tokens), PAD_ID, np.int32)
    targets = np.full((num_rows, examples.targets.shape[1]), PAD_ID, np.int32)
    labels = np.zeros(num_rows, np.int32)
    for row, example in enumerate(rows):
      tokens = examples.inputs(example)
      inputs[row, : len(tokens)] = tokens
    targets[: len(rows)] = examples.targets[rows]
    labels[: len(rows)] = examples.labels[rows]
    yield Microbatch(inputs, targets, labels)


@functools.lru_cache(maxsize=4)
def _order(num: int, seed: int, label: int, epoch: int) -> np.ndarray:
  """[num] int64. RandomState: its stream is the same in every numpy."""
  bits = np.random.SeedSequence([seed, label, epoch]).generate_state(8)
  return np.random.RandomState(bits).permutation(num)
