"""Parts of an SVG drawing. Coordinates to a tenth; classes, no colours."""

import html
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]


def escape(text: str) -> str:
  """Text for HTML and SVG; signs that both forbid become U+FFFD."""
  allowed = (c if c >= ' ' or c in '\t\n' else '\ufffd' for c in text)
  return html.escape(''.join(allowed))


def picture(
  name: str,
  title: str,
  summary: str,
  width: float,
  height: float,
  body: Sequence[str],
) -> str:
  """The drawing, with a title and a description for who does not see it."""
  return (
    f'<svg viewBox="0 0 {width:g} {height:g}" role="img" '
    f'aria-labelledby="{name}-title {name}-desc">'
    f'<title id="{name}-title">{escape(title)}</title>'
    f'<desc id="{name}-desc">{escape(summary)}</desc>'
    f'{"".join(body)}</svg>'
  )


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
  """A rectangle; (x, y) is its upper left corner."""
  return (
    f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
    f'height="{height:.1f}"/>'
  )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
  """A straight line."""
  return (
    f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" '
    f'y2="{y2:.1f}"/>'
  )


def text(
  x: float, y: float, words: str, anchor: str = 'start', kind: str = 'tick'
) -> str:
  """Words on the line y; x is where they start, end or have their middle."""
  return (
    f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
    f'{escape(words)}</text>'
  )


def polyline(points: Points, kind: str) -> str:
  """Straight lines from point to point."""
  return f'<polyline class="{kind}" points="{_join(points)}"/>'


def polygon(points: Points, kind: str) -> str:
  """A filled outline."""
  return f'<polygon class="{kind}" points="{_join(points)}"/>'


def dot(x: float, y: float, kind: str) -> str:
  """A point that is seen."""
  return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'


def _join(points: Points) -> str:
  return ' '.join(f'{x:.1f},{y:.1f}' for x, y in points)
