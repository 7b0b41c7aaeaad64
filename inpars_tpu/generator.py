"""The query generator: prompts in, GPT-J, one query for each document out.

The network and the decoding loop are in gptj/; here are text and batches.
Knows no files but the model's.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from inpars_tpu import (
  device,
  files,
  model_dir,
  prompt_tokens,
  prompts,
  tokenizer,
)
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import convert, decode, model

# Rows are filled anew when so large a part of the batch is free.
_FILLS_PER_BATCH = 4


@dataclasses.dataclass(frozen=True)
class Query:
  """What the generator wrote for one document."""

  text: str  # Up to the first newline, stripped; '' where nothing was written.
  log_probs: list[float]  # Natural log of each token, the stop token left out.
  is_finished: bool  # A newline came before max_new_tokens ran out.


NO_QUERY = Query('', [], True)  # Of a prompt that does not fit.


class GPTJ:
  """A generator: GPT-J with its tokenizer."""

  def __init__(self, directory: files.PathLike, dtype: str = 'bfloat16'):
    """Loads a Hugging Face directory; see `load`."""
    self.tokenizer, _ = check(directory)
    self.dtype = dtype
    self.config, self._params = convert.load(directory, jnp.dtype(dtype))
    is_stop = np.zeros(self.config.vocab_size, bool)
    is_stop[self.tokenizer.ids_with_newline()] = True
    self._is_stop = jnp.asarray(is_stop)

  @classmethod
  def load(cls, directory: files.PathLike, dtype: str = 'bfloat16') -> 'GPTJ':
    """Loads a Hugging Face directory of a GPT-J.

    Raises:
      InputError: no such directory, another architecture, tensors that do not
        fit config.json, a tokenizer that does not fit the embedding.
    """
    return cls(directory, dtype)

  def generate(
    self,
    documents: Sequence[str],
    *,
    prompt: str = 'gbq',
    max_document_tokens: int = 256,
    max_new_tokens: int = 64,
    batch_size: int | None = None,
    data_dir: files.PathLike = 'data',
  ) -> list[Query]:
    """Writes one query for each document, greedily.

    Args:
      documents: texts.
      prompt: as `prompts.load` takes it.
      max_document_tokens: longer documents are cut there.
      max_new_tokens: a query that has not ended by then is cut.
      batch_size: rows decoded together; None fits them to the memory.
      data_dir: where downloaded prompts are.
    """
    built = self.build_prompts(
      documents,
      prompts.load(prompt, data_dir),
      max_document_tokens=max_document_tokens,
      max_new_tokens=max_new_tokens,
    )
    prefix = self.read_prefix(built)
    queries = [NO_QUERY] * len(documents)
    for index, query in self.write_queries(
      built,
      prefix,
      range(len(documents)),
      max_new_tokens=max_new_tokens,
      batch_size=batch_size,
    ):
      queries[index] = query
    return queries

  def build_prompts(
    self,
    documents: Sequence[str],
    prompt: prompts.Prompt,
    *,
    max_document_tokens: int,
    max_new_tokens: int,
  ) -> prompt_tokens.Prompts:
    """Cuts and tokenises documents; see `prompt_tokens.build`."""
    return prompt_tokens.build(
      self.tokenizer,
      prompt,
      documents,
      max_document_tokens=max_document_tokens,
      max_prompt_tokens=self.config.max_positions - max_new_tokens,
    )

  def read_prefix(self, built: prompt_tokens.Prompts) -> model.Prefix:
    """Keys and values of the shared prefix: computed once for all rows."""
    tokens = jnp.asarray(built.prefix, jnp.int32)
    return _read_prefix(self._params, self.config, tokens)

  def write_queries(
    self,
    built: prompt_tokens.Prompts,
    prefix: model.Prefix,
    chosen: Sequence[int],
    *,
    max_new_tokens: int,
    batch_size: int | None = None,
  ) -> Iterator[tuple[int, Query]]:
    """Yields (index, query) of the chosen prompts that fit, as they end.

    Rows whose query has ended get new prompts while the others go on. What is
    decoded together depends on the arguments alone.

    Args:
      built: from `build_prompts`.
      prefix: from `read_prefix`.
      chosen: indices of prompts.
      max_new_tokens: a query that has not ended by then is cut.
      batch_size: rows decoded together; None fits them to the memory.
    """
    num_prompt_slots = built.buckets[-1] if built.buckets else 0
    num_rows = batch_size or self._fit(num_prompt_slots + max_new_tokens)
    fitting = [i for i in chosen if built.own[i] is not None]
    num_filled = max(1, num_rows // _FILLS_PER_BATCH)
    groups = collections.deque(
      prompt_tokens.group(fitting, built.own, num_filled)
    )
    rows = decode.empty_rows(num_rows, max_new_tokens)
    cache = model.empty_cache(
      self._params, self.config, num_rows, num_prompt_slots + max_new_tokens
    )
    holds: dict[int, int] = {}  # Row -> index of its prompt.
    while groups or holds:
      free = [row for row in range(num_rows) if row not in holds]
      while groups and len(free) >= len(groups[0]):
        group = groups.popleft()
        places, free = free[: len(group)], free[len(group) :]
        rows, cache = self._fill(prefix, built, group, places, rows, cache)
        holds |= {
          row: index
          for row, index in zip(places, group, strict=True)
          if index is not None
        }
      rows, cache = _advance(
        self._params,
        self.config,
        prefix,
        rows,
        cache,
        is_stop=self._is_stop,
        num_prompt_slots=num_prompt_slots,
        min_done=np.int32(len(groups[0]) if groups else num_rows),
      )
      seen = jax.device_get(rows)
      for row in [row for row in holds if seen.is_done[row]]:
        yield holds.pop(row), self._to_query(seen, row)

  def _fill(self, prefix, built, group, places, rows, cache):
    """Puts a group of prompts into rows that are free."""
    tokens, lengths = prompt_tokens.pad(
      [None if index is None else built.own[index] for index in group],
      built.buckets,
    )
    return _fill(
      self._params,
      self.config,
      prefix,
      tokens,
      lengths,
      np.array(places, np.int32),
      rows,
      cache,
      is_stop=self._is_stop,
      is_filler=np.array([index is None for index in group]),
    )

  def _fit(self, num_slots: int) -> int:
    """Rows whose cache and logits fit the memory."""
    position_bytes = (
      2 * self.config.model_dim * self.config.num_layers
    ) * jnp.dtype(self.dtype).itemsize
    return device.fit_rows(
      num_slots * position_bytes + 4 * self.config.vocab_size
    )

  def _to_query(self, rows: decode.Rows, row: int) -> Query:
    num_tokens = int(rows.num_tokens[row])
    has_stopped = bool(rows.has_stopped[row])
    text = self.tokenizer.decode(rows.tokens[row, :num_tokens].tolist())
    log_probs = rows.log_probs[row, : num_tokens - has_stopped]
    return Query(
      text=text.partition('\n')[0].strip(),
      log_probs=[float(f'{value:.6g}') for value in log_probs],
      is_finished=has_stopped,
    )


def check(
  directory: files.PathLike,
) -> tuple[tokenizer.GPT2Tokenizer, config_lib.GPTJConfig]:
  """Checks a generator's directory without reading a weight.

  Returns:
    Its tokenizer, its config.

  Raises:
    InputError: as `GPTJ.load`.
  """
  config = convert.check(directory)
  tokens = tokenizer.GPT2Tokenizer(directory)
  model_dir.check_vocabulary(directory, tokens.num_tokens, config.vocab_size)
  return tokens, config


@functools.partial(jax.jit, static_argnames='config')
def _read_prefix(params, config, tokens):
  return model.prefill_prefix(params, config, tokens)


@functools.partial(
  jax.jit, static_argnames='config', donate_argnames=('rows', 'cache')
)
def _fill(
  params, config, prefix, tokens, lengths, places, rows, cache, *,
  is_stop, is_filler,
):  # fmt: skip
  """Prefill of a group: a program for each padded length."""
  logits, own = model.prefill(params, config, prefix, tokens, lengths)
  rows = decode.fill(
    rows, places, logits, lengths, is_stop=is_stop, is_filler=is_filler
  )
  return rows, model.put_rows(cache, own, places)


@functools.partial(
  jax.jit,
  static_argnames=('config', 'num_prompt_slots'),
  donate_argnames=('rows', 'cache'),
)
def _advance(
  params, config, prefix, rows, cache, *, is_stop, num_prompt_slots, min_done
):
  """Decoding of all rows, until some are free: one program."""

  def step(tokens, positions, slot, is_visible, cache):
    return model.decode_step(
      params, config, prefix, tokens, positions, slot, is_visible, cache
    )

  return decode.advance(
    step,
    rows,
    cache,
    is_stop=is_stop,
    num_prompt_slots=num_prompt_slots,
    min_done=min_done,
  )
