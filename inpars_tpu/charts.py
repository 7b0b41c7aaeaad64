"""Plots as inline SVG: numbers in; markup, a sentence and a table out.

Pure. Knows no colours: it names classes, which the page's style sheet fills in
light and in dark. Drawn 400 wide, about as wide as a phone shows it, so that
its letters stay readable there.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from inpars_tpu import axes, draw

WIDTH = 400
MAX_POINTS = 200  # More than a screen shows apart.
_LEFT, _END, _TOP, _BOTTOM = (
  axes.LEFT, WIDTH - axes.RIGHT, axes.TOP, axes.BOTTOM
)  # fmt: skip
_LABEL_WIDTH, _VALUE_WIDTH = 128, 52
_MAX_DOTS = 20
_MAX_LABEL = 17  # Letters that fit beside a bar.


@dataclasses.dataclass(frozen=True)
class Figure:
  """A plot, and the same for who does not see it."""

  name: str  # Id in the page.
  title: str
  summary: str
  svg: str
  header: Sequence[str]  # Of the table of its numbers.
  rows: Sequence[Sequence[str]]
  legend: Sequence[tuple[str, str]] = ()  # (class, words).


def bars(
  name: str,
  title: str,
  labels: Sequence[str],
  series: Mapping[str, Sequence[float | None]],
  *,
  show: Callable[[float], str],
  marks: tuple[str, Sequence[float | None]] | None = None,
  classes: Sequence[str] = (),
) -> Figure:
  """Horizontal bars from 0, a group for each label.

  Args:
    name: id of the figure.
    title: its title.
    labels: what the groups are of.
    series: words -> a value for each label, none below 0; None: no bar.
    show: a value as text.
    marks: words and a value for each label, drawn as a line across the group.
    classes: of each label's bars, where there is one series alone.
  """
  thickness = 16 if len(series) == 1 else 12
  group = thickness * len(series) + 9
  values = [v for v in _flat(series, marks) if v is not None]
  end = max([*values, 0]) or 1
  width = WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
  kinds = _kinds(len(series))
  body = []
  for i, label in enumerate(labels):
    top = _TOP + i * group
    middle = top + thickness * len(series) / 2
    body.append(draw.text(_LABEL_WIDTH - 8, middle + 4, _clip(label), 'end'))
    for j, column in enumerate(series.values()):
      value = column[i]
      if value is None:
        continue
      length = width * value / end
      kind = classes[i] if classes else kinds[j]
      y = top + j * thickness
      body.append(draw.rect(_LABEL_WIDTH, y, length, thickness - 1, kind))
      base = y + thickness / 2 + 3.5
      if marks:  # Their lines would cross numbers at the ends of the bars.
        body.append(draw.text(WIDTH - 2, base, show(value), 'end', 'value'))
      else:
        x = _LABEL_WIDTH + length + 5
        body.append(draw.text(x, base, show(value), kind='value'))
    if marks and marks[1][i] is not None:
      x = _LABEL_WIDTH + width * marks[1][i] / end
      body.append(
        draw.line(x, top - 2, x, top + thickness * len(series) + 1, 'mark')
      )
  bottom = _TOP + len(labels) * group
  body.append(
    draw.line(_LABEL_WIDTH, _TOP - 4, _LABEL_WIDTH, bottom - 4, 'axis')
  )
  columns = dict(series) | ({marks[0]: marks[1]} if marks else {})
  rows = [
    [label, *('' if c[i] is None else show(c[i]) for c in columns.values())]
    for i, label in enumerate(labels)
  ]
  legend = list(zip(kinds, series, strict=True))
  if marks:
    legend.append(('mark', marks[0]))
  header = ['', *columns]
  return _figure(
    name, title, _say_rows(header, rows), bottom, body, header, rows,
    legend if len(legend) > 1 else (),
  )  # fmt: skip


def histogram(
  name: str,
  title: str,
  unit: str,
  edges: Sequence[float],
  counts: Mapping[str, Sequence[int]],
  *,
  cut: tuple[str, float] | None = None,
) -> Figure:
  """Bars over a scale; each series is drawn in front of the one before.

  Args:
    name: id of the figure.
    title: its title.
    unit: what the scale counts.
    edges: [bins + 1] ascending.
    counts: words -> [bins].
    cut: words and a place on the scale, drawn as a vertical line.
  """
  highest = max(max(column) for column in counts.values()) or 1
  height = 210
  x = axes.scale(edges[0], edges[-1], _LEFT, _END)
  y = axes.scale(0, highest, height - _BOTTOM, _TOP)
  kinds = _kinds(len(counts))
  body = axes.y_axis(axes.ticks(0, highest), y, WIDTH)
  for kind, column in zip(kinds, counts.values(), strict=True):
    for (low, high), count in zip(
      itertools.pairwise(edges), column, strict=True
    ):
      if count:
        body.append(
          draw.rect(x(low) + 0.5, y(count), max(x(high) - x(low) - 1, 0.5),
                y(0) - y(count), kind)
        )  # fmt: skip
  body += axes.x_axis(axes.ticks(edges[0], edges[-1]), x, WIDTH, height, unit)
  legend = list(zip(kinds, counts, strict=True))
  if cut:
    body.append(draw.line(x(cut[1]), _TOP - 4, x(cut[1]), y(0), 'mark'))
    legend.append(('mark', cut[0]))
  rows = [
    [
      f'{axes.number(low)} to {axes.number(high)}',
      *(f'{c[i]:,}' for c in counts.values()),
    ]
    for i, (low, high) in enumerate(itertools.pairwise(edges))
  ]
  parts = []
  for words, column in counts.items():
    most = max(range(len(column)), key=lambda i: column[i])
    parts.append(
      f'{words}: {sum(column):,} from {axes.number(edges[0])} to '
      f'{axes.number(edges[-1])}, most of them, {column[most]:,}, at '
      f'{rows[most][0]}'
    )
  summary = f'{"; ".join(parts)} ({unit}).'
  if cut:
    summary += f' {cut[0]}: {axes.number(cut[1])}.'
  return _figure(
    name, title, summary, height, body, [unit, *counts], rows,
    legend if len(legend) > 1 else (),
  )  # fmt: skip


def lines(
  name: str,
  title: str,
  x_unit: str,
  series: Mapping[str, Sequence[tuple[float, float]]],
) -> Figure:
  """Lines through points; long series are thinned by means of neighbours.

  Args:
    name: id of the figure.
    title: its title.
    x_unit: what the horizontal scale counts.
    series: words -> points, at least one, ascending.
  """
  thinned = {words: thin(points) for words, points in series.items()}
  flat = [point for points in thinned.values() for point in points]
  lowest, highest = min(p[1] for p in flat), max(p[1] for p in flat)
  if lowest == highest:
    lowest, highest = lowest - 0.5, highest + 0.5
  height = 230
  x = axes.scale(min(p[0] for p in flat), max(p[0] for p in flat), _LEFT, _END)
  y = axes.scale(lowest, highest, height - _BOTTOM, _TOP)
  kinds = _kinds(len(series))
  body = axes.y_axis(axes.ticks(lowest, highest), y, WIDTH)
  table: dict[float, dict[str, str]] = {}
  parts = []
  for kind, (words, points) in zip(kinds, thinned.items(), strict=True):
    places = [(x(a), y(b)) for a, b in points]
    body.append(draw.polyline(places, f'line {kind}'))
    if len(points) <= _MAX_DOTS:
      body += [draw.dot(a, b, kind) for a, b in places]
    for a, b in points:
      table.setdefault(a, {})[words] = f'{b:.4f}'
    each = math.ceil(len(series[words]) / MAX_POINTS)
    parts.append(
      f'{words} goes from {points[0][1]:.4f} to {points[-1][1]:.4f} in '
      f'{x_unit} {axes.number(points[0][0])} to {axes.number(points[-1][0])}'
      + (f' (each point is the mean of {each})' if each > 1 else '')
    )
  body += axes.x_axis(axes.ticks(*_ends(flat)), x, WIDTH, height, x_unit)
  rows = [
    [axes.number(a), *(cells.get(words, '') for words in series)]
    for a, cells in sorted(table.items())
  ]
  legend = list(zip(kinds, series, strict=True))
  return _figure(
    name, title, f'{"; ".join(parts)}.', height, body, [x_unit, *series], rows,
    legend if len(legend) > 1 else (),
  )  # fmt: skip


def differences(
  name: str, title: str, unit: str, values: Sequence[float]
) -> Figure:
  """One bar for each query, from the best gain to the worst loss.

  Args:
    name: id of the figure.
    title: its title.
    unit: what the differences are of.
    values: at least one; any order.
  """
  ordered = sorted(values, reverse=True)
  shown = ordered
  if len(ordered) > 2 * MAX_POINTS:
    last = 2 * MAX_POINTS - 1
    shown = [
      ordered[round(i * (len(ordered) - 1) / last)] for i in range(last + 1)
    ]
  reach = max(abs(ordered[0]), abs(ordered[-1])) or 1
  height = 230
  x = axes.scale(0, len(shown), _LEFT, _END)
  y = axes.scale(-reach, reach, height - _BOTTOM, _TOP)
  body = axes.y_axis(axes.ticks(-reach, reach, 6), y, WIDTH, '+')
  for kind, sign in (('win', 1), ('loss', -1)):
    places = [i for i, value in enumerate(shown) if value * sign > 0]
    if places:  # Neighbours, as the values are in order.
      steps = [(x(i + d), y(shown[i])) for i in places for d in (0, 1)]
      outline = [(x(places[0]), y(0)), *steps, (x(places[-1] + 1), y(0))]
      body.append(draw.polygon(outline, kind))
  body.append(draw.line(_LEFT, y(0), _END, y(0), 'axis'))
  wins, losses = sum(v > 0 for v in values), sum(v < 0 for v in values)
  ties = len(values) - wins - losses
  body.append(
    draw.text((_LEFT + _END) / 2, height - 10,
          f'{len(values):,} queries, best gain first', 'middle')
  )  # fmt: skip
  mean = math.fsum(values) / len(values)
  summary = (
    f'Of {len(values):,} queries {wins:,} gain, {ties:,} stay and {losses:,} '
    f'lose; from {ordered[0]:+.4f} to {ordered[-1]:+.4f}, {mean:+.4f} in the '
    f'mean ({unit}).'
  )
  legend = (('win', f'{wins:,} gain'), ('loss', f'{losses:,} lose'))
  return _figure(
    name, title, summary, height, body, [unit, 'queries'],
    _count_differences(values), legend,
  )  # fmt: skip


def thin(
  points: Sequence[tuple[float, float]], limit: int = MAX_POINTS
) -> list[tuple[float, float]]:
  """At most `limit` points, each the mean of as many neighbours.

  thin([(1, 4.0), (2, 2.0), (3, 1.0)], 2) -> [(1.5, 3.0), (3, 1.0)]
  """
  each = math.ceil(len(points) / limit)
  if each <= 1:
    return list(points)
  thinned = []
  for i in range(0, len(points), each):
    part = points[i : i + each]
    thinned.append(tuple(math.fsum(c) / len(part) for c in zip(*part)))  # noqa: B905
  return thinned


def _count_differences(values: Sequence[float]) -> list[list[str]]:
  """Queries in each fifth above 0 and below, and at 0; empty ones left out."""
  rows = []
  for i in range(5, 0, -1):
    low, high = (i - 1) / 5, i / 5
    count = sum(low < v <= high or (i == 5 and v > 1) for v in values)
    rows.append([f'+{low:.1f} to +{high:.1f}', f'{count:,}'])
  rows.append(['0', f'{sum(v == 0 for v in values):,}'])
  for i in range(5):
    low, high = i / 5, (i + 1) / 5
    count = sum(low < -v <= high or (i == 4 and v < -1) for v in values)
    rows.append([f'-{low:.1f} to -{high:.1f}', f'{count:,}'])
  return [row for row in rows if row[1] != '0']


def _figure(name, title, summary, height, body, header, rows, legend) -> Figure:
  svg = draw.picture(name, title, summary, WIDTH, height, body)
  return Figure(name, title, summary, svg, header, rows, legend)


def _kinds(count: int) -> list[str]:
  """Classes of so many series: the last one is the darkest."""
  if count == 1:
    return ['s1']
  return ['s0', 's2'] if count == 2 else [f's{i % 3}' for i in range(count)]


def _flat(series, marks) -> list[float | None]:
  columns = [*series.values(), *([marks[1]] if marks else [])]
  return [value for column in columns for value in column]


def _say_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """'scifact: BM25 0.6789, after 0.7740; ...', of the first 20 rows."""
  said = []
  for label, *cells in rows[:20]:
    named = zip(header[1:], cells, strict=True)
    one = len(header) == 2
    values = ', '.join(c if one else f'{h} {c}' for h, c in named if c)
    said.append(f'{label}: {values or "nothing"}')
  more = f'; and {len(rows) - 20} more' if len(rows) > 20 else ''
  return f'{"; ".join(said)}{more}.'


def _ends(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
  return min(p[0] for p in points), max(p[0] for p in points)


def _clip(label: str) -> str:
  return label if len(label) <= _MAX_LABEL else f'{label[: _MAX_LABEL - 1]}…'
