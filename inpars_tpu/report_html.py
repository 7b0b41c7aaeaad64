"""A page as one HTML file that needs no other file, no network and no script.

Every text is escaped here or in `draw`; figures are inline SVG with their
numbers in a table behind them.
"""

import importlib.resources
from collections.abc import Callable, Mapping, Sequence

from inpars_tpu import charts, draw, page

_NUMBER = ' class="number"'


def to_html(content: page.Page) -> str:
  """The text of report.html."""
  css = importlib.resources.files('inpars_tpu') / 'report.css'
  links = ''.join(
    f'<li><a href="#{section.name}">{draw.escape(section.title)}</a></li>'
    for section in content.sections
  )
  notes = ''.join(
    f'<p class="note">{draw.escape(n)}</p>\n' for n in content.notes
  )
  sections = '\n'.join(map(_section, content.sections))
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    '<link rel="icon" href="data:,">\n'
    f'<title>{draw.escape(content.title)}</title>\n'
    f'<style>\n{css.read_text()}</style>\n</head>\n<body>\n'
    f'<header>\n<h1>{draw.escape(content.title)}</h1>\n'
    f'<p class="subtitle">{draw.escape(content.subtitle)}</p>\n'
    f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n</header>\n'
    f'<main>\n{notes}{sections}\n</main>\n</body>\n</html>\n'
  )


def _section(section: page.Section) -> str:
  parts, figures = [], []
  for block in [*section.blocks, None]:
    if isinstance(block, charts.Figure):
      figures.append(_figure(block))
      continue
    if figures:
      parts.append(f'<div class="figures">\n{"".join(figures)}</div>')
      figures = []
    if block is not None:
      parts.append(_BLOCKS[type(block)](block))
  content = '\n'.join(parts)
  return (
    f'<section id="{section.name}" aria-labelledby="{section.name}-heading">\n'
    f'<h2 id="{section.name}-heading">{draw.escape(section.title)}</h2>\n'
    f'{content}\n</section>'
  )


def _facts(facts: page.Facts) -> str:
  items = ''.join(
    f'<div><dt>{draw.escape(what)}</dt>'
    f'<dd class="value">{draw.escape(value)}</dd>'
    + (f'<dd class="remark">{draw.escape(remark)}</dd>' if remark else '')
    + '</div>'
    for what, value, remark in facts.items
  )
  return f'<dl class="facts">{items}</dl>'


def _paragraph(paragraph: page.Paragraph) -> str:
  return f'<p>{draw.escape(paragraph.text)}</p>'


def _links(links: page.Links) -> str:
  items = ''.join(
    f'<li><a href="{draw.escape(href)}">{draw.escape(words)}</a></li>'
    for words, href in links.items
  )
  return f'<ul>{items}</ul>'


def _table(table: page.Table) -> str:
  """Its box scrolls where it is too wide, also by the keyboard."""
  note = (
    f'<p class="remark">{draw.escape(table.note)}</p>\n' if table.note else ''
  )
  return (
    f'<h3>{draw.escape(table.title)}</h3>\n'
    + _grid(table.title, table.header, table.rows, table.num_texts)
    + note
  )


def _grid(
  title: str,
  header: Sequence[str],
  rows: Sequence[Sequence[str]],
  num_texts: int,
) -> str:
  def cells(row: Sequence[str], tag: str) -> str:
    return ''.join(
      f'<{tag}{_NUMBER if i >= num_texts else ""}>{draw.escape(cell)}</{tag}>'
      if cell or tag == 'td'
      else '<td></td>'
      for i, cell in enumerate(row)
    )

  body = '\n'.join(f'<tr>{cells(row, "td")}</tr>' for row in rows)
  return (
    f'<div class="scroll" tabindex="0" role="group" '
    f'aria-label="{draw.escape(title)}">\n<table>\n'
    f'<thead><tr>{cells(header, "th")}</tr></thead>\n'
    f'<tbody>\n{body}\n</tbody>\n</table>\n</div>\n'
  )


def _figure(figure: charts.Figure) -> str:
  legend = ''.join(
    f'<li><span class="swatch {kind}"></span>{draw.escape(words)}</li>'
    for kind, words in figure.legend
  )
  numbers = _grid(f'{figure.title}: numbers', figure.header, figure.rows, 1)
  return (
    f'<figure id="{figure.name}">\n'
    f'<figcaption>{draw.escape(figure.title)}</figcaption>\n'
    + (f'<ul class="legend">{legend}</ul>\n' if legend else '')
    + f'{figure.svg}\n<details><summary>In words and numbers</summary>\n'
    f'<p>{draw.escape(figure.summary)}</p>\n{numbers}</details>\n</figure>\n'
  )


def _samples(samples: page.Samples) -> str:
  items = '\n'.join(
    f'<li><p class="query">{draw.escape(sample.query) or "(empty)"}</p>'
    f'<p class="remark">{draw.escape(" · ".join(_told(sample)))}</p>'
    f'<p class="document">{draw.escape(page.clip(sample.text))}</p></li>'
    for sample in samples.items
  )
  return (
    f'<h3>{draw.escape(samples.title)}</h3>\n<ol class="samples">{items}</ol>'
  )


def _told(sample: page.Sample) -> list[str]:
  return [part for part in (sample.score, sample.doc_id) if part]


_BLOCKS: Mapping[type, Callable[..., str]] = {
  page.Facts: _facts,
  page.Paragraph: _paragraph,
  page.Links: _links,
  page.Table: _table,
  page.Samples: _samples,
}
