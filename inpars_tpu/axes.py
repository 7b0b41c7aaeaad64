"""Scales of plots: round numbers, and the lines and words beside them."""

import math
from collections.abc import Callable, Sequence

from inpars_tpu import draw

Scale = Callable[[float], float]

LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 34  # Room around; 100,000 fits left.


def ticks(low: float, high: float, count: int = 5) -> list[float]:
  """Round numbers, at most count + 1, inside [low, high].

  ticks(0, 0.43) -> [0.0, 0.1, 0.2, 0.3, 0.4]
  """
  if high <= low:
    return [low]
  step = 10.0 ** math.floor(math.log10((high - low) / count))
  while (high - low) / step > count:
    step *= 2.5 if str(f'{step:e}')[0] == '2' else 2
  first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  return [i * step for i in range(first, last + 1)]


def scale(low: float, high: float, start: float, end: float) -> Scale:
  """Maps [low, high] to [start, end]."""
  span = (high - low) or 1
  return lambda value: start + (end - start) * (value - low) / span


def number(value: float, sign: str = '') -> str:
  """number(12_000) -> '12,000'; number(0.30000001) -> '0.3'."""
  if abs(value) >= 1_000:
    return f'{value:{sign},.0f}'
  return f'{value:{sign}.4g}' if abs(value) > 1e-12 else '0'


def y_axis(
  values: Sequence[float], y: Scale, width: float, sign: str = ''
) -> list[str]:
  """Lines across at the values, their numbers to the left."""
  found = []
  for value in values:
    found.append(draw.line(LEFT, y(value), width - RIGHT, y(value), 'grid'))
    words = number(value, sign if value > 1e-12 else '')
    found.append(draw.text(LEFT - 6, y(value) + 4, words, 'end'))
  return found


def x_axis(
  values: Sequence[float], x: Scale, width: float, height: float, unit: str
) -> list[str]:
  """The line below, numbers at the values, and what they count."""
  found = [
    draw.line(LEFT, height - BOTTOM, width - RIGHT, height - BOTTOM, 'axis')
  ]
  found += [
    draw.text(x(v), height - BOTTOM + 14, number(v), 'middle') for v in values
  ]
  middle = (LEFT + width - RIGHT) / 2
  return [*found, draw.text(middle, height - 5, unit, 'middle')]
