"""A dataset's folder as `run` leaves it, with the files that a report reads."""

import json
import pathlib

METRICS = {
  'bm25': {'nDCG@10': 0.5, 'R@100': 0.75},
  'reranked_base': {'nDCG@10': 0.25, 'R@100': 0.75},
  'reranked': {
    'nDCG@10': 0.625, 'R@100': 0.75,
    'versus': {
      'baseline': 'bm25',
      'nDCG@10': {'difference': 0.125, 'p_value': 0.03125},
      'R@100': {'difference': 0.0, 'p_value': 1.0},
    },
  },
}  # fmt: skip
# Of q1, q2, q3, q4: mean 0.5 and 0.625.
NDCG = {'bm25': [0.5, 0.5, 1.0, 0.0], 'reranked': [1.0, 0.25, 1.0, 0.25]}
QUERY = 'which <b>mill</b> & why'


def write_manifest(path: pathlib.Path, command: str, **fields) -> None:
  record = {
    'command': command, 'settings': {}, 'inputs': {}, 'counts': {},
    'versions': {'jax': '0.10.2'}, 'devices': ['TPU v3', 'TPU v3'],
    'seconds': 90.0,
  }  # fmt: skip
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(record | fields))


def write_jsonl(path: pathlib.Path, records) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(''.join(json.dumps(record) + '\n' for record in records))


def write_run(folder: pathlib.Path, num_kept=30) -> pathlib.Path:
  """40 queries are written, `num_kept` kept, 4 test queries evaluated."""
  write_making(folder, num_kept)
  model = folder.parent / 'monot5'
  write_manifest(model / 'manifest.json', 'init')
  steps = [
    {'step': i, 'loss': 1 / i, 'accuracy': 0.5, 'grad_norm': 2.0}
    for i in range(1, 5)
  ]
  steps[-1] |= {'validation_loss': 0.5, 'validation_mrr': 0.75}
  write_jsonl(folder / 'metrics.jsonl', steps)
  write_manifest(
    folder / 'manifest.json', 'train',
    inputs={'model': {'path': str(model), 'sha256': 'b' * 64}},
    counts={'positive': 30}, epochs={'positive': 2.0},
    validation={'mrr': 0.75},
    settings={'TRAIN_STEPS': 4},
  )  # fmt: skip
  questions = folder.parent / 'questions' / 'queries.jsonl'
  write_jsonl(
    questions, [{'_id': f'q{i}', 'text': f'text of {i}'} for i in range(1, 5)]
  )
  for run in METRICS:
    (folder / f'{run}.trec').write_text('')
    write_manifest(
      folder / f'{run}.trec.manifest.json', 'rerank',
      inputs={'queries': {'path': str(questions), 'sha256': 'c' * 64}},
    )  # fmt: skip
  write_metrics(folder, METRICS)
  per_query = {
    run: {f'q{i}': {'nDCG@10': v} for i, v in enumerate(values, 1)}
    for run, values in NDCG.items()
  }
  (folder / 'metrics.per_query.json').write_text(json.dumps(per_query))
  return folder


def write_making(folder: pathlib.Path, num_kept=30) -> None:
  """Only what comes before training."""
  write_jsonl(folder / 'documents.jsonl', [])
  write_manifest(
    folder / 'documents.jsonl.manifest.json', 'sample',
    settings={'SEED': 7}, counts={'in': 12_345, 'out': 40},
  )  # fmt: skip
  lines = [
    {'doc_id': f'd{i}', 'query': f'query {i}', 'log_probs': [-0.5] * (i % 4)}
    for i in range(40)
  ]
  write_jsonl(folder / 'queries' / 'queries-00000-of-00001.jsonl', lines)
  write_manifest(folder / 'queries' / 'manifest.json', 'generate')
  kept = [
    line | {'text': f'A | mill\nof {i}.', 'log_prob_true': -0.25 - i / 64}
    for i, line in enumerate(lines[:num_kept])
  ]
  kept[-1]['query'] = QUERY
  write_jsonl(folder / 'filtered.jsonl', kept)
  write_manifest(
    folder / 'filtered.jsonl.manifest.json', 'filter',
    settings={'NUM_PAIRS': num_kept, 'FILTER_BY': 'reranker'},
    counts={'in': 40, 'out': num_kept, 'validation': 2,
            'dropped': {'too few tokens': 8}},
    histogram={'edges': [-1.0, -0.5, 0.0], 'counts': [16, 16]},
  )  # fmt: skip
  for name in ('index', 'pairs'):
    write_manifest(
      folder / name / 'manifest.json', name, counts={'in': 12_345, 'out': 9}
    )


def write_metrics(folder: pathlib.Path, metrics) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'metrics.json').write_text(json.dumps(metrics))
  write_manifest(folder / 'metrics.json.manifest.json', 'evaluate', devices=[])
