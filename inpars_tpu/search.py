"""BM25 run of the test queries: the first stage that is reranked."""

import logging
from collections.abc import Mapping

import tqdm

from inpars_tpu import bm25, collection, errors, files, manifest, trec
from inpars_tpu import recipe as recipe_lib

TAG = 'bm25'

_MACROS = ('BM25_K1', 'BM25_B', 'FIRST_STAGE_HITS')

_log = logging.getLogger(__name__)


def main(args) -> None:
  """`inpars-tpu search`."""
  search(
    args.index,
    args.queries,
    args.output,
    args.recipe,
    qrels=args.qrels,
    exclude_own_id=args.exclude_own_id,
  )


def search(
  index: files.PathLike,
  queries_path: files.PathLike,
  output: files.PathLike,
  recipe: recipe_lib.Recipe,
  *,
  qrels: files.PathLike | None = None,
  exclude_own_id: bool = False,
) -> None:
  """Writes the TREC run of FIRST_STAGE_HITS documents per query.

  Args:
    index: an index directory, or pyserini:NAME.
    queries_path: queries.jsonl.
    output: the run; nothing is done where it is complete.
    recipe: of which BM25_K1, BM25_B and FIRST_STAGE_HITS are read.
    qrels: search only the queries that these judge; None: all.
    exclude_own_id: leave out the document whose id is the query's own, as
      ArguAna and Quora want, where queries are documents. As in Anserini one
      of the FIRST_STAGE_HITS is lost by that.

  Raises:
    InputError: malformed input, no judged query with a text, what
      `bm25.open_index` raises, or no hit for any query; nothing is written.
  """
  settings = {
    **recipe.only(*_MACROS),
    'judged_only': qrels is not None,
    'exclude_own_id': exclude_own_id,
  }
  inputs = {'queries': queries_path}
  queries = collection.read_queries(queries_path)
  num_queries = len(queries)
  if qrels is not None:
    queries = _judged(queries, queries_path, qrels)
    inputs['qrels'] = qrels
  if bm25.is_prebuilt(index):
    settings['index'] = str(index)
  else:
    inputs['index'] = files.must_exist(index, 'index')
  job = manifest.begin_file('search', output, settings=settings, inputs=inputs)
  if job.is_complete:
    return
  opened = bm25.open_index(index, k1=recipe.BM25_K1, b=recipe.BM25_B)
  num_found = _write_run(
    opened, queries, output, recipe.FIRST_STAGE_HITS, exclude_own_id
  )
  num_empty = len(queries) - num_found
  _log.info(
    'search: %d of %d queries; %d not judged, %d without hits',
    num_found, num_queries, num_queries - len(queries), num_empty,
  )  # fmt: skip
  job.finish(
    counts={
      'in': num_queries,
      'out': num_found,
      'dropped': {
        'not judged': num_queries - len(queries),
        'without hits': num_empty,
      },
    }
  )


def _judged(
  queries: Mapping[str, str],
  queries_path: files.PathLike,
  qrels_path: files.PathLike,
) -> dict[str, str]:
  """The queries that are judged, in the order of queries.jsonl."""
  qrels = collection.read_qrels(qrels_path)
  collection.check_qrels(qrels_path, qrels, queries)
  return {name: text for name, text in queries.items() if name in qrels}


def _write_run(
  index: bm25.Index,
  queries: Mapping[str, str],
  output: files.PathLike,
  hits: int,
  exclude_own_id: bool,
) -> int:
  """Writes the run query by query; returns how many queries have hits."""
  num_found = 0
  with files.atomic_writer(output) as stream:
    for query_id, ranking in tqdm.tqdm(
      index.search_each(queries, hits),
      total=len(queries), desc='search', unit='query', disable=None,
    ):  # fmt: skip
      if exclude_own_id:
        ranking = [hit for hit in ranking if hit[0] != query_id]
      for line in trec.format_ranking(query_id, ranking, TAG, digits=''):
        stream.write(line.encode())
      num_found += bool(ranking)
    if not num_found:
      raise errors.InputError(
        f'{index.path}: none of the {len(queries)} queries finds a document'
      )
  return num_found
