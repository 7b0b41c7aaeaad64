"""The table of a plan: a stage a row, totals, what was assumed."""

from collections.abc import Sequence
from typing import Any

from inpars_tpu import machines, plan_devices

_GIB = 2**30
_LEAST_BYTES = 5e7  # That the line of the disk names.


def one(plan: Any) -> str:
  """The table of one dataset, totals, and what was assumed."""
  machine, hours = plan.machine, plan.seconds
  rows = [['stage', 'PFLOP', 'TB read', 'hours', 'GiB', '']]
  rows += [
    [stage.name, _count(stage.flops / 1e15), _count(stage.bytes / 1e12),
     _hours(stage.seconds), _memory(stage, machine),
     _what(stage)]
    for stage in plan.stages
  ]  # fmt: skip
  rows.append(
    ['all', _count(sum(stage.flops for stage in plan.stages) / 1e15),
     _count(sum(stage.bytes for stage in plan.stages) / 1e12), _hours(hours),
     '', _money(plan)]
  )  # fmt: skip
  disk = ', '.join(
    f'{what} {num_bytes / 1e9:,.1f}'
    for what, num_bytes in plan.disk.items()
    if num_bytes >= _LEAST_BYTES
  )
  return '\n'.join(
    [
      f'{plan.work.dataset}, {" and ".join(plan.models)}, on {_title(machine)}',
      '',
      *_align(rows),
      '',
      f'disk: {sum(plan.disk.values()) / 1e9:,.1f} GB: {disk}',
      *_too_large(plan),
      '',
      'Assumed:',
      *(f'- {line}' for line in plan.assumptions),
    ]
  )


def many(plans: Sequence[Any]) -> str:
  """A row for each dataset; `plan.Plan` is what a plan is."""
  rows = [['dataset', 'documents', 'queries', 'PFLOP', 'hours', 'cost', 'GB']]
  for plan in plans:
    rows.append(
      [plan.work.dataset, f'{plan.work.num_documents:,}',
       f'{plan.work.num_queries:,}',
       _count(sum(stage.flops for stage in plan.stages) / 1e15),
       _hours(plan.seconds), _dollars(plan.cost),
       f'{sum(plan.disk.values()) / 1e9:,.0f}']
    )  # fmt: skip
  seconds = [plan.seconds for plan in plans]
  total = None if None in seconds else sum(seconds)
  costs = [plan.cost for plan in plans]
  rows.append(
    ['all', '', '',
     _count(sum(s.flops for plan in plans for s in plan.stages) / 1e15),
     _hours(total), _dollars(None if None in costs else sum(costs)), '']
  )  # fmt: skip
  notes = dict.fromkeys(line for plan in plans for line in plan.assumptions)
  return '\n'.join(
    [
      f'{" and ".join(plans[0].models)}, on {_title(plans[0].machine)}',
      '',
      *_align(rows),
      *(line for line in _too_large(plans[0])),
      '',
      'Assumed:',
      *(f'- {line}' for line in notes),
    ]
  )


def _title(machine: machines.Machine) -> str:
  hosts = f'{machine.num_hosts} hosts, ' if machine.num_hosts > 1 else ''
  speed = ''
  if machine.device_flops:
    n = machine.num_devices
    speed = (
      f', {machine.device_flops * n / 1e12:,.0f} TFLOP/s and '
      f'{machine.device_bandwidth * n / 1e12:,.2f} TB/s at their peak'
    )
  return (
    f'{machine.name}: {hosts}{machine.num_devices} devices of '
    f'{machine.chip.memory_bytes / _GIB:,.2f} GiB{speed}'
  )


def _too_large(plan: Any) -> list[str]:
  lines = []
  for stage in plan.stages:
    if stage.memory and stage.memory.error:
      lines.append(f'{stage.name} does not fit: {stage.memory.error}')
    elif stage.memory and not _fits(stage, plan.machine):
      over = stage.memory.total - plan.machine.chip.memory_bytes
      lines.append(
        f'{stage.name} does not fit: {over / _GIB:,.2f} GiB more than a '
        'device has'
      )
  return ['', *lines] if lines else []


def _fits(stage: plan_devices.Stage, machine: machines.Machine) -> bool:
  memory = stage.memory
  return memory.error is None and memory.total <= machine.chip.memory_bytes


def _what(stage: plan_devices.Stage) -> str:
  """What is done, and on which mesh; --json says how it lies there."""
  mesh = (stage.mesh or '').partition(', ')[0]
  return '; '.join(filter(None, (stage.what, mesh)))


def _memory(stage: plan_devices.Stage, machine: machines.Machine) -> str:
  if stage.memory is None:
    return ''
  if stage.memory.error:
    return 'too large'
  mark = '' if _fits(stage, machine) else ' !'
  return f'{stage.memory.total / _GIB:,.2f}{mark}'


def _money(plan: Any) -> str:
  if plan.seconds is None:
    return ''
  hours = plan.seconds / 3_600 * plan.machine.num_devices
  cost = '' if plan.cost is None else f', {_dollars(plan.cost)}'
  return f'{hours:,.1f} device-hours{cost}'


def _dollars(cost: float | None) -> str:
  return '?' if cost is None else f'${cost:,.2f}'


def _hours(seconds: float | None) -> str:
  if seconds is None:
    return '?'
  hours = seconds / 3_600
  return f'{hours:,.2f}' if hours >= 0.005 else '<0.01'


def _count(value: float) -> str:
  """Three digits; nothing for nothing."""
  if not value:
    return ''
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
  """Columns; the first and the last begin where the others end."""
  *numbers, _ = zip(*rows, strict=True)
  widths = [max(map(len, column)) for column in numbers]
  lines = []
  for first, *cells, last in rows:
    cells = [c.rjust(w) for c, w in zip(cells, widths[1:], strict=True)]
    lines.append('  '.join([first.ljust(widths[0]), *cells, last]).rstrip())
  return [lines[0], '-' * max(map(len, lines[1:2])), *lines[1:]]
