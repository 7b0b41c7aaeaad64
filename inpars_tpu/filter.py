"""The best of the synthetic queries: rules first, then a score.

The reading of generated queries and of the published files is in
`synthetic`; the rules are in `rules`.
"""

import collections
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from inpars_tpu import (
  errors,
  files,
  manifest,
  monot5,
  processes,
  rules,
  score_parts,
  synthetic,
)
from inpars_tpu import recipe as recipe_lib
from inpars_tpu import reranker as reranker_lib
from inpars_tpu import score as score_lib

_log = logging.getLogger(__name__)

MACROS = ('FILTER_BY', 'NUM_PAIRS', *rules.MACROS)
VALIDATION_NAME = 'validation.jsonl'
_VALIDATION_SHARE = 10  # A tenth of NUM_PAIRS.
_HISTOGRAM_BINS = 20


def main(args) -> None:
  """`inpars-tpu filter`."""
  filter_queries(
    args.queries,
    args.documents,
    args.output,
    args.recipe,
    model=args.model,
    label_words=args.label_words,
    mesh=args.mesh,
    others=processes.from_flags(args),
  )


def filter_queries(
  queries_path: files.PathLike,
  documents_path: files.PathLike,
  output: files.PathLike,
  recipe: recipe_lib.Recipe,
  *,
  model: files.PathLike | None = None,
  label_words: str | None = None,
  mesh: str | None = None,
  others: processes.Processes = processes.ALONE,
) -> None:
  """Writes the best NUM_PAIRS queries, and validation.jsonl beside them.

  Args:
    queries_path: generate's directory, or one JSONL file.
    documents_path: documents.jsonl, the texts.
    output: filtered.jsonl: the queries' fields, `text`, and `log_prob_true`
      where the reranker chose; best first.
    recipe: gives `MACROS`, and the scorer's where the reranker chooses.
    model: directory of the reranker; read where FILTER_BY is 'reranker'.
    label_words: 'false,true', where the directory does not say them.
    mesh: as `reranker.MonoT5.load` takes it.
    others: which of several processes this is, as in `score_parts.Parts`.

  Raises:
    InputError: malformed input, a document that is not there, no query left;
      as `reranker.check`.
  """
  files.must_exist(queries_path, 'queries')
  files.must_be_file(documents_path, 'documents')
  settings, model_inputs = _reads(
    recipe, model, label_words, others.known_mesh(mesh)
  )
  active = rules.build(recipe)
  output = epath.Path(output)
  if output.name == VALIDATION_NAME:
    raise errors.InputError(f'--output {output}: the filter writes it beside')
  job = manifest.begin_file(
    'filter',
    output,
    settings=settings,
    inputs={
      'queries': queries_path,
      'documents': documents_path,
      **model_inputs,
    },
  )
  if job.is_complete:
    _check_validation(output)
    return
  queries = synthetic.read(queries_path, documents_path)
  kept, dropped = rules.apply(active, queries)
  if not kept:
    raise errors.InputError(
      f'{queries_path}: no query is left: {_describe(len(queries), dropped)}'
    )
  _log.info('filter: %s', _describe(len(queries), dropped))
  places = score_parts.split(len(kept)) if model_inputs else []
  parts = score_parts.Parts(job, [len(part) for part in places], others)
  if parts.own:
    parts.make(
      score_lib.load_model(model, recipe, label_words, mesh),
      lambda i: [(kept[p].text, kept[p].record['text']) for p in places[i]],
    )
  with parts.ending() as is_ending:
    if is_ending:
      counts: collections.Counter = collections.Counter()
      scores = _score(kept, recipe.FILTER_BY, parts, counts)
      field = None
      if model_inputs:
        field = monot5.read_spec(model, label_words).field
      numbers = _finish(
        job, kept, dropped, scores, field, recipe.NUM_PAIRS, counts,
        is_shared=parts.is_shared,
      )  # fmt: skip
      print(format_table(numbers))


def _finish(
  job: manifest.Job,
  kept: Sequence[synthetic.Query],
  dropped: collections.Counter,
  scores: Sequence[float] | None,
  field: str | None,
  num_pairs: int,
  counts: collections.Counter,
  *,
  is_shared: bool,
) -> dict[str, Any]:
  """Writes the best and the manifest; returns how many were dropped by what.

  `field` is what a score is called in the file; None: it is left out.
  """
  best = choose([query.order for query in kept], scores)
  best = best[: num_pairs + num_pairs // _VALIDATION_SHARE]
  records = [
    kept[i].record | ({field: scores[i]} if field else {}) for i in best
  ]
  validation_sha256 = _write(job.output, records, num_pairs, is_shared)
  num_out = min(len(records), num_pairs)
  numbers = {
    'in': len(kept) + dropped.total(),
    'out': num_out,
    'validation': len(records) - num_out,
    'dropped': {**dropped, 'below the top': len(kept) - len(records)},
  }
  job.finish(
    counts=numbers | counts,
    validation_sha256=validation_sha256,
    histogram=None if scores is None else histogram(scores),
  )
  return numbers


def _reads(
  recipe: recipe_lib.Recipe,
  model: files.PathLike | None,
  label_words: str | None,
  mesh: str | None,
) -> tuple[dict[str, Any], dict[str, files.PathLike]]:
  """Settings of the manifest, and the reranker where it is an input."""
  settings = recipe.only(*MACROS)
  if recipe.FILTER_BY != 'reranker':
    return settings, {}
  if model is None:
    raise errors.InputError(
      "FILTER_BY is 'reranker', which needs --model; or give "
      '--gin.FILTER_BY="\'log_probs\'"'
    )
  reranker_lib.check(model, label_words, mesh)
  settings |= recipe.only(*score_lib.MACROS) | {'label_words': label_words}
  return settings, {'model': model}


def choose(
  order: Sequence[int], scores: Sequence[float] | None
) -> Sequence[int]:
  """Places of queries, best first.

  Args:
    order: place of each query's document; ties are in this order.
    scores: higher is better; None: as they are.

  choose([1, 0, 2], [-1.0, -1.0, -0.5]) -> [2, 1, 0]
  """
  places = range(len(order))
  if scores is None:
    return places
  return sorted(places, key=lambda i: (-scores[i], order[i], i))


def histogram(scores: Sequence[float]) -> dict[str, list[Any]]:
  """How many scores are in each of 20 equal bins between the extremes."""
  counts, edges = np.histogram(scores, _HISTOGRAM_BINS)
  return {
    'edges': [float(f'{edge:.6g}') for edge in edges],
    'counts': counts.tolist(),
  }


def format_table(counts: Mapping[str, Any]) -> str:
  """How many queries each rule dropped, as lines.

  queries                        5
    empty query                 -1
    below the top               -2
  kept                           2
  kept for validation            0
  """
  rows = [
    ('queries', counts['in']),
    *((f'  {reason}', -n) for reason, n in counts['dropped'].items()),
    ('kept', counts['out']),
    ('kept for validation', counts['validation']),
  ]
  return '\n'.join(f'{name:<28}{number:>10,}' for name, number in rows)


def _score(
  queries: Sequence[synthetic.Query],
  filter_by: str,
  parts: score_parts.Parts,
  counts: collections.Counter,
) -> list[float] | None:
  """What the queries are chosen by; None: their order."""
  if filter_by == 'none':
    return None
  if filter_by == 'log_probs':
    return [float(np.mean(query.log_probs)) for query in queries]
  return [score for part in parts.read(counts) for score in part]


def _write(
  output: epath.Path,
  records: Sequence[dict[str, Any]],
  num_pairs: int,
  is_shared: bool,
) -> str | None:
  """Writes both files, the validation first; returns its hash, if there."""
  validation_path = output.parent / VALIDATION_NAME
  has_validation = len(records) > num_pairs
  if has_validation:
    files.write_jsonl(validation_path, records[num_pairs:], shared=is_shared)
  else:  # It may be an earlier filter's.
    validation_path.unlink(missing_ok=True)
  files.write_jsonl(output, records[:num_pairs], shared=is_shared)
  return files.sha256(validation_path) if has_validation else None


def _describe(num_queries: int, dropped: collections.Counter) -> str:
  """'kept 9 of 12: 2 empty query, 1 too few tokens'."""
  reasons = ', '.join(f'{n:,} {reason}' for reason, n in dropped.items() if n)
  kept = f'kept {num_queries - dropped.total():,} of {num_queries:,}'
  return f'{kept}: {reasons}' if reasons else kept


def _check_validation(output: epath.Path) -> None:
  """The second file of a complete output is still what the manifest says."""
  path = output.parent / VALIDATION_NAME
  wanted = manifest.read(output)['validation_sha256']
  found = files.sha256(path) if path.exists() else None
  if found != wanted:
    raise errors.InputError(
      f'{path} is not what was written with {output}; '
      f'delete {output} to make both anew'
    )
