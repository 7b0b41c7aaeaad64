"""TREC runs: what a first stage or a reranker says of each query."""

import codecs
import math
import os
from collections.abc import Iterable, Iterator

import numpy as np

from inpars_tpu import errors, files, stores

Ranking = list[tuple[str, float]]  # (doc_id, score), best first.
Run = dict[str, Ranking]  # query_id -> ranking.


def read_run(path: files.PathLike) -> Run:
  """Reads a run: six columns, best first by the score column.

  Ranks are not trusted, as in trec_eval. Ties are broken as trec_eval does:
  scores are 32-bit floats, equal ones in descending order of document id.

  Raises:
    InputError: a line without six columns, a score that is no number, a
      document that a query has twice, an empty file; two tags, which are two
      runs in one file, whose scores do not compare.
  """
  path = files.must_be_file(path, 'run')
  run: dict[bytes, dict[bytes, float]] = {}
  first_tag = None
  # Bytes until the end: this loop is most of the time that `evaluate` takes.
  with stores.local(path).open('rb') as stream:
    for number, line in enumerate(stream, 1):
      if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
      columns = line.split()
      if len(columns) != 6:
        if not columns:
          continue
        raise errors.InputError(
          f'{path}:{number}: {len(columns)} columns, not six: '
          'query_id Q0 doc_id rank score tag'
        )
      query_id, _, doc_id, _, score, tag = columns
      if tag != first_tag:
        if first_tag is not None:
          raise errors.InputError(
            f'{path}:{number}: tag {_text(tag)!r} after {_text(first_tag)!r}: '
            'two runs in one file; give each its own'
          )
        first_tag = tag
      hits = run.get(query_id)
      if hits is None:
        hits = run[query_id] = {}
      if doc_id in hits:
        raise errors.InputError(
          f'{path}:{number}: query {_text(query_id)!r} has {_text(doc_id)!r} '
          'twice'
        )
      try:
        hits[doc_id] = value = float(score)
      except ValueError:
        value = math.nan
      if not -math.inf < value < math.inf:  # NaN would be sorted anywhere.
        raise errors.InputError(
          f'{path}:{number}: score {_text(score)!r} is not a number'
        )
  if not run:
    raise errors.InputError(f'{path}: no lines')
  try:
    # A query's hits are let go as they are sorted: of millions of lines both
    # forms would be twice the memory.
    return {
      query_id.decode(): _sort_hits(run.pop(query_id)) for query_id in list(run)
    }
  except UnicodeDecodeError as error:
    raise errors.InputError(
      f'{path}: the id {_text(error.object)!r} is not UTF-8'
    ) from None


def _text(column: bytes) -> str:
  return column.decode(errors='replace')


def _sort_hits(hits: dict[bytes, float]) -> Ranking:
  scores = np.fromiter(hits.values(), np.float32, len(hits))
  ranked = zip(scores.tolist(), map(bytes.decode, hits), strict=True)
  if not (np.diff(scores) < 0).all():  # Most runs are in order already.
    ranked = sorted(ranked, reverse=True)
  return [(doc_id, score) for score, doc_id in ranked]


def strictly_decreasing(scores: Iterable[float]) -> list[float]:
  """Lowers tied scores so that trec_eval, with its 32-bit floats, keeps them.

  [2.0, 2.0, 1.0] -> [2.0, 1.9999999, 1.0]
  """
  kept: list[float] = []
  limit = np.float32(np.inf)
  for score in scores:
    limit = min(np.float32(score), np.nextafter(limit, np.float32(-np.inf)))
    kept.append(float(limit))
  return kept


def format_ranking(
  query_id: str, ranking: Ranking, tag: str, digits: str = '.9g'
) -> Iterator[str]:
  """Lines of one query, in the order given."""
  for rank, (doc_id, score) in enumerate(ranking, 1):
    yield f'{query_id} Q0 {doc_id} {rank} {score:{digits}} {tag}\n'


def run_name(path: files.PathLike) -> str:
  """The name of a run in tables and metrics: its file's stem."""
  return os.path.splitext(os.path.basename(os.fspath(path)))[0]
