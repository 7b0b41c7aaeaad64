"""What the runs of a sweep gave: one table, and one page with its links.

Pure, but for `write`: records in, rows out.
"""

import statistics
from collections.abc import Mapping, Sequence

from etils import epath

from inpars_tpu import (
  charts,
  files,
  page,
  report,
  report_all,
  report_html,
  report_markdown,
  report_record,
)

MEASURE = report_all.MEASURE
LAST = 'reranked'
Results = Mapping[str, Sequence[report_all.Dataset]]  # Setting -> datasets.


def rows(results: Results) -> list[list[str]]:
  """[dataset, setting, seeds, each run's mean ± deviation, best] rows.

  All settings of a dataset stand together, as in `results`; the one whose
  fine-tuned reranker is best on the mean of its seeds says so. At the end the
  means of each setting over the datasets that all settings have.
  """
  runs = _runs(results)
  table = []
  for dataset in _datasets(results):
    there = {
      setting: found
      for setting, datasets in results.items()
      for found in datasets
      if found.name == dataset
    }
    best = _best(
      {s: d.means[LAST] for s, d in there.items() if LAST in d.means}
    )
    for setting, found in there.items():
      cells = [found.show(run) for run in runs]
      seeds = str(len(found.records))
      table.append(
        [dataset, setting, seeds, *cells, 'best' * (setting == best)]
      )
  return table + _means(results, runs)


def header(results: Results) -> list[str]:
  """Of `rows`."""
  names = [report_record.RUN_NAMES.get(run, run) for run in _runs(results)]
  return ['dataset', 'setting', 'seeds', *names, '']


def to_text(results: Results) -> str:
  """The table for a terminal."""
  table = [header(results), *rows(results)]
  widths = [max(map(len, column)) for column in zip(*table, strict=True)]
  return '\n'.join(
    '  '.join(
      cell.ljust(width) for cell, width in zip(row, widths, strict=True)
    ).rstrip()
    for row in table
  )


def build(
  name: str,
  results: Results,
  failed: Sequence[tuple[str, str]],
  links: Sequence[tuple[str, str]],
) -> page.Page:
  """The page of a sweep.

  Args:
    name: of the sweep.
    results: what is complete.
    failed: run and what is known of it.
    links: words and address of the settings' own pages.
  """
  blocks: list[page.Block] = []
  if results:
    datasets = _datasets(results)
    blocks.append(
      page.Table(
        MEASURE, header(results), rows(results), num_texts=2,
        note='Mean and sample standard deviation over seeds. Best: of the '
        'fine-tuned rerankers of a dataset.',
      )
    )  # fmt: skip
    values = {
      setting: {d.name: d.means.get(LAST) for d in found}
      for setting, found in results.items()
    }
    blocks.append(
      charts.bars(
        'bars', f'{MEASURE}, {report_record.RUN_NAMES[LAST]}', datasets,
        {
          setting: [means.get(dataset) for dataset in datasets]
          for setting, means in values.items()
        },
        show='{:.3f}'.format,
      )
    )  # fmt: skip
  lost = [page.Table('Failed', ['run', 'what'], failed, num_texts=2)]
  sections = [
    page.Section('Results', blocks),
    page.Section('Not complete', lost if failed else []),
    page.Section('Pages of the settings', [page.Links(links)] if links else []),
  ]
  return page.Page(
    f'inpars_tpu: sweep {name}',
    f'{len(results)} settings, {len(_datasets(results))} datasets',
    [],
    [section for section in sections if section.blocks],
  )


def write(
  name: str,
  work_dir: epath.Path,
  folders: Mapping[str, Sequence[epath.Path]],
  failed: Sequence[tuple[str, str]],
) -> tuple[str, epath.Path]:
  """Writes sweep.html, sweep.md and each setting's report.

  Args:
    name: of the sweep.
    work_dir: the sweep's.
    folders: setting -> its complete datasets' folders.
    failed: as `build` takes it.

  Returns:
    The table for a terminal, and the path of sweep.html.
  """
  results, links = {}, []
  for setting, places in folders.items():
    if places:
      records = [report_record.read(place) for place in places]
      results[setting] = report_all.group(records)
      report.write(work_dir / setting)
      links.append((setting, f'{setting}/report.html'))
  content = build(name, results, failed, links)
  files.write_text(work_dir / 'sweep.md', report_markdown.to_markdown(content))
  files.write_text(work_dir / 'sweep.html', report_html.to_html(content))
  return to_text(results), work_dir / 'sweep.html'


def _means(results: Results, runs: Sequence[str]) -> list[list[str]]:
  names = [{d.name for d in found} for found in results.values()]
  common = set.intersection(*names) if names else set()
  if len(common) < 2:
    return []
  means = {
    setting: {
      run: statistics.fmean(d.means[run] for d in found if d.name in common)
      for run in runs
      if all(run in d.means for d in found if d.name in common)
    }
    for setting, found in results.items()
  }
  best = _best({s: row[LAST] for s, row in means.items() if LAST in row})
  return [
    [f'mean of {len(common)}', setting, '',
     *(f'{row[run]:.4f}' if run in row else '' for run in runs),
     'best' * (setting == best)]
    for setting, row in means.items()
  ]  # fmt: skip


def _best(means: Mapping[str, float]) -> str | None:
  """Of two settings or more; None where others are as good."""
  best = [name for name, mean in means.items() if mean == max(means.values())]
  return best[0] if len(means) > 1 and len(best) == 1 else None


def _datasets(results: Results) -> list[str]:
  return list(
    dict.fromkeys(d.name for found in results.values() for d in found)
  )


def _runs(results: Results) -> list[str]:
  return list(
    dict.fromkeys(
      r for found in results.values() for d in found for r in d.means
    )
  )
