"""Measures of TREC runs, as trec_eval counts them; seeds; significance.

Imports neither JAX nor TensorFlow: the command answers in under a second.
"""

import logging
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from inpars_tpu import collection, errors, files, manifest, trec

# Ours -> trec_eval's; MRR@10 has no name there and is counted below.
_TREC_EVAL = {
  'nDCG@10': 'ndcg_cut_10',
  'R@100': 'recall_100',
  'R@1000': 'recall_1000',
  'MRR@10': None,
  'MAP': 'map',
}
MEASURES = tuple(_TREC_EVAL)
NUM_SIGN_FLIPS = 10_000

Values = dict[str, float]  # Measure -> value.
PerQuery = dict[str, Values]  # query_id -> values, in the order of the qrels.

_log = logging.getLogger(__name__)


def main(args) -> None:
  """`inpars-tpu evaluate`: the table on stdout, and --output if given."""
  metrics = evaluate_files(
    args.qrels, args.run, args.output,
    baseline=args.baseline, seed=args.recipe.only('SEED')['SEED'],
    has_seeds=args.seeds,
  )  # fmt: skip
  print(format_table(metrics))


def evaluate_files(
  qrels_path: files.PathLike,
  run_paths: Sequence[files.PathLike],
  output: files.PathLike | None = None,
  *,
  baseline: files.PathLike | None = None,
  seed: int = 1,
  has_seeds: bool = False,
) -> dict[str, dict[str, Any]]:
  """Measures runs; writes metrics.json and the values per query beside it.

  Args:
    qrels_path: BEIR's or TREC's judgements.
    run_paths: TREC runs, called by their files' stems.
    output: metrics.json; `metrics.per_query.json` goes beside it. None writes
      nothing.
    baseline: a run, one of `run_paths` or another, that the others are tested
      against.
    seed: of the significance test.
    has_seeds: runs of one stem in several folders are seeds of one method,
      which gets a row of its own after them.

  Returns:
    {run name: {measure: mean over all judged queries}}, the baseline first.
    With a baseline, each other run also has 'versus': {'baseline': its name,
    measure: {'difference': .., 'p_value': ..}}. A method of several seeds,
    called '<stem>, <n> seeds', has the mean of their means, and 'deviation':
    {measure: sample standard deviation}; it is tested by each query's mean.

  Raises:
    InputError: malformed input, two runs of one name, a run without a single
      judged query, `has_seeds` where no two runs have one stem.
  """
  paths = _name_runs([*([baseline] if baseline else []), *run_paths])
  qrels = collection.read_qrels(qrels_path)
  runs = {name: trec.read_run(path) for name, path in paths.items()}
  settings: dict[str, Any] = {'measures': list(MEASURES)}
  first, *others = paths
  if baseline:
    settings.update(baseline=first, seed=seed, sign_flips=NUM_SIGN_FLIPS)
  methods = _find_seeds(paths) if has_seeds else {}
  if methods:
    settings['methods'] = methods
  job = None
  if output is not None:
    inputs = {f'run {name}': path for name, path in paths.items()}
    job = manifest.begin_file(
      'evaluate', output,
      settings=settings, inputs={'qrels': qrels_path, **inputs},
    )  # fmt: skip
  means, per_query = evaluate_runs(qrels, runs)
  metrics: dict[str, dict[str, Any]] = {**means}
  for method, names in methods.items():
    metrics[method], per_query[method] = combine_seeds(
      [means[name] for name in names], [per_query[name] for name in names]
    )
  for name in [*others, *methods] if baseline else ():
    versus = compare(per_query[first], per_query[name], seed)
    metrics[name] |= {'versus': {'baseline': first, **versus}}
  if job and not job.is_complete:
    files.write_json(per_query_path(output), per_query)
    files.write_json(output, metrics)
    job.finish(
      counts={
        'queries': len(qrels),
        'queries without a relevant document': len(hopeless(qrels)),
        'runs': len(runs),
      }
    )
  return metrics


def combine_seeds(
  means: Sequence[Values], per_query: Sequence[PerQuery]
) -> tuple[dict[str, Any], PerQuery]:
  """One method out of its seeds, two or more.

  Returns:
    ({measure: mean of the means, 'deviation': {measure: their sample standard
    deviation}}, {query_id: {measure: mean}}).
  """
  spread = {m: [values[m] for values in means] for m in MEASURES}
  combined: dict[str, Any] = {m: statistics.fmean(v) for m, v in spread.items()}
  combined['deviation'] = {m: statistics.stdev(v) for m, v in spread.items()}
  return combined, {
    query_id: {
      m: statistics.fmean(values[query_id][m] for values in per_query)
      for m in MEASURES
    }
    for query_id in per_query[0]
  }


def hopeless(qrels: collection.Qrels) -> list[str]:
  """Queries that are judged and have nothing relevant: they count 0."""
  return [
    query_id
    for query_id, relevance in qrels.items()
    if max(relevance.values()) < 1
  ]


def per_query_path(output: files.PathLike) -> epath.Path:
  """metrics.json -> metrics.per_query.json."""
  output = epath.Path(output)
  return output.parent / f'{output.stem}.per_query.json'


def evaluate_runs(
  qrels: collection.Qrels, runs: Mapping[str, trec.Run]
) -> tuple[dict[str, Values], dict[str, PerQuery]]:
  """Means of all `MEASURES`, and their values for each judged query.

  A judged query that a run leaves out counts 0, as in trec_eval -c; queries
  that nobody judged are left out and counted in the log. Documents are
  relevant from relevance 1; a query that has none counts 0 too, and the log
  says how many those are.

  Args:
    qrels: the judgements.
    runs: run name -> rankings, sorted as `trec.read_run` does.

  Returns:
    ({run name: {measure: mean}}, {run name: {query_id: {measure: value}}}).

  Raises:
    InputError: a run without a single judged query.
  """
  # 0.2 s that neither --help nor another stage should pay.
  import pytrec_eval

  names = {ours: theirs for ours, theirs in _TREC_EVAL.items() if theirs}
  evaluator = pytrec_eval.RelevanceEvaluator(qrels, set(names.values()))
  without = hopeless(qrels)
  if without:
    _log.info(
      'evaluate: %d of %d judged queries have no relevant document and count '
      '0: %s',
      len(without), len(qrels), errors.some(without),
    )  # fmt: skip
  means, per_query = {}, {}
  for run_name, run in runs.items():
    judged = {name: run[name] for name in qrels if name in run}
    if not judged:
      raise errors.InputError(
        f'run {run_name}: none of its {len(run)} queries is judged; '
        'are these the qrels of this dataset?'
      )
    _log.info(
      'evaluate: %s: %d judged queries, of which the run leaves out %s; '
      'of the run %s are not judged',
      run_name, len(qrels), _count(collection.missing(qrels, run)),
      _count(collection.missing(run, qrels)),
    )  # fmt: skip
    found = evaluator.evaluate({q: dict(hits) for q, hits in judged.items()})
    values: PerQuery = {}
    for query_id in qrels:
      theirs = found.get(query_id, {})
      values[query_id] = {
        ours: theirs.get(names[ours], 0.0)
        if ours in names
        else _reciprocal_rank(run.get(query_id, []), qrels[query_id], 10)
        for ours in MEASURES
      }
    per_query[run_name] = values
    means[run_name] = {
      measure: math.fsum(v[measure] for v in values.values()) / len(values)
      for measure in MEASURES
    }
  return means, per_query


def _count(query_ids: list[str]) -> str:
  """'0', "2 ('q1', 'q2')"."""
  return f'{len(query_ids)} ({errors.some(query_ids)})' if query_ids else '0'


def _reciprocal_rank(
  ranking: trec.Ranking, relevance: Mapping[str, int], cutoff: int
) -> float:
  for rank, (doc_id, _) in enumerate(ranking[:cutoff], 1):
    if relevance.get(doc_id, 0) > 0:
      return 1 / rank
  return 0.0


def compare(
  baseline: PerQuery, other: PerQuery, seed: int = 1
) -> dict[str, Values]:
  """Paired two-sided randomisation test of every measure (Fisher's).

  Under the null hypothesis each query's difference may as well have the other
  sign. p = (1 + flips whose mean difference is at least as far from 0) /
  (1 + flips), as Phipson and Smyth (2010): never 0.

  Returns:
    {measure: {'difference': other - baseline, 'p_value': ..}}.
  """
  differences = np.array(
    [
      [other[query_id][measure] - baseline[query_id][measure]
       for measure in MEASURES]
      for query_id in baseline
    ]
  )  # fmt: skip
  num_queries = len(differences)  # [Q, M]
  observed = differences.sum(axis=0)  # [M]
  rng = np.random.default_rng(seed)
  num_far = np.zeros(len(MEASURES), np.int64)
  for _ in range(0, NUM_SIGN_FLIPS, 500):  # 500 at a time: 40 MB at Q = 10,000.
    bits = rng.integers(0, 256, (500, -(-num_queries // 8)), np.uint8)
    signs = 1.0 - 2.0 * np.unpackbits(bits, axis=1, count=num_queries)
    flipped = signs @ differences  # [500, M]
    # Sums that are equal but for rounding count as equally far.
    num_far += (np.abs(flipped) >= np.abs(observed) - 1e-9).sum(axis=0)
  p_values = (1 + num_far) / (1 + NUM_SIGN_FLIPS)
  return {
    measure: {
      'difference': float(observed[i] / num_queries),
      'p_value': float(p_values[i]),
    }
    for i, measure in enumerate(MEASURES)
  }


def format_table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
  """Runs as rows, measures as columns, 4 digits; differences below them.

  run         nDCG@10   R@100  ...
  bm25         0.6789  0.9253  ...
  reranked     0.7312  0.9400  ...
    - bm25     +0.0523 +0.0147  ...
    p           0.0001  0.0310  ...

  A method of several seeds has its deviation in a line of its own too.
  """
  rows = [['run', *MEASURES]]
  for name, values in metrics.items():
    rows.append([name, *(f'{values[m]:.4f}' for m in MEASURES)])
    if 'deviation' in values:
      spread = values['deviation']
      rows.append(['  deviation', *(f'{spread[m]:.4f}' for m in MEASURES)])
    if 'versus' in values:
      versus = values['versus']
      cells = [versus[m] for m in MEASURES]
      rows.append(
        [
          f'  - {versus["baseline"]}',
          *(f'{c["difference"]:+.4f}' for c in cells),
        ]
      )
      rows.append(['  p', *(f'{c["p_value"]:.4f}' for c in cells)])
  width = max(len(row[0]) for row in rows)
  return '\n'.join(
    f'{row[0]:<{width}}' + ''.join(f'{cell:>9}' for cell in row[1:])
    for row in rows
  )


def _name_runs(
  paths: Sequence[files.PathLike],
) -> dict[str, files.PathLike]:
  """Run name -> path; runs of one stem are told apart by their folders.

  [a/bm25.trec, b/bm25.trec] -> {'a/bm25': .., 'b/bm25': ..}
  """
  paths = list({os.path.abspath(path): path for path in paths}.values())
  stems = [trec.run_name(path) for path in paths]
  named: dict[str, files.PathLike] = {}
  for path, stem in zip(paths, stems, strict=True):
    if stems.count(stem) > 1:
      folder = os.path.basename(os.path.dirname(os.path.abspath(path)))
      stem = f'{folder}/{stem}'
    if stem in named:
      raise errors.InputError(
        f'{named[stem]} and {path} are both called {stem!r}; rename one'
      )
    named[stem] = path
  return named


def _find_seeds(paths: Mapping[str, files.PathLike]) -> dict[str, list[str]]:
  """Method -> its runs, of every stem that two runs or more have.

  {'bm25': bm25.trec, 'a/re': a/re.trec, 'b/re': b/re.trec} ->
    {'re, 2 seeds': ['a/re', 'b/re']}

  Raises:
    InputError: there is none.
  """
  stems: dict[str, list[str]] = {}
  for name, path in paths.items():
    stems.setdefault(trec.run_name(path), []).append(name)
  found = {
    f'{stem}, {len(names)} seeds': names
    for stem, names in stems.items()
    if len(names) > 1
  }
  if not found:
    raise errors.InputError(
      '--seeds needs runs of one file name in several folders, '
      '--run=seed1/x.trec --run=seed2/x.trec; all names differ: '
      f'{", ".join(stems)}'
    )
  return found
