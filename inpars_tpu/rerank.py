"""A TREC run, its top documents put in the order of a reranker."""

import collections
import functools
from collections.abc import Mapping

import numpy as np

from inpars_tpu import (
  collection,
  errors,
  files,
  manifest,
  processes,
  score_parts,
  trec,
)
from inpars_tpu import recipe as recipe_lib
from inpars_tpu import reranker as reranker_lib
from inpars_tpu import score as score_lib

MACROS = (*score_lib.MACROS, 'RERANK_HITS')
TAG = 'inpars_tpu'
# Texts of documents that several queries share, as most do.
_CACHED_DOCUMENTS = 10_000


def main(args) -> None:
  """`inpars-tpu rerank`."""
  rerank(
    args.run,
    args.corpus,
    args.queries,
    args.model,
    args.output,
    args.recipe,
    label_words=args.label_words,
    mesh=args.mesh,
    others=processes.from_flags(args),
  )


def rerank(
  run_path: files.PathLike,
  corpus_path: files.PathLike,
  queries_path: files.PathLike,
  model_path: files.PathLike,
  output: files.PathLike,
  recipe: recipe_lib.Recipe,
  *,
  label_words: str | None = None,
  mesh: str | None = None,
  others: processes.Processes = processes.ALONE,
) -> None:
  """Writes a run with the top RERANK_HITS of each query in a new order.

  Args:
    run_path: TREC run of the first stage.
    corpus_path: corpus.jsonl; texts are read when they are needed.
    queries_path: queries.jsonl.
    model_path: directory of a reranker.
    output: TREC run, queries in the order of `run_path`.
    recipe: gives `MACROS`.
    label_words: 'false,true', where the directory does not say them.
    mesh: as `reranker.MonoT5.load` takes it.
    others: which of several processes this is, as in `score_parts.Parts`.

  Raises:
    InputError: malformed input; queries without a text or documents that are
      not in the corpus, by name; as `reranker.check`.
  """
  files.must_be_file(run_path, 'run')
  collection.must_be_corpus(corpus_path)
  files.must_be_file(queries_path, 'queries')
  reranker_lib.check(model_path, label_words, others.known_mesh(mesh))
  job = manifest.begin_file(
    'rerank',
    output,
    settings=recipe.only(*MACROS) | {'label_words': label_words},
    inputs={
      'run': run_path,
      'corpus': corpus_path,
      'queries': queries_path,
      'model': model_path,
    },
  )
  if job.is_complete:
    return
  run = trec.read_run(run_path)
  queries = read_queries(queries_path, run)
  corpus = collection.Corpus(corpus_path)
  positions = find_documents(corpus, run)
  hits = recipe.RERANK_HITS
  text = functools.lru_cache(_CACHED_DOCUMENTS)(
    functools.partial(read_text, corpus)
  )
  places = _split(run, hits)
  parts = score_parts.Parts(
    job,
    [sum(len(run[query_id][:hits]) for query_id in part) for part in places],
    others,
  )
  if parts.own:
    parts.make(
      score_lib.load_model(model_path, recipe, label_words, mesh),
      lambda i: [
        (queries[query_id], text(doc_id, position))
        for query_id in places[i]
        for (doc_id, _), position in zip(
          run[query_id][:hits], positions[query_id].tolist(), strict=False
        )
      ],
    )
  with parts.ending() as is_ending:
    if is_ending:
      counts = _write(output, run, hits, places, parts)
      job.finish(counts=counts)


def _write(
  output: files.PathLike,
  run: trec.Run,
  hits: int,
  places: list[list[str]],
  parts: score_parts.Parts,
) -> dict[str, int]:
  """Writes the run in its new order; returns the manifest's counts."""
  counts: collections.Counter = collections.Counter()
  with files.atomic_writer(output, shared=parts.is_shared) as stream:
    for part, scores in zip(places, parts.read(counts), strict=True):
      rest = iter(scores)
      for query_id in part:
        ranking = run[query_id]
        own = [next(rest) for _ in ranking[:hits]]
        for line in trec.format_ranking(query_id, reorder(ranking, own), TAG):
          stream.write(line.encode())
  counts['below RERANK_HITS'] = sum(len(r[hits:]) for r in run.values())
  num_lines = sum(map(len, run.values()))
  return {'in': num_lines, 'out': num_lines, 'queries': len(run), **counts}


def reorder(ranking: trec.Ranking, scores: list[float]) -> trec.Ranking:
  """Puts the top of a ranking in the order of new scores.

  Documents without a new score keep their order, below all others. Equal
  scores keep the order of the first stage: the scores returned fall from line
  to line, so that evaluation keeps it too.

  reorder([('a', 9.0), ('b', 8.0), ('c', 7.0)], [-2.0, -1.0]) ->
    [('b', -1.0), ('a', -2.0), ('c', -2.0000002)]
  """
  order = sorted(range(len(scores)), key=lambda i: -scores[i])
  order += range(len(scores), len(ranking))
  values = [scores[i] if i < len(scores) else min(scores) for i in order]
  doc_ids = [ranking[i][0] for i in order]
  return list(zip(doc_ids, trec.strictly_decreasing(values), strict=True))


def _split(run: trec.Run, hits: int) -> list[list[str]]:
  """Query ids of each part: whole queries, until there are PART_PAIRS."""
  parts, num_pairs = [], score_parts.PART_PAIRS
  for query_id, ranking in run.items():
    if num_pairs >= score_parts.PART_PAIRS:
      parts.append([])
      num_pairs = 0
    parts[-1].append(query_id)
    num_pairs += min(len(ranking), hits)
  return parts


def read_queries(path: files.PathLike, run: trec.Run) -> Mapping[str, str]:
  """Cleaned texts of the queries of the run.

  Raises:
    InputError: a query without text, by name.
  """
  queries = collection.read_queries(path)
  unknown = collection.missing(run, queries)
  if unknown:
    raise errors.InputError(
      f'{path} has no text for {errors.some(unknown)}, which the run ranks'
    )
  cleaned = {query_id: collection.clean(queries[query_id]) for query_id in run}
  empty = [query_id for query_id, text in cleaned.items() if not text.strip()]
  if empty:
    raise errors.InputError(f'{path}: no text in {errors.some(empty)}')
  return cleaned


def find_documents(
  corpus: collection.Corpus, run: trec.Run
) -> Mapping[str, np.ndarray]:
  """Places in the corpus of the documents of each query, [hits] int32.

  Numbers alone are held: 8 million lines of a run cost 32 MB.

  Raises:
    InputError: documents that are not in the corpus, by name.
  """
  positions: dict[str, np.ndarray] = {}
  unknown: dict[str, None] = {}
  for query_id, ranking in run.items():
    doc_ids = [doc_id for doc_id, _ in ranking]
    found = corpus.find_all(doc_ids)
    unknown |= dict.fromkeys(doc_ids[i] for i in np.flatnonzero(found < 0))
    positions[query_id] = found.astype(np.int32)
  if unknown:
    raise _no_document(corpus, list(unknown))
  return positions


def read_text(corpus: collection.Corpus, doc_id: str, position: int) -> str:
  """The text of a document whose place `find_documents` found."""
  document = corpus[position]
  if document.doc_id != doc_id:  # Another with the same hash.
    raise _no_document(corpus, [doc_id])
  return document.text


def _no_document(
  corpus: collection.Corpus, doc_ids: list[str]
) -> errors.InputError:
  return errors.InputError(
    f'{corpus.path} has no document {errors.some(doc_ids)}, which the run ranks'
  )
