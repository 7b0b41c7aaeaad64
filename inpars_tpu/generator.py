"""The query generator: prompts in, GPT-J, one query for each document out.

Text alone: rows and batches are row_decoder's, the network is in gptj/. Knows
no files but the model's.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from inpars_tpu import (
  files,
  model_dir,
  prompt_tokens,
  prompts,
  row_batch,
  row_decoder,
  tokenizer,
)
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import convert, sharding


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
    self.dtype, kind = dtype, jnp.dtype(dtype)
    weight_bytes = convert.num_bytes(self.config, kind, weights)
    parts = row_decoder.make_mesh(mesh, self.config, kind, weight_bytes)
    self.config, params = convert.load(
      directory, kind, weights=weights, mesh=parts
    )
    is_stop = np.zeros(self.config.vocab_size, bool)
    is_stop[self.tokenizer.ids_with_newline()] = True
    self._decoder = row_decoder.RowDecoder(
      self.config,
      params,
      is_stop,
      dtype=kind,
      mesh=parts,
      weight_bytes=weight_bytes,
    )

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
    shared = self.read_shared(built)
    queries = [NO_QUERY] * len(documents)
    for index, query in self.write_queries(
      built,
      shared,
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

  def read_shared(self, built: prompt_tokens.Prompts) -> row_batch.Shared:
    """Computes once what all rows of these prompts read."""
    return self._decoder.read_shared(built)

  def write_queries(
    self,
    built: prompt_tokens.Prompts,
    shared: row_batch.Shared,
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
      shared: from `read_shared`, given the same prompts.
      chosen: indices of prompts.
      max_new_tokens: a query that has not ended by then is cut.
      batch_size: rows decoded together, rounded up to a multiple of the mesh's
        data axis; None fits them to the memory.
    """
    for ended in self._decoder.decode(
      built,
      shared,
      chosen,
      max_new_tokens=max_new_tokens,
      batch_size=batch_size,
    ):
      yield ended.index, self._to_query(ended)

  def _to_query(self, ended: row_batch.Ended) -> Query:
    text = self.tokenizer.decode(ended.tokens.tolist())
    log_probs = ended.log_probs[: len(ended.tokens) - ended.has_stopped]
    return Query(
      text=text.partition('\n')[0].strip(),
      log_probs=[float(f'{value:.6g}') for value in log_probs],
      is_finished=ended.has_stopped,
    )


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
