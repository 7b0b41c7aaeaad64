"""The synthetic data of a run as a dataset directory of Hugging Face.

JSON lines and a README.md whose header names them: `datasets.load_dataset(DIR,
'queries')` and `(DIR, 'pairs')` read it, from the disk or, uploaded, from the
hub. The manifests of the stages that made it come along.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from inpars_tpu import errors, files, manifest, pairs, report

# Split -> file of the queries; what makes them, in order.
_QUERIES = {'train': 'filtered.jsonl', 'validation': 'validation.jsonl'}
_STAGES = {
  'sample': 'documents.jsonl',
  'generate': 'queries',
  'filter': 'filtered.jsonl',
  'negatives': 'pairs',
}
_README = 'README.md'


def main(args) -> None:
  """`inpars-tpu export`."""
  export(args.work_dir, args.output)


def export(work_dir: files.PathLike, output: files.PathLike) -> None:
  """Writes queries/, pairs/, manifests/ and the card.

  Args:
    work_dir: one dataset's folder, with filtered.jsonl and pairs/.
    output: the dataset directory; nothing is done where it is complete.

  Raises:
    InputError: no such folder, or one whose filter or negatives did not end.
  """
  work = files.must_exist(work_dir, 'work_dir')
  for name in ('filtered.jsonl', 'pairs'):
    if not (work / name).exists() or manifest.read(work / name) is None:
      raise errors.InputError(
        f'{work} has no complete {name}: export needs the folder of one '
        'dataset, after filter and negatives'
      )
  queries = {
    split: work / name
    for split, name in _QUERIES.items()
    if (work / name).exists()
  }
  job = manifest.begin_directory(
    'export', output, settings={'name': pairs.find(work / 'pairs')},
    inputs={**{f'queries {s}': p for s, p in queries.items()},
            'pairs': work / 'pairs'},
  )  # fmt: skip
  if job.is_complete:
    return
  out = job.output
  records = {
    stage: record
    for stage, name in _STAGES.items()
    if (work / name).exists() and (record := manifest.read(work / name))
  }
  counts = {'queries': {}, 'pairs': {}}
  for split, path in queries.items():
    counts['queries'][split] = files.write_jsonl(
      out / 'queries' / f'{split}.jsonl',
      (record for _, record in files.read_jsonl(path, 'queries')),
    )
  for split, rows in pairs.read(work / 'pairs').items():
    counts['pairs'][split] = files.write_jsonl(
      out / 'pairs' / f'{split}.jsonl', (row._asdict() for row in rows)
    )
  # An empty split has no columns that a reader could guess.
  for config, sizes in counts.items():
    for split in [split for split, size in sizes.items() if not size]:
      (out / config / f'{split}.jsonl').unlink()
      del sizes[split]
  for stage, record in records.items():
    files.write_json(out / 'manifests' / f'{stage}.json', record)
  files.write_text(
    out / _README,
    card(pairs.find(work / 'pairs'), counts, records, report.untrained(work)),
  )
  job.finish(counts=counts)


def card(
  name: str,
  counts: Mapping[str, Mapping[str, int]],
  records: Mapping[str, Mapping[str, Any]],
  untrained: Sequence[str] = (),
) -> str:
  """Text of the data card, with the header that names the files.

  Args:
    name: of the dataset.
    counts: config ('queries', 'pairs') -> split -> number of lines.
    records: stage -> its manifest.
    untrained: models that had random weights.
  """
  stages = '\n'.join(
    f'| {stage} | {_settings(record)} | {_dropped(record)} |'
    for stage, record in records.items()
  )
  sizes = '\n'.join(
    f'| {config} | {split} | {size:,} |'
    for config, splits in counts.items()
    for split, size in splits.items()
  )
  models = ''.join(
    f'- {stage}: `{epath.Path(record["inputs"]["model"]["path"]).name}`\n'
    for stage, record in records.items()
    if 'model' in record['inputs']
  )
  warning = ''.join(
    f'\n**The {role} had random, untrained weights: this data shows the form, '
    'and is of no use for training.**\n'
    for role in untrained
  )
  return f"""---
pretty_name: {json.dumps(name)}
task_categories: [text-retrieval, text-ranking]
tags: [synthetic, inpars]
size_categories: [{_size_category(sum(counts['pairs'].values()))}]
configs:
{_configs(counts)}---
# {name}

Queries that a language model wrote for documents of a corpus, kept by a
reranker's score, and training pairs with BM25 negatives: InPars-v2
(arXiv:2301.01820), made by inpars_tpu. Nobody labelled any of them.
{warning}
    datasets.load_dataset(DIR, 'pairs')

| config | split | lines |
|---|---|---|
{sizes}

`queries`: `doc_id`, `query`, `text` (of the document), `log_probs` (natural
log, one per token of the query), and `log_prob_true`, the reranker's, where it
chose; best first. `pairs`: `query`, `document`, `label` (1: the query was
written for the document), `query_id`, `doc_id`, `group` (a positive and its
negatives share one).

## How it was made

| stage | settings | dropped |
|---|---|---|
{stages}

{models}
`manifests/` has versions, devices, seconds and the hashes of all inputs.

## Before it is used

Texts are the corpus's, with whatever licence and personal data they have;
queries may say what their document does not. A negative is a document that BM25
finds for the query: some of them answer it.
"""


def _configs(counts: Mapping[str, Mapping[str, int]]) -> str:
  lines = []
  for config, splits in counts.items():
    lines += [f'- config_name: {config}']
    lines += ['  default: true'] if config == 'pairs' else []
    lines += ['  data_files:']
    for split in splits:
      lines += [f'  - split: {split}', f'    path: {config}/{split}.jsonl']
  return ''.join(f'{line}\n' for line in lines)


def _settings(record: Mapping[str, Any]) -> str:
  return _join(f'{k} = {v!r}' for k, v in record['settings'].items())


def _dropped(record: Mapping[str, Any]) -> str:
  dropped = record.get('counts', {}).get('dropped', {})
  return _join(f'{count:,} {reason}' for reason, count in dropped.items())


def _join(cells: Iterable[str]) -> str:
  return ', '.join(cells).replace('|', '\\|').replace('\n', ' ')


def _size_category(count: int) -> str:
  """_size_category(20_000) -> '10K<n<100K', a name of the hub's."""
  if count < 1_000:
    return 'n<1K'
  for low, name in ((10**6, '1M<n<10M'), (10**5, '100K<n<1M'),
                    (10**4, '10K<n<100K')):  # fmt: skip
    if count >= low:
      return name
  return '1K<n<10K'
