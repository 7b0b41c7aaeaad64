"""The query generator: prompts in, GPT-J, one query for each document out.

The network and the decoding loop are in gptj/; here are text and batches.
Knows no files but the model's.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from inpars_tpu import device, files, model_dir, prompts, tokenizer
from inpars_tpu.gptj import convert, decode, model

# Own prompts are padded to a multiple of this: a compiled program for each.
_BUCKET_TOKENS = 64


@dataclasses.dataclass(frozen=True)
class Query:
  """What the generator wrote for one document."""

  text: str  # Up to the first newline, stripped; '' where nothing was written.
  log_probs: list[float]  # Natural log of each token, the stop token left out.
  is_finished: bool  # A newline came before max_new_tokens ran out.


@dataclasses.dataclass(frozen=True)
class Prompts:
  """Tokenised prompts of a list of documents."""

  texts: list[str]
  prefix: list[int]  # Tokens that all prompts that fit begin with.
  own: list[list[int] | None]  # What follows; None where it does not fit.
  num_cut: int  # Documents cut to max_document_tokens.

  @property
  def num_too_long(self) -> int:
    """Prompts that do not fit the context: their query stays empty."""
    return sum(own is None for own in self.own)


class GPTJ:
  """A generator: GPT-J with its tokenizer."""

  def __init__(self, directory: files.PathLike, dtype: str = 'bfloat16'):
    """Loads a Hugging Face directory; see `load`."""
    self.tokenizer = check(directory)
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
    queries: list[Query] = [Query('', [], True)] * len(documents)
    for index, query in self.write_queries(
      prefix, built.own, max_new_tokens=max_new_tokens, batch_size=batch_size
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
  ) -> Prompts:
    """Cuts and tokenises; finds the tokens that all prompts share.

    A prompt that leaves no room for `max_new_tokens` is None, and plays no
    part in the prefix.
    """
    cut = [self.tokenizer.cut(d, max_document_tokens) for d in documents]
    texts = [prompt.build(text) for text in cut]
    tokens = self.tokenizer.encode(texts)
    room = self.config.max_positions - max_new_tokens
    fitting = [ids for ids in tokens if len(ids) <= room]
    length = _shared_length(fitting)
    return Prompts(
      texts=texts,
      prefix=fitting[0][:length] if fitting else [],
      own=[ids[length:] if len(ids) <= room else None for ids in tokens],
      num_cut=sum(a != b for a, b in zip(cut, documents, strict=True)),
    )

  def read_prefix(self, built: Prompts) -> model.Prefix:
    """Keys and values of the shared prefix: computed once for all rows."""
    tokens = jnp.asarray(built.prefix, jnp.int32)
    return _read_prefix(self._params, self.config, tokens)

  def write_queries(
    self,
    prefix: model.Prefix,
    own: Sequence[list[int] | None],
    *,
    max_new_tokens: int,
    batch_size: int | None = None,
  ) -> Iterator[tuple[int, Query]]:
    """Yields (index, query) of each prompt that fits, in batches by length."""
    for indices, num_tokens in _batches(own, self._fit(batch_size)):
      rows = [None if i is None else own[i] for i in indices]
      tokens, lengths = _pad(rows, num_tokens)
      is_filler = np.array([i is None for i in indices])
      out = _decode_batch(
        self._params,
        self.config,
        prefix,
        tokens,
        lengths,
        is_stop=self._is_stop,
        is_filler=is_filler,
        max_new_tokens=max_new_tokens,
      )
      out = jax.device_get(out)
      for row, index in enumerate(indices):
        if index is not None:
          yield index, self._to_query(out, row)

  def _fit(self, batch_size: int | None) -> int:
    if batch_size:
      return batch_size
    positions = 2 * self.config.model_dim * self.config.num_layers
    row_bytes = (
      positions
      * jnp.dtype(self.dtype).itemsize
      * self.config.max_positions
      // 4
      + 4 * self.config.vocab_size
    )
    return device.fit_rows(row_bytes)

  def _to_query(self, out: decode.Continuation, row: int) -> Query:
    num_tokens = int(out.num_tokens[row])
    is_done = bool(out.is_done[row])
    text = self.tokenizer.decode(out.tokens[row, :num_tokens].tolist())
    log_probs = out.log_probs[row, : num_tokens - is_done]
    return Query(
      text=text.partition('\n')[0].strip(),
      log_probs=[float(f'{value:.6g}') for value in log_probs],
      is_finished=is_done,
    )


def check(directory: files.PathLike) -> tokenizer.GPT2Tokenizer:
  """Checks a generator's directory without reading a weight.

  Raises:
    InputError: as `GPTJ.load`.
  """
  config = convert.check(directory)
  tokens = tokenizer.GPT2Tokenizer(directory)
  model_dir.check_vocabulary(directory, tokens.num_tokens, config.vocab_size)
  return tokens


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


def _batches(
  own: Sequence[list[int] | None], batch_size: int
) -> Iterator[tuple[list[int | None], int]]:
  """Yields (indices, padded length), longest first; None fills a batch up."""
  order = sorted(
    (i for i, ids in enumerate(own) if ids is not None),
    key=lambda i: (-len(own[i]), i),
  )
  for start in range(0, len(order), batch_size):
    indices: list[int | None] = list(order[start : start + batch_size])
    longest = len(own[indices[0]])
    num_tokens = -(-longest // _BUCKET_TOKENS) * _BUCKET_TOKENS
    yield indices + [None] * (batch_size - len(indices)), num_tokens


def _pad(rows, num_tokens: int) -> tuple[np.ndarray, np.ndarray]:
  """Token lists -> [B, S] int32, 0 on the right, and lengths [B] int32."""
  tokens = np.zeros((len(rows), num_tokens), np.int32)
  lengths = np.ones(len(rows), np.int32)
  for row, ids in enumerate(rows):
    if ids is not None:
      tokens[row, : len(ids)] = ids
      lengths[row] = len(ids)
  return tokens, lengths


@functools.partial(jax.jit, static_argnames='config')
def _read_prefix(params, config, tokens):
  return model.prefill_prefix(params, config, tokens)


@functools.partial(jax.jit, static_argnames=('config', 'max_new_tokens'))
def _decode_batch(
  params, config, prefix, tokens, lengths, *, is_stop, is_filler, max_new_tokens
) -> decode.Continuation:
  """Prefill and decoding of one batch: a program for each padded length."""
  num_tokens = tokens.shape[1]
  logits, cache = model.prefill(
    params, config, prefix, tokens, lengths, num_tokens + max_new_tokens
  )

  def step(last, step, cache):
    return model.decode_step(
      params, config, prefix, last, lengths, step, num_tokens, cache
    )

  return decode.greedy_decode(
    step,
    logits,
    cache,
    is_stop=is_stop,
    is_filler=is_filler,
    max_new_tokens=max_new_tokens,
  )
