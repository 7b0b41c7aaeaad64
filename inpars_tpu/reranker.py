"""The reranker: (query, document) pairs in, T5, one score for each pair out.

What it reads and says is monot5's, passages of long documents are passages',
the network is in t5/. Knows no files but the model's.
"""

import collections
from collections.abc import Callable, Sequence
from typing import NamedTuple

from inpars_tpu import errors, files, model_dir, monot5, passages
from inpars_tpu import tokenizer as tokenizer_lib

DOCUMENTS_SPLIT = 'documents in passages'  # Counted.


def check(
  directory: files.PathLike,
  label_words: str | None = None,
  mesh: str | None = None,
  *,
  becomes_rankt5: bool = False,
) -> tuple[monot5.RerankerSpec, tokenizer_lib.T5Tokenizer, list[int]]:
  """Checks all that can be checked without reading weights.

  Args:
    directory: of a model.
    label_words: as `monot5.read_spec` takes them.
    mesh: as `MonoT5.load` takes it.
    becomes_rankt5: what it reads and says is `monot5.rankt5_spec`, not
      `monot5.read_spec`.

  Returns:
    What it reads and says, its tokenizer, the label ids.

  Raises:
    InputError: as `monot5.read_spec` and `monot5.label_ids`; another
      architecture; tensors or a tokenizer that do not fit config.json; a mesh
      that is not of all devices, or does not divide the heads.
  """
  from inpars_tpu.t5 import convert, sharding  # jax: not for the text alone.

  config = convert.check(directory)
  if mesh is not None:
    sharding.check(config, mesh)
  spec = None if becomes_rankt5 else monot5.read_spec(directory, label_words)
  tokenizer = tokenizer_lib.T5Tokenizer(directory)
  spec = spec or monot5.rankt5_spec(directory, tokenizer)
  ids = monot5.label_ids(spec, tokenizer)
  num_tokens = max(tokenizer.num_tokens, *(i + 1 for i in ids))
  model_dir.check_vocabulary(directory, num_tokens, config.vocab_size)
  return spec, tokenizer, ids


class Ranked(NamedTuple):
  """A document of a list that was reranked."""

  index: int  # Its place in the list given, from 0.
  score: float  # log_prob_true, or the logit.


class MonoT5:
  """A reranker: T5 with its tokenizer, template and label words."""

  def __init__(self, spec, tokenizer, scorer, max_tokens, max_passages=1):
    """See `load`."""
    self.spec = spec
    self.max_passages = max_passages
    self.tokenizer = tokenizer
    self.max_tokens = max_tokens
    self._scorer = scorer

  @classmethod
  def load(
    cls,
    directory: files.PathLike,
    *,
    dtype: str = 'bfloat16',
    max_tokens: int = 512,
    batch_tokens: int | None = None,
    label_words: str | None = None,
    mesh: str | None = None,
    max_passages: int = 1,
  ) -> 'MonoT5':
    """Loads a Hugging Face directory of a T5 that was trained to rerank.

    Args:
      directory: config.json, tensors, tokenizer, and best a reranker.json.
      dtype: of activations and kernels: 'bfloat16' or 'float32'.
      max_tokens: inputs are cut to it; see `monot5.build_inputs`.
      batch_tokens: encoder tokens that are scored together; None: by device.
      label_words: 'false,true' for a directory without reranker.json.
      mesh: 'data=2,model=4': how many parts a batch and the weights are in;
        None: as few parts of the weights as fit the memory.
      max_passages: a document that is too long is scored in as many, and the
        best counts; 1: its end is cut.

    Raises:
      InputError: as `check`.
    """
    import jax.numpy as jnp

    from inpars_tpu.t5 import convert, score, tensors

    if dtype not in ('bfloat16', 'float32'):
      raise errors.unknown('dtype', dtype, ('bfloat16', 'float32'))
    spec, tokenizer, ids = check(directory, label_words, mesh)
    # Is there room for the template?
    monot5.build_inputs(spec, tokenizer, [''], [''], max_tokens)
    config = convert.check(directory)
    made = score.make_mesh(
      config,
      mesh,
      weight_bytes=tensors.num_bytes(config, jnp.dtype(dtype)),
      dtype=dtype,
      batch_tokens=batch_tokens,
    )
    config, params = convert.load(directory, jnp.dtype(dtype), made)
    scorer = score.Scorer(
      config,
      params,
      ids,
      dtype=dtype,
      max_tokens=max_tokens,
      batch_tokens=batch_tokens,
      mesh=made,
    )
    return cls(spec, tokenizer, scorer, max_tokens, max_passages)

  def score(self, query: str, documents: Sequence[str]) -> list[float]:
    """log_prob_true (or the logit) of each document for one query."""
    return self.score_pairs([(query, document) for document in documents])

  def rerank(self, query: str, documents: Sequence[str]) -> list[Ranked]:
    """The documents best first; ties stay in their order."""
    scores = self.score(query, documents)
    ranked = [Ranked(i, score) for i, score in enumerate(scores)]
    return sorted(ranked, key=lambda document: -document.score)

  def score_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """log_prob_true (or the logit) of each (query, document), in order."""
    inputs, counts = self.tokenise_passages(pairs)
    return passages.best(self.score_inputs(inputs), counts)

  def tokenise(
    self,
    pairs: Sequence[tuple[str, str]],
    counts: collections.Counter | None = None,
  ) -> list[list[int]]:
    """`monot5.build_inputs` of (query, document) pairs."""
    queries = [query for query, _ in pairs]
    documents = [document for _, document in pairs]
    return monot5.build_inputs(
      self.spec, self.tokenizer, queries, documents, self.max_tokens, counts
    )

  def tokenise_passages(
    self,
    pairs: Sequence[tuple[str, str]],
    counts: collections.Counter | None = None,
  ) -> tuple[list[list[int]], list[int]]:
    """`tokenise`, with documents that are too long in passages.

    Returns:
      Token ids of every passage, and how many passages each pair has.
    """
    if self.max_passages == 1:
      return self.tokenise(pairs, counts), [1] * len(pairs)
    inputs = self.tokenise(pairs)
    # As long as can be: cut, or of just that length, which is one passage.
    long = [i for i, ids in enumerate(inputs) if len(ids) >= self.max_tokens]
    texts = [[document] for _, document in pairs]
    empty = self.tokenise([(pairs[i][0], '') for i in long])
    for i, without in zip(long, empty, strict=True):
      room = self.max_tokens - len(without)
      if room > 0:
        texts[i] = passages.split(
          self.tokenizer.encode, pairs[i][1], room, self.max_passages
        )
    num_split = sum(len(parts) > 1 for parts in texts)
    if counts is not None and num_split:
      counts[DOCUMENTS_SPLIT] += num_split
    flat = [
      (query, text)
      for (query, _), parts in zip(pairs, texts, strict=True)
      for text in parts
    ]
    return self.tokenise(flat, counts), list(map(len, texts))

  def score_inputs(
    self,
    inputs: Sequence[Sequence[int]],
    progress: Callable[[int], object] | None = None,
  ) -> list[float]:
    """Scores of tokenised pairs, in their order.

    Args:
      inputs: token ids, as `tokenise` makes them.
      progress: called with a number of pairs whenever so many more are done.
    """
    return self._scorer.score(inputs, progress).tolist()
