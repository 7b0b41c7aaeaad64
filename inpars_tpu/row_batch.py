"""Rows that are decoded together, and the prompt that each of them holds.

Knows no text and no files, and not when rows are filled: that is row_decoder's.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from inpars_tpu import mesh as mesh_lib
from inpars_tpu import prompt_tokens
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import decode, model, programs, sharding


class Loaded(NamedTuple):
  """A GPT-J on the device."""

  config: config_lib.GPTJConfig
  params: model.Params  # From `convert.load`.
  mesh: sharding.Mesh  # That they lie on.
  is_stop: jax.Array  # [V] bool, tokens that end a row.


class Shared(NamedTuple):
  """What all prompts share, on the device."""

  prefix: model.Prefix
  table: model.Table | None  # Of the first layer, where it is worth it.
  is_whole: bool  # The table: it knows the tokens that will be written, too.


class Ended(NamedTuple):
  """A row that has ended: what was written after one prompt."""

  index: int  # Of the prompt.
  tokens: np.ndarray  # [n] int32, a stop token the last, where there is one.
  log_probs: np.ndarray  # [n] float32, natural log.
  has_stopped: bool  # A stop token came before there was no more room.


class RowBatch:
  """Rows on the device, in equal parts: one for each of the mesh's data axis.

  Attributes:
    part_rows: rows of a part.
    num_row_steps: decoding steps so far, each times its rows: as many tokens
      would have been written, had no row ever waited.
  """

  def __init__(
    self,
    loaded: Loaded,
    built: prompt_tokens.Prompts,
    shared: Shared,
    *,
    part_rows: int,
    max_new_tokens: int,
  ):
    """Rows that hold nothing.

    Args:
      loaded: what decodes them.
      built: prompts; of them own tokens and buckets.
      shared: of these prompts.
      part_rows: rows of a part.
      max_new_tokens: a row that has not ended by then is cut.
    """
    self.part_rows = part_rows
    self.num_row_steps = 0
    self._loaded, self._built, self._shared = loaded, built, shared
    self._num_parts = mesh_lib.shape_of(loaded.mesh).data
    self._rows, self._cache = programs.begin(
      loaded.params,
      config=loaded.config,
      mesh=loaded.mesh,
      num_rows=self._num_parts * part_rows,
      num_slots=num_prompt_slots(built) + max_new_tokens,
      max_new_tokens=max_new_tokens,
    )
    self._holds: dict[int, int] = {}  # Row -> index of its prompt.
    self._clock = 0

  def fill(self, group: Sequence[int | None]) -> None:
    """Reads prompts into rows that are free.

    Args:
      group: indices of as many prompts for each part; None: of no prompt.
    """
    num_new = len(group) // self._num_parts
    places = [row for part in self._free() for row in part[:num_new]]
    tokens, lengths = prompt_tokens.pad(
      [None if index is None else self._built.own[index] for index in group],
      self._built.buckets,
    )
    self._rows, self._cache = programs.fill(
      self._params(has_table=self._shared.table is not None),
      self._loaded.config,
      self._shared.prefix,
      tokens,
      lengths,
      np.array(places, np.int32),
      self._rows,
      self._cache,
      is_stop=self._loaded.is_stop,
      is_filler=np.array([index is None for index in group]),
      mesh=self._loaded.mesh,
    )
    self._holds |= {
      row: index
      for row, index in zip(places, group, strict=True)
      if index is not None
    }

  def advance(self, min_free: int) -> list[Ended]:
    """Decodes until so many rows of each part are free; returns what ended."""
    if min(map(len, self._free())) >= min_free:
      return []
    self._rows, self._cache = programs.advance(
      self._params(has_table=self._shared.is_whole),
      self._loaded.config,
      self._shared.prefix,
      self._rows,
      self._cache,
      is_stop=self._loaded.is_stop,
      num_prompt_slots=num_prompt_slots(self._built),
      min_done=np.int32(min_free),
      mesh=self._loaded.mesh,
    )
    seen = jax.device_get(self._rows)
    num_steps, self._clock = int(seen.clock) - self._clock, int(seen.clock)
    self.num_row_steps += num_steps * len(seen.is_done)
    done = [row for row in self._holds if seen.is_done[row]]
    return [_ended(self._holds.pop(row), seen, row) for row in done]

  def shrink(self, part_rows: int) -> None:
    """Takes rows that are free out; each part keeps so many in all."""
    kept = [
      row
      for part in self._parts()
      for row in sorted(part, key=lambda row: row not in self._holds)[
        :part_rows
      ]
    ]
    take = functools.partial(
      programs.take_rows,
      kept=np.array(kept, np.int32),
      mesh=self._loaded.mesh,
    )
    clock = self._rows.clock
    rows = take(self._rows._replace(clock=None), axes=('rows',))
    self._rows = rows._replace(clock=clock)
    # One layer after the other: there is no room for a cache and a half.
    for number, own in enumerate(self._cache):
      self._cache[number] = jax.block_until_ready(
        take(own, axes=sharding.CACHE)
      )
    self._holds = {
      place: self._holds[row]
      for place, row in enumerate(kept)
      if row in self._holds
    }
    self.part_rows = part_rows

  def _parts(self) -> list[range]:
    """The rows of each part."""
    num_rows = self._num_parts * self.part_rows
    return [
      range(start, start + self.part_rows)
      for start in range(0, num_rows, self.part_rows)
    ]

  def _free(self) -> list[list[int]]:
    """Of each part, the rows that hold no prompt."""
    return [
      [row for row in part if row not in self._holds] for part in self._parts()
    ]

  def _params(self, has_table: bool) -> model.Params:
    params = self._loaded.params
    return params | {'first': self._shared.table} if has_table else params


def num_prompt_slots(built: prompt_tokens.Prompts) -> int:
  """Cache slots for own tokens: the longest padded length."""
  return built.buckets[-1] if built.buckets else 0


def _ended(index: int, rows: decode.Rows, row: int) -> Ended:
  num_tokens = int(rows.num_tokens[row])
  return Ended(
    index,
    rows.tokens[row, :num_tokens],
    rows.log_probs[row, :num_tokens],
    bool(rows.has_stopped[row]),
  )
