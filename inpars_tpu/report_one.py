"""The page of one dataset: what of its record is shown, in which order.

Pure: a record and published numbers in, a page out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inpars_tpu import charts, page, published, report_record, report_stages

MEASURE = 'nDCG@10'
# Our run -> the published method that it is to be compared with.
COMPARED = {
  'bm25': 'bm25',
  'reranked_base': 'monot5_3b',
  'reranked': 'inpars_v2',
}
_NUM_EXTREMES = 5  # Queries listed at either end of the win and loss plot.
_VALIDATION = 'validation_'


def build(
  record: report_record.Record,
  figures: Mapping[str, float],
  price: float | None = None,
) -> page.Page:
  """The page of one dataset.

  Args:
    record: what its folder holds.
    figures: method, as published.TITLES calls it -> published nDCG@10.
    price: of one device for one hour; None: no cost.
  """
  sections = [
    page.Section('Results', list(_results(record, figures, price))),
    page.Section('Test queries won and lost', list(_won_and_lost(record))),
    page.Section('Synthetic queries', list(_synthetic(record))),
    page.Section('Training', list(_training(record))),
    page.Section('Time and cost', list(report_stages.time(record, price))),
    page.Section('Counts', list(report_stages.counts(record))),
    page.Section('Recipe and versions', list(report_stages.recipe(record))),
  ]
  return page.Page(
    f'inpars_tpu: {record.name}',
    subtitle(record),
    [*warnings([record]), *_not_done(record)],
    [section for section in sections if section.blocks],
  )


def subtitle(record: report_record.Record) -> str:
  """Which models, and how many documents."""
  parts = []
  for verb, words in (('generate', 'queries by'), ('train', 'reranker from')):
    model = record.stages.get(verb, {'inputs': {}})['inputs'].get('model')
    if model:
      parts.append(f'{words} {model["path"].rstrip("/").split("/")[-1]}')
  index = record.stages.get('index')
  if index:
    parts.insert(0, f'{index["counts"]["in"]:,} documents')
  return ', '.join(parts) or 'nothing is complete yet'


def warnings(records: Sequence[report_record.Record]) -> list[str]:
  """What a reader must know of the models."""
  roles = sorted({role for record in records for role in record.untrained})
  if not roles:
    return []
  return [
    f'The {" and the ".join(roles)} had random, untrained weights: the '
    'figures show that the loop runs, and nothing about quality.'
  ]


def show_published(method: str, value: float) -> str:
  """With the digits that it was published with."""
  return f'{value:.{4 if method.startswith("bm25") else 3}f}'


def own_and_published(
  metrics: Mapping[str, Mapping[str, Any]], figures: Mapping[str, float]
) -> list[list[str]]:
  """Rows [run, method, ours, published, difference]; then methods alone."""
  rows, seen = [], set()
  for run, values in metrics.items():
    method = COMPARED.get(run)
    theirs = figures.get(method)
    ours = f'{values[MEASURE]:.4f}'
    if theirs is None:
      rows.append([_called(run), '', ours, '', ''])
    else:
      seen.add(method)
      rows.append(
        [_called(run), published.TITLES[method], ours,
         show_published(method, theirs), f'{values[MEASURE] - theirs:+.4f}']
      )  # fmt: skip
  rows += [
    ['', published.TITLES[method], '', show_published(method, value), '']
    for method, value in figures.items()
    if method not in seen
  ]
  return rows


def _not_done(record: report_record.Record) -> list[str]:
  notes = []
  if record.begun:
    notes.append(f'Begun and not complete: {", ".join(record.begun)}.')
  testing = list(report_record.TESTING.values())
  if record.missing == testing and not record.begun:
    notes.append('No test queries were run: there is nothing to evaluate.')
  elif record.missing:
    notes.append(f'Not there yet: {", ".join(record.missing)}.')
  return notes


def _results(record, figures, price) -> Iterator[page.Block]:
  yield page.Facts(list(_facts(record, price)))
  if not record.metrics:
    return
  measures = [
    name
    for name, value in next(iter(record.metrics.values())).items()
    if isinstance(value, float)
  ]
  yield page.Table(
    'On the test queries', ['run', *measures],
    [
      [_called(run), *(f'{values[m]:.4f}' for m in measures)]
      for run, values in record.metrics.items()
    ],
    note=('Means over the forums of means' if _forums(record) else 'Means')
    + ' over all judged queries; one that a run leaves out counts 0.',
  )  # fmt: skip
  yield from _by_forum(record)
  yield from _versus(record, measures)
  ours = [
    (_called(run), values[MEASURE], 's2')
    for run, values in record.metrics.items()
  ]
  theirs = [
    (f'{published.TITLES[method]}, publ.', value, 's0')
    for method, value in figures.items()
  ]
  labels, values, classes = zip(*ours, *theirs, strict=True)
  yield charts.bars(
    'bars', f'{MEASURE}, ours' + (' and published' if theirs else ''), labels,
    {MEASURE: values}, show='{:.4f}'.format, classes=classes,
  )  # fmt: skip
  if len(record.per_query) > 1:
    first, *_, last = record.per_query
    yield charts.differences(
      'won-and-lost', f'{_called(last)} minus {_called(first)}, by query',
      f'difference of {MEASURE}', list(_changes(record).values()),
    )  # fmt: skip
  if figures:
    yield page.Table(
      f'{MEASURE} beside what was published',
      ['run', 'published as', 'ours', 'published', 'difference'],
      own_and_published(record.metrics, figures),
      num_texts=2,
      note='InPars was published with GPT-J-6B and monoT5-3B. Figures: BM25 '
      'of Pyserini, the others of arXiv:2307.04601.',
    )
  else:
    yield page.Paragraph(f'Nothing published is known for {record.name}.')


def _forums(record) -> list[str]:
  return list(next(iter(record.metrics.values()), {}).get('forums', {}))


def _by_forum(record) -> Iterator[page.Table]:
  """The main measure of each forum, where the dataset is forums."""
  names = _forums(record)
  if names:
    yield page.Table(
      f'{MEASURE} of each forum', ['forum', *map(_called, record.metrics)],
      [
        [name, *(f'{values["forums"][name][MEASURE]:.4f}'
                 for values in record.metrics.values())]
        for name in names
      ],
    )  # fmt: skip


def _facts(record, price) -> Iterator[tuple[str, str, str]]:
  if record.metrics:
    run, values = list(record.metrics.items())[-1]
    name = _called(run)
    yield f'{MEASURE}, {name}', f'{values[MEASURE]:.4f}', ''
    first, base = next(iter(record.metrics.items()))
    if first != run:
      difference = values[MEASURE] - base[MEASURE]
      p_value = values.get('versus', {}).get(MEASURE, {}).get('p_value')
      yield (
        f'against {_called(first)}',
        f'{difference:+.4f}',
        '' if p_value is None else f'p = {p_value:.4f}, randomisation test',
      )
  if record.kept:
    total = sum(record.tokens.values())
    yield (
      'queries kept', f'{record.kept.count:,}',
      f'of {total:,} written' if total else '',
    )  # fmt: skip
  if record.stages:
    hours = sum(map(report_stages.device_hours, record.stages.values()))
    yield (
      'device-hours', '< 0.001' if hours < 0.001 else f'{hours:,.3f}',
      '' if price is None else f'cost {hours * price:,.2f}',
    )  # fmt: skip


def _versus(record, measures: Sequence[str]) -> Iterator[page.Table]:
  """The significance test of every run that has one."""
  rows = []
  for run, values in record.metrics.items():
    if 'versus' in values:
      base = values['versus']['baseline']
      cells = [values['versus'][m] for m in measures]
      rows.append(
        [
          _called(run),
          *(f'{c["difference"]:+.4f} ({c["p_value"]:.4f})' for c in cells),
        ]
      )
  if rows:
    yield page.Table(
      f'Difference to {_called(base)}, and its p-value', ['run', *measures],
      rows, note='Paired two-sided randomisation test over the queries.',
    )  # fmt: skip


def _changes(record) -> dict[str, float]:
  """query_id -> how much the last run is above the first."""
  base, *_, other = record.per_query.values()
  return {q: other[q][MEASURE] - base[q][MEASURE] for q in base}


def _called(run: str) -> str:
  return report_record.RUN_NAMES.get(run, run)


def _won_and_lost(record) -> Iterator[page.Block]:
  if len(record.per_query) < 2:
    return
  (first, base), *_, (last, other) = record.per_query.items()
  changes = _changes(record)
  ordered = sorted(changes, key=lambda query_id: -changes[query_id])
  texts = ['text'] if record.questions else []
  header = ['query', *texts, _called(first), _called(last), 'difference']
  for title, ids in (
    ('Won most', [q for q in ordered if changes[q] > 0][:_NUM_EXTREMES]),
    ('Lost most', [q for q in ordered[::-1] if changes[q] < 0][:_NUM_EXTREMES]),
  ):
    rows = [
      [q, *(page.clip(record.questions.get(q, ''), 200) for _ in texts),
       f'{base[q][MEASURE]:.4f}', f'{other[q][MEASURE]:.4f}',
       f'{changes[q]:+.4f}']
      for q in ids
    ]  # fmt: skip
    if rows:
      yield page.Table(title, header, rows, num_texts=1 + len(texts))


def _synthetic(record) -> Iterator[page.Block]:
  kept, filtered = record.kept, record.stages.get('filter', {})
  found = filtered.get('histogram')
  if found and kept and kept.score_name:
    yield charts.histogram(
      'scores', 'Filter scores, before the cut', kept.score_name,
      found['edges'], {'queries': found['counts']},
      cut=('lowest that was kept', kept.lowest_score),
    )  # fmt: skip
  if record.tokens or kept:
    yield _lengths(record.tokens, kept.tokens if kept else {})
  counts = filtered.get('counts')
  if counts:
    ends = [*counts['dropped'].items(), ('kept', counts['out']),
            ('validation', counts['validation'])]  # fmt: skip
    yield charts.bars(
      'dropped', 'Why queries were dropped, and what is left',
      [reason for reason, _ in ends], {'queries': [n for _, n in ends]},
      show='{:,}'.format,
      classes=['s0'] * len(counts['dropped']) + ['s2', 's1'],
    )  # fmt: skip
  if kept:
    for title, queries in (
      (f'{len(kept.chosen)} of {kept.count:,} that were kept, drawn by the '
       'seed', kept.chosen),
      (f'The {len(kept.worst)} worst of them', kept.worst),
    ):  # fmt: skip
      if queries:
        yield page.Samples(
          title, [_sample(query, kept.score_name) for query in queries]
        )


def _lengths(all_tokens, kept_tokens) -> charts.Figure:
  """Bins of whole tokens; a long tail ends in the last bin's edge."""
  longest = max([*all_tokens, *kept_tokens])
  width = max(1, -(-(longest + 1) // 32))
  edges = list(range(0, longest + width + 1, width))
  counts = {}
  for words, tokens in (
    ('written', all_tokens),
    ('of those, kept', kept_tokens),
  ):
    if tokens:
      column = [0] * (len(edges) - 1)
      for length, number in tokens.items():
        column[length // width] += number
      counts[words] = column
  return charts.histogram(
    'lengths', 'Length of synthetic queries', 'tokens', edges, counts
  )


def _sample(query: report_record.Query, score_name: str | None) -> page.Sample:
  score = '' if query.score is None else f'{score_name} {query.score:.4g}'
  return page.Sample(query.query, score, query.doc_id, query.text)


def _training(record) -> Iterator[page.Block]:
  columns: dict[str, list[tuple[float, float]]] = {}
  for step in record.steps:
    for name, value in step.items():
      if math.isfinite(value):  # A plot has no place for the others.
        columns.setdefault(name, []).append((step['step'], value))
  num_lost = sum(
    not math.isfinite(step.get('loss', 0)) for step in record.steps
  )
  if num_lost:
    yield page.Paragraph(
      f'The loss of {num_lost:,} of {len(record.steps):,} steps is no number.'
    )
  for measure, title in (
    ('loss', 'Loss'),
    ('accuracy', 'Accuracy'),
    ('mrr', 'MRR of the positive among its negatives'),
    ('learning_rate', 'Learning rate'),
  ):
    series = {
      words: columns[name]
      for name, words in (
        (measure, 'training batch'),
        (f'{_VALIDATION}{measure}', 'validation queries'),
      )
      if name in columns
    }
    if series:
      yield charts.lines(f'train-{measure}', title, 'step', series)
  train = record.stages.get('train')
  if train:
    read = [
      f'{epochs:,} epochs of {train["counts"][kind]:,} {kind}'
      for kind, epochs in train.get('epochs', {}).items()
    ]
    found = (train.get('validation') or {}).items()
    text = f'{len(record.steps):,} steps: {", ".join(read)}.'
    if found:
      text += ' On the validation queries, at the end: '
      text += ', '.join(f'{name} {value:.4f}' for name, value in found) + '.'
    yield page.Paragraph(text)
