"""Tokenised prompts: what they share, and how they are padded and grouped.

Static shapes want few lengths and padding wants many; here is the choice.
numpy only: knows no network.

Axis letters: F prompts of a group, S padded tokens.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from inpars_tpu import prompts, tokenizer

# Own tokens are padded to one of a few lengths, multiples of 8 (a TPU's
# sublanes): each is a program to compile.
_MAX_BUCKETS = 8
_BUCKET_MULTIPLE = 8


@dataclasses.dataclass(frozen=True)
class Prompts:
  """Tokenised prompts of a list of documents."""

  texts: list[str]
  prefix: list[int]  # Tokens that all prompts that fit begin with.
  own: list[list[int] | None]  # What follows; None where it does not fit.
  buckets: list[int]  # Lengths that own tokens are padded to, ascending.
  num_cut: int  # Documents cut to max_document_tokens.

  @property
  def num_too_long(self) -> int:
    """Prompts that do not fit the context: their query stays empty."""
    return sum(own is None for own in self.own)


def build(
  tokens: tokenizer.GPT2Tokenizer,
  prompt: prompts.Prompt,
  documents: Sequence[str],
  *,
  max_document_tokens: int,
  max_prompt_tokens: int,
) -> Prompts:
  """Cuts documents, tokenises prompts, finds the tokens that all share.

  A prompt of more than `max_prompt_tokens` has no own tokens, and plays no
  part in the prefix.
  """
  cut = [tokens.cut(text, max_document_tokens) for text in documents]
  texts = [prompt.build(text) for text in cut]
  ids = tokens.encode(texts)
  fitting = [row for row in ids if len(row) <= max_prompt_tokens]
  length = _shared_length(fitting)
  return Prompts(
    texts=texts,
    prefix=fitting[0][:length] if fitting else [],
    own=[row[length:] if len(row) <= max_prompt_tokens else None
         for row in ids],
    buckets=choose_buckets([len(row) - length for row in fitting]),
    num_cut=sum(a != b for a, b in zip(cut, documents, strict=True)),
  )  # fmt: skip


def _shared_length(prompts_tokens: Sequence[Sequence[int]]) -> int:
  """Length of the longest common prefix; leaves each prompt one own token."""
  if not prompts_tokens:
    return 0
  first, last = min(prompts_tokens), max(prompts_tokens)
  shortest = min(map(len, prompts_tokens))
  length = 0
  while length < shortest - 1 and first[length] == last[length]:
    length += 1
  return length


def group(
  indices: Sequence[int], own: Sequence[list[int] | None], size: int
) -> list[list[int | None]]:
  """Prompts of like length, `size` at a time, longest first.

  None fills the last group up. group([0, 1, 2], [[5], [5, 6], [5]], 2) ->
  [[1, 0], [2, None]]
  """
  order = sorted(indices, key=lambda i: (-len(own[i]), i))
  groups: list[list[int | None]] = [
    list(order[start : start + size]) for start in range(0, len(order), size)
  ]
  if groups:
    groups[-1] += [None] * (size - len(groups[-1]))
  return groups


def choose_buckets(
  lengths: Sequence[int], max_buckets: int = _MAX_BUCKETS
) -> list[int]:
  """The padded lengths, ascending, that waste the fewest tokens in all.

  Dynamic programming over the lengths that are there, rounded up to a
  multiple of 8. choose_buckets([3, 9, 10, 30], 2) -> [16, 32]

  Args:
    lengths: tokens of each prompt.
    max_buckets: how many padded lengths there may be.
  """
  rounded = -(-np.asarray(lengths, int) // _BUCKET_MULTIPLE) * _BUCKET_MULTIPLE
  sizes, counts = np.unique(rounded, return_counts=True)
  below = np.concatenate([[0], np.cumsum(counts)])  # Prompts of a shorter size.
  # best[j]: (padded tokens, buckets) of all prompts up to size j.
  best = [(int(below[j + 1] * size), [int(size)]) for j, size in
          enumerate(sizes)]  # fmt: skip
  for _ in range(max_buckets - 1):
    best = [
      min(
        [best[j]]
        + [
          (
            best[i][0] + int((below[j + 1] - below[i + 1]) * sizes[j]),
            [*best[i][1], int(sizes[j])],
          )
          for i in range(j)
        ]
      )
      for j in range(len(sizes))
    ]
  return best[-1][1] if best else []


def pad(
  prompts: Sequence[list[int] | None], buckets: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
  """Token lists -> [F, S] int32, 0 on the right, and lengths [F] int32."""
  longest = max(len(ids) for ids in prompts if ids is not None)
  num_tokens = next(size for size in buckets if size >= longest)
  tokens = np.zeros((len(prompts), num_tokens), np.int32)
  lengths = np.ones(len(prompts), np.int32)
  for row, ids in enumerate(prompts):
    if ids is not None:
      tokens[row, : len(ids)] = ids
      lengths[row] = len(ids)
  return tokens, lengths
