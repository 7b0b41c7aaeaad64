"""What a run would have to do: how many texts, and how long they are.

Read from what is there: the table of BEIR, a sample of the corpus, the models'
tokenizers, the prompt. What is not there is assumed, and said.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from inpars_tpu import (
  beir,
  collection,
  errors,
  files,
  plan_models,
  prompt_tokens,
  prompts,
  tokenizer,
)
from inpars_tpu import recipe as recipe_lib

CHARS_PER_TOKEN = 4  # Of English, where there is no tokenizer.
DOCUMENT_TOKENS = 250  # Where there is no corpus; of T5 and GPT-2 alike.
NEW_TOKENS = 18  # 17 of SciFact's queries, and the newline.
_PREFIX_TOKENS = 312  # What SciFact's prompts share of the published gbq.
_PROMPT_END_TOKENS = 10  # What follows the document in a prompt.
_QUERY_TOKENS = 20  # Of a test query.
_TEMPLATE_TOKENS = 10  # 'Query: Document: Relevant:' and </s>.
# Of assumed lengths, by their mean: batches are padded to the longest of them.
_SPREAD = np.linspace(0.25, 1.75, 101)
_SAMPLE = 1_024  # Documents and queries whose lengths are read.


@dataclasses.dataclass(frozen=True)
class Work:
  """Of one dataset. Arrays are samples, of int64, in the order they came."""

  dataset: str
  num_documents: int  # Of the corpus.
  num_sampled: int  # Of them that get a query.
  num_queries: int  # Judged test queries; 0: nothing to evaluate.
  corpus_bytes: int
  prefix_tokens: int
  own_tokens: np.ndarray  # Of prompts, behind the prefix.
  new_tokens: int  # Of a query, with the token that ends it.
  filter_tokens: np.ndarray  # Of monoT5's input, with a synthetic query.
  rerank_tokens: np.ndarray  # With a test query.
  assumptions: Sequence[str]

  @property
  def document_bytes(self) -> float:
    """Of one document, as corpus.jsonl has it."""
    return self.corpus_bytes / self.num_documents


@dataclasses.dataclass(frozen=True)
class _Texts:
  """A sample of a dataset's texts; none where it is not there."""

  num_documents: int
  num_queries: int
  corpus_bytes: int | None
  documents: Sequence[str]
  queries: Sequence[str]
  notes: Sequence[str]


def read(
  dataset: str,
  data_dir: files.PathLike,
  generator: plan_models.Model,
  reranker: plan_models.Model,
  recipe: recipe_lib.Recipe,
  *,
  document_tokens: int | None = None,
  new_tokens: int | None = None,
) -> Work:
  """Finds out how much there is to do.

  Args:
    dataset: a name of BEIR's, or a folder in its layout.
    data_dir: where datasets and published prompts are.
    generator: of the queries.
    reranker: that filters.
    recipe: the method's numbers.
    document_tokens: of every document, from the user; None: as read here.
    new_tokens: of every query; None: as measured once.

  Raises:
    InputError: an unknown dataset, or a malformed line of it.
  """
  texts = _open(dataset, data_dir)
  notes = list(texts.notes)
  if document_tokens is not None:
    texts = dataclasses.replace(texts, documents=())
  if not texts.documents:
    mean = document_tokens or DOCUMENT_TOKENS
    lengths = np.ceil(_SPREAD * mean).astype(int)
    notes.append(
      f'documents of {lengths.min()} to {lengths.max()} tokens, {mean} in the '
      'mean' + ('' if document_tokens else ' (--document_tokens)')
    )
  else:
    lengths = None
  if new_tokens is None:
    new_tokens = min(NEW_TOKENS, recipe.MAX_NEW_TOKENS)
    notes.append(f'queries of {new_tokens} tokens (--new_tokens)')
  prefix_tokens, own = _prompts(
    texts.documents, lengths, generator, recipe, data_dir, notes
  )
  documents, queries = _t5_tokens(texts, lengths, reranker, notes)
  most = recipe.MAX_INPUT_TOKENS
  if recipe.MAX_PASSAGES > 1:
    notes.append('documents in passages are counted as one')
  return Work(
    dataset=epath.Path(dataset).name or dataset,
    num_documents=texts.num_documents,
    num_sampled=min(recipe.NUM_DOCUMENTS, texts.num_documents),
    num_queries=texts.num_queries,
    corpus_bytes=texts.corpus_bytes
    or int(texts.num_documents * documents.mean() * CHARS_PER_TOKEN),
    prefix_tokens=prefix_tokens,
    own_tokens=own,
    new_tokens=min(new_tokens, recipe.MAX_NEW_TOKENS),
    filter_tokens=np.minimum(documents + new_tokens + _TEMPLATE_TOKENS, most),
    rerank_tokens=np.minimum(documents + queries + _TEMPLATE_TOKENS, most),
    assumptions=notes,
  )


def _open(dataset: str, data_dir: files.PathLike) -> _Texts:
  name = epath.Path(dataset).name
  known = beir.DATASETS.get(name)
  folders = [epath.Path(dataset), epath.Path(data_dir) / dataset]
  parts = beir.parts(name)
  folder = next(
    (f for f in folders
     if any((f / part / 'corpus.jsonl').exists() for part in parts)),
    None,
  )  # fmt: skip
  if folder is None:
    if known is None or (name != dataset and not folders[0].exists()):
      if name != dataset or folders[0].exists():
        raise errors.InputError(f'{dataset} has no corpus.jsonl')
      raise errors.unknown('dataset', dataset, [*beir.DATASETS, 'all'])
    counts = known.counts
    return _Texts(counts.documents, counts.judged_queries, None, (), (), ())
  found = [_read_part(folder / part, _SAMPLE // len(parts)) for part in parts]
  documents = [text for part in found for text in part.documents]
  num_documents = sum(part.num_documents for part in found)
  notes = [f'lengths of {len(documents):,} documents of {folder}']
  if any(part.notes for part in found):  # Not all of a corpus was read.
    if known is not None:
      num_documents = known.counts.documents
    else:
      notes.append(f'{num_documents:,} documents, by the size of the file')
  return _Texts(
    num_documents,
    sum(part.num_queries for part in found),
    sum(part.corpus_bytes for part in found),
    documents,
    [text for part in found for text in part.queries],
    notes,
  )


def _read_part(folder: epath.Path, num_sampled: int) -> _Texts:
  """A collection; `notes` where the number of its documents is a guess."""
  path = folder / 'corpus.jsonl'
  num_bytes = path.stat().length
  lines, documents, is_whole = _sample_corpus(path, num_bytes, num_sampled)
  num_documents, notes = len(documents), []
  if not is_whole:
    num_documents = round(num_bytes / np.mean(lines))
    notes.append('by the size of the file')
  queries, num_queries = (), 0
  qrels = folder / 'qrels' / 'test.tsv'
  if qrels.exists():
    num_queries = len(collection.read_qrels(qrels))
    texts = collection.read_queries(folder / 'queries.jsonl')
    queries = list(texts.values())[:num_sampled]
  return _Texts(
    num_documents, num_queries, num_bytes, documents, queries, notes
  )


def _sample_corpus(
  path: epath.Path, num_bytes: int, num_sampled: int
) -> tuple[list[int], list[str], bool]:
  """Bytes of lines, texts of documents, and whether those are all of them."""
  found: dict[int, tuple[int, str]] = {}  # Offset -> bytes, text.
  is_whole = True
  with path.open('rb') as stream:
    for number, line in enumerate(stream, 1):
      if len(found) == num_sampled:
        is_whole = False
        break
      text = _text(path, number, line)
      if text is not None:
        found[number] = (len(line), text)
    if not is_whole:  # Evenly spaced ones instead.
      found.clear()
      for place in range(num_sampled):
        stream.seek(place * num_bytes // num_sampled)
        stream.readline()  # What is left of a line; the next is a whole one.
        offset, line = stream.tell(), stream.readline()
        text = _text(path, 0, line) if line else None
        if text is not None:
          found[offset] = (len(line), text)
  if not found:
    raise errors.InputError(f'{path}: no documents')
  lengths, texts = zip(*found.values(), strict=True)
  return list(lengths), list(texts), is_whole


def _text(path: epath.Path, number: int, line: bytes) -> str | None:
  text = files.decode_line(path, number, line)
  if text is None:
    return None
  record = files.parse_record(path, number, text, ('_id', 'text'))
  return collection.Document('', record.get('title'), record['text']).text


def _prompts(
  documents: Sequence[str],
  lengths: np.ndarray | None,
  generator: plan_models.Model,
  recipe: recipe_lib.Recipe,
  data_dir: files.PathLike,
  notes: list[str],
) -> tuple[int, np.ndarray]:
  """Tokens that prompts share, and of each what is its own."""
  try:
    prompt = prompts.load(recipe.PROMPT, data_dir)
  except errors.InputError:
    prompt = None
  tokens = None
  if generator.has('tokenizer.json') or generator.has(
    'vocab.json', 'merges.txt'
  ):
    tokens = tokenizer.GPT2Tokenizer(generator.directory)
  room = generator.config.max_positions - recipe.MAX_NEW_TOKENS
  if prompt and tokens and documents:
    built = prompt_tokens.build(
      tokens,
      prompt,
      documents,
      max_document_tokens=recipe.MAX_DOCUMENT_TOKENS,
      max_prompt_tokens=room,
    )
    return len(built.prefix), np.array(
      [len(own) for own in built.own if own is not None]
    )
  if prompt and tokens:
    prefix = len(tokens.encode([prompt.before])[0])
  elif prompt:
    prefix = _guess(prompt.before)
  else:
    prefix = _PREFIX_TOKENS
  notes.append(f'prompts that share {prefix} tokens')
  if lengths is None:
    notes.append(f'{CHARS_PER_TOKEN} characters a token of GPT-2')
    lengths = np.array([_guess(text) for text in documents])
  own = np.minimum(lengths, recipe.MAX_DOCUMENT_TOKENS) + _PROMPT_END_TOKENS
  return prefix, np.minimum(own, max(room - prefix, 1))


def _t5_tokens(
  texts: _Texts,
  lengths: np.ndarray | None,
  reranker: plan_models.Model,
  notes: list[str],
) -> tuple[np.ndarray, int]:
  """Of each document, and the mean of test queries."""
  has_tokenizer = reranker.has('spiece.model')
  if lengths is not None:
    return lengths, _QUERY_TOKENS
  if has_tokenizer:
    tokens = tokenizer.T5Tokenizer(reranker.directory)

    def count(texts: Sequence[str]) -> list[int]:
      return [len(ids) for ids in tokens.encode(texts)]
  else:
    notes.append(f'{CHARS_PER_TOKEN} characters a token of T5')

    def count(texts: Sequence[str]) -> list[int]:
      return [_guess(text) for text in texts]

  queries = count(texts.queries)
  mean = math.ceil(np.mean(queries)) if queries else _QUERY_TOKENS
  return np.array(count(texts.documents)), mean


def _guess(text: str) -> int:
  return -(-len(text) // CHARS_PER_TOKEN)


def to_record(work: Work) -> dict[str, Any]:
  """For JSON: samples as their means."""
  return {
    name: round(float(value.mean()), 1)
    if isinstance(value, np.ndarray)
    else value
    for name, value in vars(work).items()
  }
