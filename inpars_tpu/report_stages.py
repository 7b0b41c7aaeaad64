"""What the manifests of a run say of its stages: time, counts, recipe.

Pure: a record in, blocks of a page out.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from inpars_tpu import charts, page, report_record

SECONDS = (
  'Seconds of the call that finished a stage: what an earlier call that was '
  'cut off had saved is not in them. Device-hours are seconds times the '
  'devices that the process held, also while they were idle.'
)
_PLANNED = (
  'Planned for {machine}, at {utilisation:.0%} of its peaks where those are '
  'known; loading and compiling are in the seconds measured alone.'
)


def device_hours(record: Mapping[str, Any]) -> float:
  """Of a stage's manifest; a process without a device counts as one."""
  return record['seconds'] * max(1, len(record['devices'])) / 3_600


def time(
  record: report_record.Record, price: float | None
) -> Iterator[page.Block]:
  """Blocks of how long each stage took, and what it cost."""
  if not record.stages:
    return
  yield charts.bars(
    'seconds', 'Seconds of each stage', list(record.stages),
    {'seconds': [stage['seconds'] for stage in record.stages.values()]},
    show='{:,.1f}'.format,
  )  # fmt: skip
  header = ['stage', 'devices', 'seconds', 'device-hours']
  rows, totals = [], [0.0, 0.0]
  for verb, stage in record.stages.items():
    hours = device_hours(stage)
    totals = [totals[0] + stage['seconds'], totals[1] + hours]
    rows.append([verb, _devices(stage), *money(stage['seconds'], hours, price)])
  rows.append(['sum', '', *money(*totals, price)])
  note = SECONDS
  if price is not None:
    header = [*header, 'cost']
    note += f' Cost at {price:g} for one device and hour.'
  yield page.Table('Stages', header, rows, num_texts=2, note=note)
  yield from _planned(record)


def _planned(record: report_record.Record) -> Iterator[page.Block]:
  """What `run` planned for its machine before it began, beside what was."""
  rows = []
  for verb, planned in record.plan.get('stages', {}).items():
    stage = record.stages.get(verb)
    if stage and planned['flops']:
      reached = planned['flops'] / max(stage['seconds'], 1e-3)
      wanted = planned['seconds']
      rows.append(
        [verb, _tera(planned['flops']),
         '' if wanted is None else f'{wanted:,.1f}', f'{stage["seconds"]:,.1f}',
         _tera(reached)]
      )  # fmt: skip
  if rows:
    yield page.Table(
      'Planned and measured',
      ['stage', 'TFLOP planned', 'seconds planned', 'seconds', 'TFLOP/s'],
      rows, num_texts=1, note=_PLANNED.format(
        machine=record.plan['machine'],
        utilisation=record.plan['utilisation'],
      ),
    )  # fmt: skip


def _tera(value: float) -> str:
  """_tera(9e15) -> '9,000'; _tera(1.234e9) -> '0.00123'."""
  value /= 1e12
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def money(seconds: float, hours: float, price: float | None) -> list[str]:
  """Cells: seconds, device-hours and, where there is a price, the cost."""
  cells = [f'{seconds:,.1f}', f'{hours:,.4f}']
  return cells if price is None else [*cells, f'{hours * price:,.2f}']


def _devices(stage: Mapping[str, Any]) -> str:
  kinds = stage['devices']
  return ', '.join(f'{kinds.count(k)} {k}' for k in dict.fromkeys(kinds))


def counts(record: report_record.Record) -> Iterator[page.Block]:
  """A table of all that the stages counted."""
  rows = []
  for verb, stage in record.stages.items():
    for name, value in stage.get('counts', {}).items():
      if isinstance(value, dict):
        rows += [[verb, f'{name}: {k}', f'{v:,}'] for k, v in value.items()]
      else:
        rows.append([verb, name, f'{value:,}'])
  if rows:
    yield page.Table(
      'What went in and out of each stage', ['stage', 'what', 'how many'],
      rows, num_texts=2,
    )  # fmt: skip


def recipe(record: report_record.Record) -> Iterator[page.Block]:
  """Tables of the settings, the inputs and the versions."""
  settings, versions, inputs = {}, {}, {}
  for verb, stage in record.stages.items():
    versions |= stage['versions']
    for name, value in stage['settings'].items():
      settings.setdefault((name, json.dumps(value)), []).append(verb)
    for name, source in stage['inputs'].items():
      key = source['path'].rstrip('/').split('/')[-1]
      inputs.setdefault((key, source['sha256'][:12]), []).append(
        f'{verb} ({name})'
      )
  for title, header, rows in (
    ('Recipe', ['name', 'value', 'of stage'],
     [[*key, ', '.join(verbs)] for key, verbs in sorted(settings.items())]),
    ('Inputs', ['file or folder', 'sha256', 'of stage'],
     [[*key, ', '.join(verbs)] for key, verbs in inputs.items()]),
    ('Versions', ['package', 'version'],
     [list(item) for item in sorted(versions.items())]),
  ):  # fmt: skip
    if rows:
      yield page.Table(title, header, rows, num_texts=3)
