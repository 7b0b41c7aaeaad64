"""One plain page of what a run gave: report.html, and report.md for pasting.

Reads the files of one dataset's folder, or of every such folder below one;
computes nothing but averages.
"""

import dataclasses
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from inpars_tpu import errors, files, manifest

_METRICS = 'metrics.json'
_NUM_SAMPLES = 20
NAMES = {
  'bm25': 'BM25',
  'reranked_base': 'reranker before',
  'reranked': 'reranker after',
}
# Outputs of a dataset's folder whose manifests the page shows, in their order.
_OUTPUTS = (
  'documents.jsonl',
  'queries',
  'filtered.jsonl',
  'index',
  'pairs',
  '.',
  'bm25.trec',
  'reranked_base.trec',
  'reranked.trec',
  _METRICS,
)
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block;
  overflow-x: auto; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #8886;
  text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.note { border-left: 4px solid #b80; padding-left: 1rem; }
"""


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of the page; cells are texts or numbers."""

  title: str
  header: Sequence[str]
  rows: Sequence[Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Page:
  """All that the two files show."""

  title: str
  notes: Sequence[str]
  tables: Sequence[Table]


def main(args) -> None:
  """`inpars-tpu report`."""
  for path in write(args.work_dir):
    print(path)


def write(work_dir: files.PathLike) -> list[epath.Path]:
  """Writes report.html and report.md into a folder; returns their paths.

  Raises:
    InputError: neither the folder nor one just below it holds a run.
  """
  work_dir = files.must_exist(work_dir, 'work_dir')
  folders = find_folders(work_dir)
  page = _page_of_one(folders[0]) if folders == [work_dir] else _page_of_all(
    work_dir, folders
  )  # fmt: skip
  html_path, markdown_path = work_dir / 'report.html', work_dir / 'report.md'
  files.write_text(html_path, to_html(page))
  files.write_text(markdown_path, to_markdown(page))
  return [html_path, markdown_path]


def find_folders(work_dir: epath.Path) -> list[epath.Path]:
  """The folder itself if it holds a run, else those just below that do."""
  if _is_run(work_dir):
    return [work_dir]
  below = sorted(
    (
      entry for entry in work_dir.iterdir() if entry.is_dir() and _is_run(entry)
    ),
    key=lambda entry: entry.name,
  )
  if not below:
    raise errors.InputError(
      f'{work_dir} holds no finished run: neither metrics.json nor '
      'filtered.jsonl is there'
    )
  return below


def result_rows(
  metrics: Mapping[str, Mapping[str, float]],
) -> list[tuple[str, float]]:
  """(name in words, nDCG@10) of each run."""
  return [
    (NAMES.get(name, name), values['nDCG@10'])
    for name, values in metrics.items()
  ]


def untrained(folder: epath.Path) -> list[str]:
  """Which models of a run have random weights: 'generator', 'reranker'."""
  found = []
  for output, role in (('queries', 'generator'), ('.', 'reranker')):
    record = manifest.read(folder / output) or {'inputs': {}}
    model = record['inputs'].get('model')
    if model and epath.Path(model['path']).exists():
      origin = manifest.read(model['path'])
      if origin and origin['command'] == 'init':
        found.append(role)
  return found


def to_html(page: Page) -> str:
  """A page that needs no other file and no network."""
  body = [f'<h1>{html.escape(page.title)}</h1>']
  body += [f'<p class="note">{html.escape(note)}</p>' for note in page.notes]
  for table in page.tables:
    head = ''.join(
      f'<th scope="col">{html.escape(c)}</th>' for c in table.header
    )
    rows = ''.join(
      f'<tr>{"".join(map(_html_cell, row))}</tr>\n' for row in table.rows
    )
    body.append(
      f'<h2>{html.escape(table.title)}</h2>\n<table>\n<thead><tr>{head}</tr>'
      f'</thead>\n<tbody>\n{rows}</tbody>\n</table>'
    )
  content = '\n'.join(body)
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<link rel="icon" href="data:,">\n'
    f'<title>{html.escape(page.title)}</title>\n<style>{_STYLE}</style>\n'
    f'</head>\n<body>\n<main>\n{content}\n</main>\n</body>\n</html>\n'
  )


def to_markdown(page: Page) -> str:
  """The same as tables of Markdown."""
  lines = [f'# {page.title}', '']
  for note in page.notes:
    lines += [f'> {note}', '']
  for table in page.tables:
    lines += [f'## {table.title}', '', _markdown_row(table.header)]
    lines.append(_markdown_row(['---'] * len(table.header)))
    lines += [_markdown_row(map(_text, row)) for row in table.rows] + ['']
  return '\n'.join(lines)


def _is_run(folder: epath.Path) -> bool:
  return any((folder / n).exists() for n in (_METRICS, 'filtered.jsonl'))


def _page_of_one(folder: epath.Path) -> Page:
  tables = []
  metrics = _metrics(folder)
  if metrics:
    tables.append(_metrics_table(metrics))
  tables += [_stages_table(folder), _dropped_table(folder)]
  if (folder / 'filtered.jsonl').exists():
    tables.append(_samples_table(folder))
  tables.append(_recipe_table(folder))
  return Page(f'inpars_tpu: {folder.resolve().name}', _notes([folder]), tables)


def _page_of_all(work_dir: epath.Path, folders: list[epath.Path]) -> Page:
  found = {folder.name: _metrics(folder) for folder in folders}
  found = {name: metrics for name, metrics in found.items() if metrics}
  runs = list(dict.fromkeys(run for m in found.values() for run in m))
  rows = [
    [name, *(m[run]['nDCG@10'] if run in m else '' for run in runs)]
    for name, m in found.items()
  ]
  complete = [row for row in rows if '' not in row]
  if complete:
    columns = list(zip(*(row[1:] for row in complete), strict=True))
    rows.append(['mean', *(sum(c) / len(c) for c in columns)])
  header = ['dataset', *(NAMES.get(run, run) for run in runs)]
  title = f'inpars_tpu: {len(folders)} datasets of {work_dir.resolve().name}'
  return Page(title, _notes(folders), [Table('nDCG@10', header, rows)])


def _notes(folders: Iterable[epath.Path]) -> list[str]:
  roles = sorted({role for folder in folders for role in untrained(folder)})
  if not roles:
    return []
  return [
    f'The {" and the ".join(roles)} had random, untrained weights: the '
    'figures show that the loop runs, and nothing about quality.'
  ]


def _metrics(folder: epath.Path) -> dict[str, dict[str, float]]:
  path = folder / _METRICS
  return files.read_json(path, 'metrics') if path.exists() else {}


def _metrics_table(metrics) -> Table:
  measures = list(next(iter(metrics.values())))
  rows = [
    [NAMES.get(run, run), *(values[m] for m in measures)]
    for run, values in metrics.items()
  ]
  return Table('Results on the test queries', ['run', *measures], rows)


def _records(folder: epath.Path) -> list[tuple[str, dict[str, Any]]]:
  found = []
  for name in _OUTPUTS:
    if (folder / name).exists():
      record = manifest.read(folder / name)
      if record:
        found.append((name, record))
  return found


def _stages_table(folder: epath.Path) -> Table:
  rows = [
    [record['command'], 'model' if name == '.' else name, record['seconds'],
     ', '.join(dict.fromkeys(record['devices']))]
    for name, record in _records(folder)
  ]  # fmt: skip
  return Table('Stages', ['command', 'output', 'seconds', 'devices'], rows)


def _dropped_table(folder: epath.Path) -> Table:
  rows = []
  for _, record in _records(folder):
    for name, value in record.get('counts', {}).items():
      if isinstance(value, dict):
        rows += [
          [record['command'], f'{name}: {k}', v] for k, v in value.items()
        ]
      else:
        rows.append([record['command'], name, value])
  return Table('Counts', ['command', 'what', 'how many'], rows)


def _samples_table(folder: epath.Path) -> Table:
  rows = []
  for _, row in files.read_jsonl(folder / 'filtered.jsonl', 'filtered queries'):
    rows.append([row['query'], row.get('log_prob_true', ''), row['text'][:300]])
    if len(rows) == _NUM_SAMPLES:
      break
  header = ['query', 'log_prob_true', 'document']
  return Table(f'The {len(rows)} best synthetic queries', header, rows)


def _recipe_table(folder: epath.Path) -> Table:
  settings, versions = {}, {}
  for _, record in _records(folder):
    settings |= record['settings']
    versions |= record['versions']
  rows = [[k, json.dumps(v)] for k, v in sorted(settings.items())]
  rows += [[f'version of {k}', v] for k, v in sorted(versions.items())]
  return Table('Recipe and versions', ['name', 'value'], rows)


def _text(cell: Any) -> str:
  if isinstance(cell, float):
    return f'{cell:.4f}'
  return f'{cell:,}' if isinstance(cell, int) else str(cell)


def _html_cell(cell: Any) -> str:
  kind = ' class="number"' if isinstance(cell, int | float) else ''
  return f'<td{kind}>{html.escape(_text(cell))}</td>'


def _markdown_row(cells: Iterable[str]) -> str:
  escaped = (c.replace('|', '\\|').replace('\n', ' ') for c in cells)
  return f'| {" | ".join(escaped)} |'
