"""What a dataset's folder holds, read for its report: whole, or half done.

Only reads. An output without its manifest is not complete, and is not read.
"""

import collections
import dataclasses
import json
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from inpars_tpu import collection, files, forums, manifest

RUN_NAMES = {
  'bm25': 'BM25',
  'reranked_base': 'reranker before',
  'reranked': 'reranker after',
}
# Output -> what makes it, in the order of the loop; '.' is the folder itself.
MAKING = {
  'documents.jsonl': 'sample',
  'queries': 'generate',
  'filtered.jsonl': 'filter',
  'index': 'index',
  'pairs': 'negatives',
  '.': 'train',
}
TESTING = {
  'bm25.trec': 'search',
  'reranked_base.trec': 'rerank before',
  'reranked.trec': 'rerank after',
  'metrics.json': 'evaluate',
}
# Where a dataset is forums: what each of them has in a folder of its own.
_OF_FORUM = ('index', 'bm25.trec', 'reranked_base.trec', 'reranked.trec')
PLAN = 'plan.json'
NUM_RANDOM, NUM_WORST = 20, 10


@dataclasses.dataclass(frozen=True)
class Query:
  """A synthetic query that was kept."""

  query: str
  doc_id: str
  text: str
  score: float | None  # What the filter chose by; None: by nothing.


@dataclasses.dataclass(frozen=True)
class Kept:
  """What is in filtered.jsonl."""

  count: int
  score_name: str | None  # log_prob_true, logit, mean log_prob.
  tokens: Mapping[int, int]  # Tokens of a query -> queries.
  lowest_score: float | None
  chosen: Sequence[Query]  # By chance, in the order of the file.
  worst: Sequence[Query]  # Lowest score first; none without scores.


@dataclasses.dataclass(frozen=True)
class Record:
  """All that a report is made from; what is not there is empty."""

  name: str
  stages: Mapping[str, Mapping[str, Any]]  # Verb in words -> manifest.
  begun: Sequence[str]
  missing: Sequence[str]
  metrics: Mapping[str, Mapping[str, Any]]
  per_query: Mapping[str, Mapping[str, Mapping[str, float]]]
  questions: Mapping[str, str]  # query_id -> text, of the test queries.
  tokens: Mapping[int, int]  # Of all queries that were generated.
  kept: Kept | None
  steps: Sequence[Mapping[str, float]]
  untrained: Sequence[str]
  plan: Mapping[str, Any]  # As `plan.to_record` has it.


def is_run(folder: epath.Path) -> bool:
  """Whether `run` began something here."""
  return any(
    (folder / name).exists()
    for name in ('documents.jsonl', 'queries', 'filtered.jsonl', 'metrics.json')
  )


def read(folder: epath.Path) -> Record:
  """Reads one dataset's folder.

  Raises:
    InputError: a complete output that is malformed.
  """
  stages, begun, missing = {}, [], []
  names = forums.names(folder / forums.POOL_NAME)
  for output, verb in (MAKING | TESTING).items():
    own = names if output in _OF_FORUM and names else ['']
    places = {name: folder / name for name in own}
    records = {n: _read_manifest(place / output) for n, place in places.items()}
    if all(records.values()):
      stages[verb] = _combine(records)
    elif any(records.values()) or any(
      _is_begun(place, output) for place in places.values()
    ):
      begun.append(verb)
    else:
      missing.append(verb)
  metrics = _read_json(folder / 'metrics.json')
  if metrics and 'bm25' not in metrics and 'search' in missing:
    missing.remove('search')  # A first stage of others.
  return Record(
    name=folder.resolve().name,
    stages=stages,
    begun=begun,
    missing=missing,
    metrics=metrics,
    per_query=_read_json(folder / 'metrics.per_query.json'),
    questions=_questions(stages, names),
    tokens=_count_tokens(folder / 'queries'),
    kept=_read_kept(
      folder / 'filtered.jsonl',
      _setting(stages, 'SEED', 1),
      _setting(stages, 'FILTER_BY', 'reranker'),
    ),
    steps=list(_read_steps(folder / 'metrics.jsonl')),
    untrained=untrained(folder),
    plan=_read_json(folder / PLAN),
  )


def untrained(folder: epath.Path) -> list[str]:
  """Which models of a run have random weights: 'generator', 'reranker'."""
  found = []
  for output, role in (('queries', 'generator'), ('.', 'reranker')):
    path = folder / output
    record = _read_manifest(path) or {'inputs': {}}
    model = record['inputs'].get('model')
    if model and epath.Path(model['path']).exists():
      origin = manifest.read(model['path'])
      if origin and origin['command'] == 'init':
        found.append(role)
  return found


def _read_manifest(path: epath.Path) -> dict[str, Any] | None:
  return manifest.read(path) if path.exists() else None


def _combine(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  """One manifest of the forums' ('': of no forum): seconds, counts are sums.

  Settings, versions and devices are those of the first, as they are of all.
  """
  if '' in records:
    return dict(records[''])
  first, *others = records.values()
  counts = first['counts']
  for record in others:
    counts = _add(counts, record['counts'])
  inputs = {
    f'{name} of {forum}': source
    for forum, record in records.items()
    for name, source in record['inputs'].items()
  }
  seconds = sum(record['seconds'] for record in records.values())
  return {**first, 'inputs': inputs, 'counts': counts, 'seconds': seconds}


def _add(first: Any, second: Any) -> Any:
  """_add({'in': 1, 'dropped': {'x': 2}}, {'in': 4, 'dropped': {'y': 3}}) ->
  {'in': 5, 'dropped': {'x': 2, 'y': 3}}"""
  if not isinstance(first, dict):
    return first + second
  return {
    key: _add(first[key], second[key])
    if key in first and key in second
    else first.get(key, second.get(key))
    for key in first | second
  }


def _setting(stages, name: str, otherwise: Any) -> Any:
  for record in stages.values():
    if name in record['settings']:
      return record['settings'][name]
  return otherwise


def _is_begun(folder: epath.Path, output: str) -> bool:
  if output == '.':
    return (folder / manifest.PARTIAL_NAME).exists()
  return any(
    (folder / name).exists()
    for name in (output, f'{output}.parts', f'{output}.tmp')
  )


def _read_json(path: epath.Path) -> dict[str, Any]:
  return files.read_json(path, 'metrics') if path.exists() else {}


def _questions(
  stages: Mapping[str, Mapping[str, Any]], names: Sequence[str]
) -> dict[str, str]:
  """The test queries' texts, where their file is still where it was."""
  for verb in ('rerank after', 'rerank before', 'search'):
    inputs = stages.get(verb, {'inputs': {}})['inputs']
    sources = {
      name: inputs.get(f'queries of {name}' if name else 'queries')
      for name in names or ('',)
    }
    if all(s and epath.Path(s['path']).exists() for s in sources.values()):
      return {
        forums.join(name, query_id) if name else query_id: text
        for name, source in sources.items()
        for query_id, text in collection.read_queries(source['path']).items()
      }
  return {}


def _count_tokens(directory: epath.Path) -> dict[int, int]:
  """Of the shards that are there, also where generate has not ended."""
  counts: collections.Counter = collections.Counter()
  if directory.exists():
    for path in sorted(directory.glob('queries-*.jsonl')):
      for _, line in files.read_jsonl(path, 'queries'):
        counts[len(line.get('log_probs', ()))] += 1
  return dict(counts)


def _read_kept(path: epath.Path, seed: int, filter_by: str) -> Kept | None:
  """Reads the file twice: which lines are chosen depends on their number."""
  if not path.exists():
    return None
  tokens: collections.Counter = collections.Counter()
  score_name, lowest, count = None, None, 0
  for _, line in files.read_jsonl(path, 'filtered queries', ('query',)):
    count += 1
    tokens[len(line.get('log_probs', ()))] += 1
    score_name, score = _score(line, filter_by)
    if score is not None:
      lowest = score if lowest is None else min(score, lowest)
  places = random.Random(seed).sample(range(count), min(count, NUM_RANDOM))
  wanted, chosen, worst = set(places), [], []
  first_worst = count - NUM_WORST if score_name else count
  lines = files.read_jsonl(path, 'filtered queries', ('query',))
  for place, (_, line) in enumerate(lines):
    if place in wanted or place >= first_worst:
      query = Query(
        line['query'], str(line.get('doc_id', '')), line.get('text', ''),
        _score(line, filter_by)[1],
      )  # fmt: skip
      chosen += [query] if place in wanted else []
      worst += [query] if place >= first_worst else []
  return Kept(count, score_name, dict(tokens), lowest, chosen, worst[::-1])


def _score(
  line: Mapping[str, Any], filter_by: str
) -> tuple[str | None, float | None]:
  for name in ('log_prob_true', 'logit'):
    if name in line:
      return name, line[name]
  if filter_by == 'log_probs' and line.get('log_probs'):
    return 'mean log_prob', statistics.fmean(line['log_probs'])
  return None, None


def _read_steps(path: epath.Path) -> Iterator[dict[str, float]]:
  """Steps of metrics.jsonl; training may be writing the last one."""
  if path.exists():
    for line in path.read_bytes().splitlines(keepends=True):
      if line.endswith(b'\n'):
        yield json.loads(line)
