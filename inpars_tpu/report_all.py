"""The page of several datasets; those of one name are seeds of one dataset.

Pure: records and published numbers in, a page out.
"""

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence

from inpars_tpu import (
  charts,
  page,
  published,
  report_one,
  report_record,
  report_stages,
)

MEASURE = report_one.MEASURE
Published = Mapping[str, Mapping[str, float]]  # Dataset -> method -> value.


@dataclasses.dataclass(frozen=True)
class Dataset:
  """What the seeds of one dataset gave."""

  name: str
  records: Sequence[report_record.Record]  # Those with metrics.
  means: Mapping[str, float]  # Run -> mean of nDCG@10.
  deviations: Mapping[str, float]  # Of two seeds or more.

  def show(self, run: str) -> str:
    """'0.7740', '0.7740 ± 0.0031' or ''."""
    if run not in self.means:
      return ''
    text = f'{self.means[run]:.4f}'
    if run in self.deviations:
      text += f' ± {self.deviations[run]:.4f}'
    return text


def build(
  name: str,
  records: Sequence[report_record.Record],
  figures: Published,
  price: float | None = None,
  links: Sequence[tuple[str, str]] = (),
) -> page.Page:
  """The page of several datasets.

  Args:
    name: of the folder.
    records: of each folder below it, whatever is complete.
    figures: what was published.
    price: of one device for one hour; None: no cost.
    links: words and address of the datasets' own pages.
  """
  datasets = group(records)
  notes = [*report_one.warnings(records)]
  waiting = [record.name for record in records if not record.metrics]
  if waiting:
    notes.append(f'Not evaluated yet: {", ".join(waiting)}.')
  blocks = list(_results(datasets, figures)) if datasets else []
  sections = [
    page.Section('Results', blocks),
    page.Section('Beside what was published', list(_beside(datasets, figures))),
    page.Section('Time and cost', list(_time(records, price))),
    page.Section('Pages of the datasets', [page.Links(links)] if links else []),
  ]
  names = {record.name for record in records}
  seeds = f', {len(records)} runs' if len(records) > len(names) else ''
  counted = '1 dataset' if len(names) == 1 else f'{len(names)} datasets'
  return page.Page(
    f'inpars_tpu: {counted} of {name}',
    f'{", ".join(sorted(names))}{seeds}',
    notes,
    [section for section in sections if section.blocks],
  )


def group(records: Sequence[report_record.Record]) -> list[Dataset]:
  """Datasets with metrics, in the order in which they come."""
  found: dict[str, list[report_record.Record]] = {}
  for record in records:
    if record.metrics:
      found.setdefault(record.name, []).append(record)
  datasets = []
  for name, same in found.items():
    values: dict[str, list[float]] = {}
    for record in same:
      for run, metrics in record.metrics.items():
        values.setdefault(run, []).append(metrics[MEASURE])
    datasets.append(
      Dataset(
        name,
        same,
        {run: statistics.fmean(column) for run, column in values.items()},
        {
          run: statistics.stdev(column)
          for run, column in values.items()
          if len(column) > 1
        },
      )
    )
  return datasets


def _results(
  datasets: Sequence[Dataset], figures: Published
) -> Iterator[page.Block]:
  runs = list(dict.fromkeys(run for d in datasets for run in d.means))
  names = [report_record.RUN_NAMES.get(run, run) for run in runs]
  rows = [[d.name, *map(d.show, runs)] for d in datasets]
  complete = [d for d in datasets if d.means.keys() >= set(runs)]
  if len(complete) > 1:
    means = (statistics.fmean(d.means[r] for d in complete) for r in runs)
    rows.append([f'mean of {len(complete)}', *(f'{m:.4f}' for m in means)])
  note = (
    'Mean and sample standard deviation over seeds.'
    if any(d.deviations for d in datasets)
    else ''
  )
  yield page.Table(MEASURE, ['dataset', *names], rows, note=note)
  paper = [figures.get(d.name, {}).get('inpars_v2') for d in datasets]
  has_paper = any(value is not None for value in paper)
  yield charts.bars(
    'bars', f'{MEASURE} of each dataset', [d.name for d in datasets],
    {
      name: [d.means.get(run) for d in datasets]
      for run, name in zip(runs, names, strict=True)
    },
    show='{:.3f}'.format,
    marks=('InPars-v2, published', paper) if has_paper else None,
  )  # fmt: skip


def _beside(
  datasets: Sequence[Dataset], figures: Published
) -> Iterator[page.Block]:
  known = [d for d in datasets if figures.get(d.name)]
  if not known:
    return
  for run, method in reversed(report_one.COMPARED.items()):
    rows, differences = [], []
    for dataset in known:
      theirs = figures[dataset.name].get(method)
      if run in dataset.means and theirs is not None:
        differences.append(dataset.means[run] - theirs)
        rows.append(
          [dataset.name, dataset.show(run), _show(method, theirs),
           f'{differences[-1]:+.4f}']
        )  # fmt: skip
    if len(rows) > 1:
      mean = statistics.fmean(differences)
      rows.append([f'mean of {len(differences)}', '', '', f'{mean:+.4f}'])
    if rows:
      yield page.Table(
        f'{report_record.RUN_NAMES[run]}, beside {published.TITLES[method]} as '
        'published',
        ['dataset', 'ours', 'published', 'difference'], rows,
      )  # fmt: skip
  methods = [
    m for m in published.TITLES if any(m in figures[d.name] for d in known)
  ]
  yield page.Table(
    f'All that was published, {MEASURE}',
    ['dataset', *(published.TITLES[m] for m in methods)],
    [
      [d.name, *(_show(m, figures[d.name].get(m)) for m in methods)]
      for d in known
    ],
  )


def _show(method: str, value: float | None) -> str:
  return '' if value is None else report_one.show_published(method, value)


def _time(
  records: Sequence[report_record.Record], price: float | None
) -> Iterator[page.Block]:
  sums: dict[str, list[float]] = {}
  for record in records:
    seconds = sum(stage['seconds'] for stage in record.stages.values())
    hours = sum(map(report_stages.device_hours, record.stages.values()))
    before = sums.get(record.name, [0.0, 0.0])
    sums[record.name] = [before[0] + seconds, before[1] + hours]
  total = [sum(column) for column in zip(*sums.values(), strict=True)]
  rows = [
    [name, *report_stages.money(*both, price)]
    for name, both in [*sums.items(), ('sum', total)]
  ]
  header = ['dataset', 'seconds', 'device-hours']
  if price is not None:
    header.append('cost')
  yield page.Table('All stages', header, rows, note=report_stages.SECONDS)
