"""TREC runs: what a first stage or a reranker says of each query."""

import math
import os
from collections.abc import Iterable, Iterator

import numpy as np

from inpars_tpu import errors, files

Ranking = list[tuple[str, float]]  # (doc_id, score), best first.
Run = dict[str, Ranking]  # query_id -> ranking.


def read_run(path: files.PathLike) -> Run:
  """Reads a run: six columns, best first by the score column.

  Ranks are not trusted, as in trec_eval. Ties are broken as trec_eval does:
  scores are 32-bit floats, equal ones in descending order of document id.

  Raises:
    InputError: a line without six columns, a score that is no number, a
      document that a query has twice, an empty file.
  """
  run: dict[str, dict[str, float]] = {}
  for number, line in files.read_lines(path, 'run'):
    columns = line.split()
    if len(columns) != 6:
      raise errors.InputError(
        f'{path}:{number}: {len(columns)} columns, not six: '
        'query_id Q0 doc_id rank score tag'
      )
    query_id, _, doc_id, _, score, _ = columns
    hits = run.get(query_id)
    if hits is None:
      hits = run[query_id] = {}
    if doc_id in hits:
      raise errors.InputError(
        f'{path}:{number}: query {query_id!r} has {doc_id!r} twice'
      )
    try:
      hits[doc_id] = value = float(score)
    except ValueError:
      value = math.nan
    if not math.isfinite(value):  # NaN would be sorted anywhere.
      raise errors.InputError(
        f'{path}:{number}: score {score!r} is not a number'
      )
  if not run:
    raise errors.InputError(f'{path}: no lines')
  return {query_id: _sort_hits(hits) for query_id, hits in run.items()}


def _sort_hits(hits: dict[str, float]) -> Ranking:
  scores = np.fromiter(hits.values(), np.float32, len(hits)).tolist()
  ranked = sorted(zip(scores, hits, strict=True), reverse=True)
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
