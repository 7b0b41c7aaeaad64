"""A dataset of forums, CQADupStack: one pool of documents, a test for each.

The reranker is made from the pool, where a document's id is 'forum/id', since
ids are unique within a forum only. Negatives are drawn from the document's own
forum; runs and metrics are each forum's, and what counts is their mean.
"""

import json
import logging
import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etils import epath

from inpars_tpu import bm25, collection, evaluate, files, manifest

_log = logging.getLogger(__name__)

POOL_NAME = 'corpus.jsonl'  # In the folder of the run.


def join(forum: str, name: str) -> str:
  """A document's or query's id among all forums: 'android/12'."""
  return f'{forum}/{name}'


def split(name: str) -> tuple[str, str]:
  """The forum, which has no '/' in it, and the id there."""
  forum, _, own = name.partition('/')
  return forum, own


def pool(parts: Mapping[str, epath.Path], output: epath.Path) -> None:
  """Writes the forums' corpora as one corpus.jsonl, ids 'forum/id'.

  Args:
    parts: forum -> its folder in BEIR's layout.
    output: the corpus; nothing is done where it is complete.

  Raises:
    InputError: what `collection.Corpus` raises.
  """
  paths = {name: folder / 'corpus.jsonl' for name, folder in parts.items()}
  job = manifest.begin_file('pool', output, settings={}, inputs=paths)
  if job.is_complete:
    return
  counts = {}
  with files.atomic_writer(output) as stream:
    for name, path in paths.items():
      corpus = collection.Corpus(path)
      counts[name] = len(corpus)
      for document in corpus:
        record = {
          '_id': join(name, document.doc_id),
          'title': document.title,
          'text': document.body,
        }
        # ASCII: a text may hold half of a surrogate pair.
        stream.write(json.dumps(record).encode() + b'\n')
  job.finish(counts={'in': counts, 'out': sum(counts.values())})


def names(output: epath.Path) -> list[str]:
  """The forums of a pool that `pool` wrote; none where there is no such."""
  record = manifest.read(output) if output.exists() else None
  return list(record['inputs']) if record else []


class Indexes:
  """The indexes of the forums, from which negatives are drawn as from one."""

  def __init__(self, indexes: Mapping[str, bm25.Index]):
    self._indexes = indexes

  def draw(
    self,
    queries: Iterable[bm25.Query],
    *,
    hits: int = 1000,
    num: int = 1,
    seed: int = 1,
  ) -> Iterator[tuple[str, list[str]]]:
    """As `bm25.Index.draw`, from the forum of each query's document.

    Args:
      queries: (query_id, text, 'forum/id' of the source document) each.
      hits: as there; so are `num` and `seed`.
    """
    queries = list(queries)
    by_forum: dict[str, list[bm25.Query]] = {name: [] for name in self._indexes}
    for query_id, text, source in queries:
      name, doc_id = split(source)
      by_forum[name].append((query_id, text, doc_id))
    drawn: dict[str, list[str]] = {}
    # One after the other: two searchers at once are what pyjnius mixes up.
    for name, own in by_forum.items():
      _log.info('negatives: %s: %d queries', name, len(own))
      for query_id, doc_ids in self._indexes[name].draw(
        own, hits=hits, num=num, seed=seed
      ):
        drawn[query_id] = [join(name, doc_id) for doc_id in doc_ids]
    for query_id, _, _ in queries:
      yield query_id, drawn[query_id]


def average(
  folders: Mapping[str, epath.Path], output: epath.Path, *, seed: int = 1
) -> None:
  """Writes the means over the forums, as `evaluate` writes one's metrics.

  Args:
    folders: forum -> where its metrics.json is, whose first run is what the
      others are tested against.
    output: metrics.json, `metrics.per_query.json` beside it; nothing is done
      where it is complete.
    seed: of the significance test.
  """
  paths = {name: folder / 'metrics.json' for name, folder in folders.items()}
  details = {n: evaluate.per_query_path(p) for n, p in paths.items()}
  job = manifest.begin_file(
    'evaluate', output,
    settings={
      'measures': list(evaluate.MEASURES), 'mean_of': list(folders),
      'seed': seed, 'sign_flips': evaluate.NUM_SIGN_FLIPS,
    },
    inputs={f'metrics {name}': path for name, path in paths.items()}
    | {f'queries of {name}': path for name, path in details.items()},
  )  # fmt: skip
  if job.is_complete:
    return
  metrics, per_query = combine(
    {name: files.read_json(p, 'metrics') for name, p in paths.items()},
    {name: files.read_json(p, 'metrics') for name, p in details.items()},
    seed,
  )
  files.write_json(evaluate.per_query_path(output), per_query)
  files.write_json(output, metrics)
  num_queries = len(next(iter(per_query.values())))
  job.finish(counts={'forums': len(folders), 'queries': num_queries})


def combine(
  metrics: Mapping[str, Mapping[str, Mapping[str, Any]]],
  per_query: Mapping[str, Mapping[str, evaluate.PerQuery]],
  seed: int = 1,
) -> tuple[dict[str, dict[str, Any]], dict[str, evaluate.PerQuery]]:
  """Means over forums of the means over their queries.

  Args:
    metrics: forum -> run -> measure -> mean.
    per_query: forum -> run -> query_id -> measure -> value.
    seed: of the test of each run against the first; a query's difference
      weighs in it what it weighs in the mean.

  Returns:
    ({run: {measure: mean, 'forums': {forum: {measure: its mean}}, 'versus': as
    `evaluate.evaluate_files` has it}}, {run: {'forum/query_id': values}}).
  """
  runs = list(next(iter(metrics.values())))
  merged: dict[str, evaluate.PerQuery] = {}
  weighted: dict[str, evaluate.PerQuery] = {}
  num_queries = sum(len(found[runs[0]]) for found in per_query.values())
  for run in runs:
    merged[run], weighted[run] = {}, {}
    for forum, found in per_query.items():
      weight = num_queries / (len(per_query) * len(found[run]))
      for query_id, values in found[run].items():
        name = join(forum, query_id)
        merged[run][name] = values
        weighted[run][name] = {m: weight * v for m, v in values.items()}
  combined: dict[str, dict[str, Any]] = {}
  for run in runs:
    own = {
      forum: {m: found[run][m] for m in evaluate.MEASURES}
      for forum, found in metrics.items()
    }
    combined[run] = {
      m: statistics.fmean(values[m] for values in own.values())
      for m in evaluate.MEASURES
    }
    combined[run]['forums'] = own
    if run != runs[0]:
      combined[run]['versus'] = {
        'baseline': runs[0],
        **evaluate.compare(weighted[runs[0]], weighted[run], seed),
      }
  return combined, merged
