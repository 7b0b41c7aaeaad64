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
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import convert, decode, model, programs, sharding

# Rows are filled anew when so large a part of the batch is free: the smaller,
# the fewer rows wait; a CPU reads prompts fastest four by four.
_FILLS_PER_BATCH = {'cpu': 5}
_FILLS_PER_BATCH_ELSEWHERE = 8
# The first layer's table is worth its making where so many times the vocabulary
# are read, and its memory where it is no larger a part of a device's.
_MIN_TABLE_USES = 4
_MAX_TABLE_SHARE = 1 / 16
# Of a row, for the choice of a mesh: the method's 256 and 64 tokens.
_USUAL_SLOTS = 320


@dataclasses.dataclass(frozen=True)
class Query:
  """What the generator wrote for one document."""

  text: str  # Up to the first newline, stripped; '' where nothing was written.
  log_probs: list[float]  # Natural log of each token, the stop token left out.
  is_finished: bool  # A newline came before max_new_tokens ran out.


NO_QUERY = Query('', [], True)  # Of a prompt that does not fit.


class GPTJ:
  """A generator: GPT-J with its tokenizer."""

  def __init__(
    self,
    directory: files.PathLike,
    dtype: str = 'bfloat16',
    weights: str | None = None,
    mesh: str | None = None,
  ):
    """Loads a Hugging Face directory; see `load`."""
    self.tokenizer, self.config = check(directory)
    self.dtype = dtype
    self._weight_bytes = convert.num_bytes(
      self.config, jnp.dtype(dtype), weights
    )
    self._mesh = self._make_mesh(mesh)
    self._shape = mesh_lib.shape_of(self._mesh)
    self.config, self._params = convert.load(
      directory, jnp.dtype(dtype), weights=weights, mesh=self._mesh
    )
    is_stop = np.zeros(self.config.vocab_size, bool)
    is_stop[self.tokenizer.ids_with_newline()] = True
    self._is_stop = jnp.asarray(is_stop)

  @classmethod
  def load(
    cls,
    directory: files.PathLike,
    dtype: str = 'bfloat16',
    weights: str | None = None,
    mesh: str | None = None,
  ) -> 'GPTJ':
    """Loads a Hugging Face directory of a GPT-J onto this process's devices.

    Args:
      directory: of the model.
      dtype: of weights and activations.
      weights: 'int8': the layers' kernels are quantised as they are read.
      mesh: 'data=2,model=4': how many parts a batch and the weights are in;
        None: as few parts of the weights as fit the memory.

    Raises:
      InputError: no such directory, another architecture, tensors that do not
        fit config.json, a tokenizer that does not fit the embedding; a mesh
        that is not of all devices, or does not divide the heads.
    """
    return cls(directory, dtype, weights, mesh)

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
    if 'first' not in self._params and self._is_table_worth_it(built):
      table = programs.tabulate(self._params, self.config, self._mesh)
      self._params = self._params | {'first': table}
    tokens = jnp.asarray(built.prefix, jnp.int32)
    return programs.read_prefix(self._params, self.config, tokens, self._mesh)

  def _is_table_worth_it(self, built: prompt_tokens.Prompts) -> bool:
    """Whether to compute the first layer for each token of the vocabulary."""
    num_tokens = sum(len(own) for own in built.own if own is not None)
    row_bytes = 4 * self.config.model_dim * jnp.dtype(self.dtype).itemsize
    return (
      num_tokens >= _MIN_TABLE_USES * self.config.vocab_size
      and row_bytes * self.config.vocab_size
      <= _MAX_TABLE_SHARE * device.memory_bytes()
    )

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
      batch_size: rows decoded together, rounded up to a multiple of the mesh's
        data axis; None fits them to the memory.
    """
    num_prompt_slots = built.buckets[-1] if built.buckets else 0
    num_parts = self._shape.data  # Of the rows, each filled apart.
    num_rows = batch_size or self._fit(num_prompt_slots + max_new_tokens)
    part_rows = -(-num_rows // num_parts)
    num_rows = part_rows * num_parts
    fitting = [i for i in chosen if built.own[i] is not None]
    num_new = num_filled(part_rows, jax.default_backend())
    groups = collections.deque(
      prompt_tokens.group(fitting, built.own, num_new * num_parts)
    )
    rows, cache = self._begin(
      num_rows, num_prompt_slots + max_new_tokens, max_new_tokens
    )
    holds: dict[int, int] = {}  # Row -> index of its prompt.
    while groups or holds:
      free = [
        [row for row in range(start, start + part_rows) if row not in holds]
        for start in range(0, num_rows, part_rows)
      ]
      while groups and min(map(len, free)) >= num_new:
        group = groups.popleft()
        places = [row for part in free for row in part[:num_new]]
        free = [part[num_new:] for part in free]
        rows, cache = self._fill(prefix, built, group, places, rows, cache)
        holds |= {
          row: index
          for row, index in zip(places, group, strict=True)
          if index is not None
        }
      rows, cache = programs.advance(
        self._params,
        self.config,
        prefix,
        rows,
        cache,
        is_stop=self._is_stop,
        num_prompt_slots=num_prompt_slots,
        min_done=np.int32(num_new if groups else part_rows),
        mesh=self._mesh,
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
    return programs.fill(
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
      mesh=self._mesh,
    )

  def _begin(self, num_rows, num_slots, max_new_tokens):
    """Rows that have nothing to do, and their cache."""
    begin = functools.partial(
      programs.begin, config=self.config, mesh=self._mesh, num_rows=num_rows,
      num_slots=num_slots, max_new_tokens=max_new_tokens,
    )  # fmt: skip
    # Jitted, no device ever holds the whole of a cache that has parts.
    return (begin if self._mesh is None else jax.jit(begin))(self._params)

  def _make_mesh(self, text: str | None) -> sharding.Mesh:
    """The mesh that was asked for, or that fits; None for one device."""

    def fits(shape: mesh_lib.Shape) -> bool:
      return device.is_enough(self._fit_part(shape, _USUAL_SLOTS))

    num_devices = jax.local_device_count()
    shape = mesh_lib.resolve(
      text, num_devices, sharding.counts(self.config), fits
    )
    return mesh_lib.make(shape) if num_devices > 1 else None

  def _fit(self, num_slots: int) -> int:
    """Rows whose cache and logits fit the memory."""
    return self._shape.data * self._fit_part(self._shape, num_slots)

  def _fit_part(self, shape: mesh_lib.Shape, num_slots: int) -> int:
    """Rows of one part of a batch, on a mesh of this shape."""
    position_bytes = (
      2 * self.config.model_dim * self.config.num_layers
    ) * jnp.dtype(self.dtype).itemsize
    row_bytes = num_slots * position_bytes + 4 * self.config.vocab_size
    return device.fit_rows(
      row_bytes / shape.model, self._weight_bytes / shape.model
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


def num_filled(num_rows: int, backend: str) -> int:
  """How many rows of a part of a batch are filled anew at once."""
  fills = _FILLS_PER_BATCH.get(backend, _FILLS_PER_BATCH_ELSEWHERE)
  return max(1, num_rows // fills)


def check(
  directory: files.PathLike, mesh: str | None = None
) -> tuple[tokenizer.GPT2Tokenizer, config_lib.GPTJConfig]:
  """Checks a generator's directory, and a mesh, without reading a weight.

  Returns:
    Its tokenizer, its config.

  Raises:
    InputError: as `GPTJ.load`.
  """
  config = convert.check(directory)
  if mesh is not None:
    shape = mesh_lib.parse(mesh, jax.local_device_count())
    mesh_lib.check(shape, sharding.counts(config))
  tokens = tokenizer.GPT2Tokenizer(directory)
  model_dir.check_vocabulary(directory, tokens.num_tokens, config.vocab_size)
  return tokens, config
