"""Gives each kept query BM25 negatives, and writes the training pairs.

Unlike the InPars toolkit's, a negative is never the query's source document,
and a query without any is dropped and counted.
"""

import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tqdm
from etils import epath

from inpars_tpu import (
  bm25,
  collection,
  errors,
  files,
  forums,
  manifest,
  pairs,
  stores,
)
from inpars_tpu import filter as filter_lib
from inpars_tpu import recipe as recipe_lib

_log = logging.getLogger(__name__)

_MACROS = ('SEED', 'BM25_K1', 'BM25_B', 'NEGATIVE_HITS', 'NUM_NEGATIVES')
_TRAIN, _VALIDATION = 'train', 'validation'
_NO_HITS, _FEWER = 'without hits', 'with fewer negatives than NUM_NEGATIVES'


class Query(NamedTuple):
  """A synthetic query and the document that it was written for."""

  query_id: str
  text: str
  doc_id: str
  document: str


def main(args) -> None:
  """`inpars-tpu negatives`."""
  mine(
    args.queries,
    args.corpus,
    args.index,
    args.output,
    args.recipe,
    name=args.name,
  )


def mine(
  queries_path: files.PathLike,
  corpus_path: files.PathLike,
  index: files.PathLike | Mapping[str, files.PathLike],
  output: files.PathLike,
  recipe: recipe_lib.Recipe,
  *,
  name: str | None = None,
) -> None:
  """Writes the pairs: a TFDS data directory, as `pairs.write` makes it.

  Args:
    queries_path: filtered.jsonl; where validation.jsonl is beside it, its
      queries become the split 'validation'.
    corpus_path: corpus.jsonl, for the texts of negatives.
    index: an index directory, or pyserini:NAME; of a dataset of forums a
      directory for each, and the corpus is their pool.
    output: the data directory; nothing is done where it is complete.
    recipe: of which SEED, BM25_K1, BM25_B, NEGATIVE_HITS and NUM_NEGATIVES
      are read.
    name: of the dataset; None: the name of the corpus's folder.

  Raises:
    InputError: malformed input, a negative that the corpus lacks, what
      `bm25.open_index` raises, or no query with a negative; nothing is written
      then.
  """
  name = name or _folder_name(corpus_path)
  settings = recipe.only(*_MACROS) | {'name': name}
  paths = _split_paths(queries_path)
  inputs = {
    'queries': files.must_be_file(queries_path, 'queries'),
    'corpus': collection.must_be_corpus(corpus_path),
  }
  if _VALIDATION in paths:
    inputs['validation'] = paths[_VALIDATION]
  if isinstance(index, Mapping):
    inputs |= {f'index {forum}': path for forum, path in index.items()}
  elif bm25.is_prebuilt(index):
    settings['index'] = str(index)
  else:
    inputs['index'] = files.must_exist(index, 'index')
  job = manifest.begin_directory(
    'negatives', output, settings=settings, inputs=inputs
  )
  if job.is_complete:
    return
  try:
    queries = number(
      {split: read_queries(path) for split, path in paths.items()}
    )
    corpus = collection.Corpus(corpus_path)
    splits, counts = draw(_open(index, recipe), queries, corpus, recipe)
    _log.info('negatives: %s', _describe(counts))
    if not len(splits[_TRAIN]):
      raise errors.InputError(
        f'{queries_path}: no query has a negative: {_describe(counts)}'
      )
    pairs.write(job.output, name, splits, seed=recipe.SEED)
  except errors.InputError:
    job.output.rmtree()  # Ours alone: begin_directory takes no other.
    raise
  job.finish(counts=counts | {f'{k} pairs': len(v) for k, v in splits.items()})


def read_queries(path: files.PathLike) -> list[Query]:
  """Reads filtered.jsonl: `doc_id`, `query`, `text`; ids are the documents'.

  Raises:
    InputError: a malformed line, or none.
  """
  queries = []
  for line, record in files.read_jsonl(
    path, 'queries', ('doc_id', 'query', 'text')
  ):
    collection.check_id(path, line, record['doc_id'])
    queries.append(
      Query(
        query_id=record['doc_id'],
        text=record['query'],
        doc_id=record['doc_id'],
        document=record['text'],
      )
    )
  if not queries:
    raise errors.InputError(f'{path}: no queries')
  return queries


def number(splits: dict[str, list[Query]]) -> dict[str, list[Query]]:
  """Gives every query of all the splits an id of its own.

  The first query of a document has the document's id, the next ones 'd-2',
  'd-3', and so on; an id that another document has is left out.
  """
  taken = {query.doc_id for queries in splits.values() for query in queries}
  seen: set[str] = set()
  numbered: dict[str, list[Query]] = {}
  for split, queries in splits.items():
    numbered[split] = []
    for query in queries:
      query_id = query.doc_id
      if query.doc_id in seen:
        suffixes = itertools.count(2)
        while query_id in taken:
          query_id = f'{query.doc_id}-{next(suffixes)}'
        taken.add(query_id)
      seen.add(query.doc_id)
      numbered[split].append(query._replace(query_id=query_id))
  return numbered


def draw(
  index: bm25.Index | forums.Indexes,
  splits: dict[str, list[Query]],
  corpus: collection.Corpus,
  recipe: recipe_lib.Recipe,
) -> tuple[dict[str, '_Pairs'], dict[str, object]]:
  """Draws the negatives of every query.

  Returns:
    The pairs of each split, and the counts for the manifest.
  """
  group, dropped, num_fewer, num_in = 0, 0, 0, 0
  chosen: dict[str, _Pairs] = {}
  for split, queries in splits.items():
    by_id = {query.query_id: query for query in queries}
    chosen[split] = _Pairs(corpus)
    drawn = index.draw(
      ((q.query_id, q.text, q.doc_id) for q in queries),
      hits=recipe.NEGATIVE_HITS,
      num=recipe.NUM_NEGATIVES,
      seed=recipe.SEED,
    )
    for query_id, doc_ids in tqdm.tqdm(
      drawn, desc=f'negatives, {split}', total=len(queries), unit='query'
    ):
      num_in += 1
      num_fewer += 0 < len(doc_ids) < recipe.NUM_NEGATIVES
      if not doc_ids:
        dropped += 1
        continue
      chosen[split].add(by_id[query_id], doc_ids, group)
      group += 1
  return chosen, {
    'in': num_in,
    'out': group,
    'dropped': {_NO_HITS: dropped},
    _FEWER: num_fewer,
  }


def _open(index, recipe) -> bm25.Index | forums.Indexes:
  if isinstance(index, Mapping):
    return forums.Indexes(
      {forum: _open(path, recipe) for forum, path in index.items()}
    )
  return bm25.open_index(index, k1=recipe.BM25_K1, b=recipe.BM25_B)


class _Pairs(Sequence[pairs.Pair]):
  """Pairs whose negatives' texts are read when they are asked for."""

  def __init__(self, corpus: collection.Corpus):
    self._corpus = corpus
    self._rows: list[tuple[Query, str | None, int]] = []

  def add(self, query: Query, doc_ids: Sequence[str], group: int) -> None:
    """Appends a query's positive and its negatives."""
    self._rows += [(query, doc_id, group) for doc_id in (None, *doc_ids)]

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> pairs.Pair:
    query, doc_id, group = self._rows[index]
    is_positive = doc_id is None
    return pairs.Pair(
      query=query.text,
      document=query.document if is_positive else self._corpus.text(doc_id),
      label=int(is_positive),
      query_id=query.query_id,
      doc_id=query.doc_id if is_positive else doc_id,
      group=group,
    )


def _split_paths(queries_path: files.PathLike) -> dict[str, epath.Path]:
  path = epath.Path(queries_path)
  beside = path.parent / filter_lib.VALIDATION_NAME
  if beside == path or not beside.exists():
    return {_TRAIN: path}
  return {_TRAIN: path, _VALIDATION: beside}


def _folder_name(corpus_path: files.PathLike) -> str:
  path = epath.Path(corpus_path)
  name = (path if stores.is_remote(path) else path.resolve()).parent.name
  if not name:
    raise errors.InputError(f'{corpus_path}: give the pairs a --name')
  return name


def _describe(counts) -> str:
  dropped = counts['dropped'][_NO_HITS]
  return f'kept {counts["out"]:,} of {counts["in"]:,}' + (
    f': {dropped:,} {_NO_HITS}' if dropped else ''
  )
