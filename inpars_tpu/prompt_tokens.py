"""Tokenised prompts: what they share, and how they are padded and grouped.

Static shapes want few lengths and padding wants many; here is the choice.
numpy only: knows no network.

Axis letters: F prompts of a group, S padded tokens.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from inpars_tpu import errors, prompts, tokenizer

# Own tokens are padded to one of a few lengths, multiples of 8 (a TPU's
# sublanes): each is a program to compile.
_MAX_BUCKETS = 8
_BUCKET_MULTIPLE = 8

_CHUNK = 1_024  # Documents tokenised at once: 100 MB of what tokenizers keeps.


@dataclasses.dataclass(frozen=True)
class Prompts:
  """Tokenised prompts of a list of documents."""

  prefix: list[int]  # Tokens that all prompts that fit begin with.
  own: list[np.ndarray | None]  # [S] int32, what follows; None: does not fit.
  buckets: list[int]  # Lengths that own tokens are padded to, ascending.
  num_chars: list[int]  # Of each document that its prompt has.
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
  is_cancelled: Callable[[], bool] = lambda: False,
) -> Prompts:
  """Cuts documents, tokenises prompts, finds the tokens that all share.

  A prompt of more than `max_prompt_tokens` has no own tokens, and plays no
  part in the prefix.

  Args:
    tokens: the generator's tokenizer.
    prompt: the template.
    documents: texts.
    max_document_tokens: longer documents are cut there.
    max_prompt_tokens: what the context leaves for a prompt.
    is_cancelled: asked every second or so, where this is another thread.

  Raises:
    InputError: as `check_room`.
    CancelledError: `is_cancelled` said so.
  """
  check_room(tokens, prompt, max_prompt_tokens)
  # What no document can change is tokenised once.
  head, before = tokens.split(prompt.before)
  head_ids = tokens.encode([head])[0]
  rest = prompts.Prompt(before, prompt.after)
  num_chars: list[int] = []
  rows: list[np.ndarray | None] = []
  for start in range(0, len(documents), _CHUNK):
    if is_cancelled():
      raise concurrent.futures.CancelledError
    cut = tokens.cut(documents[start : start + _CHUNK], max_document_tokens)
    num_chars += map(len, cut)
    rows += [
      np.array(ids, np.int32)
      if len(head_ids) + len(ids) <= max_prompt_tokens
      else None
      for ids in tokens.encode([rest.build(text) for text in cut])
    ]
  fitting = [row for row in rows if row is not None]
  length = _shared_length(fitting)
  return Prompts(
    prefix=[*head_ids, *fitting[0][:length].tolist()] if fitting else [],
    own=[None if row is None else row[length:] for row in rows],
    buckets=choose_buckets([len(row) - length for row in fitting]),
    num_chars=num_chars,
    num_cut=sum(
      count < len(text)
      for count, text in zip(num_chars, documents, strict=True)
    ),
  )


def check_room(
  tokens: tokenizer.GPT2Tokenizer,
  prompt: prompts.Prompt,
  max_prompt_tokens: int,
) -> None:
  """Raises InputError where the prompt does not fit without any document."""
  num_tokens = len(tokens.encode([prompt.build('')])[0])
  if num_tokens > max_prompt_tokens:
    raise errors.InputError(
      f'the prompt has {num_tokens} tokens without any document; the context '
      f'of {tokens.directory} less MAX_NEW_TOKENS holds {max_prompt_tokens}'
    )


def _shared_length(rows: Sequence[np.ndarray]) -> int:
  """Length of the longest common prefix; leaves each prompt one own token."""
  if not rows:
    return 0
  length = min(map(len, rows)) - 1
  for row in rows:
    differs = np.flatnonzero(row[:length] != rows[0][:length])
    length = int(differs[0]) if len(differs) else length
  return length


def group(
  indices: Sequence[int], own: Sequence[Sequence[int] | None], size: int
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
  prompts: Sequence[Sequence[int] | None], buckets: Sequence[int]
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
