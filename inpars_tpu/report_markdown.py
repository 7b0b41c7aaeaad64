"""A page as Markdown, for pasting; a figure is the sentence that it says."""

from collections.abc import Iterable

from inpars_tpu import charts, page


def to_markdown(content: page.Page) -> str:
  """The text of report.md."""
  lines = [f'# {_plain(content.title)}', '', _plain(content.subtitle), '']
  for note in content.notes:
    lines += [f'> {_plain(note)}', '']
  for section in content.sections:
    lines += [f'## {_plain(section.title)}', '']
    for block in section.blocks:
      lines += [*_block(block), '']
  return '\n'.join(lines)


def _block(block: page.Block) -> list[str]:
  match block:
    case page.Facts():
      return [
        f'- {_plain(what)}: **{_plain(value)}**{_remark(remark)}'
        for what, value, remark in block.items
      ]
    case page.Paragraph():
      return [_plain(block.text)]
    case page.Links():
      return [f'- [{_plain(words)}]({href})' for words, href in block.items]
    case page.Table():
      return _table(block)
    case page.Samples():
      return _samples(block)
    case charts.Figure():
      return [f'*{_plain(block.title)}.* {_plain(block.summary)}']


def _remark(remark: str) -> str:
  return f' ({_plain(remark)})' if remark else ''


def _table(table: page.Table) -> list[str]:
  marks = [
    '---' if i < table.num_texts else '---:' for i in range(len(table.header))
  ]
  lines = [f'**{_plain(table.title)}**', '', _row(table.header), _row(marks)]
  lines += [_row(row) for row in table.rows]
  return [*lines, '', _plain(table.note)] if table.note else lines


def _samples(samples: page.Samples) -> list[str]:
  score = next((s.score for s in samples.items if s.score), '')
  name = score.split()[0] if score else 'score'
  rows = [
    [
      s.query,
      s.score.removeprefix(f'{name} '),
      s.doc_id,
      page.clip(s.text, 200),
    ]
    for s in samples.items
  ]
  header = ['query', name, 'doc_id', 'document']
  return _table(page.Table(samples.title, header, rows, num_texts=4))


def _row(cells: Iterable[str]) -> str:
  return f'| {" | ".join(map(_plain, cells))} |'


def _plain(text: str) -> str:
  """Text that Markdown shows as it is, in one line."""
  for sign in '\\`*_[]<>|':
    text = text.replace(sign, f'\\{sign}')
  return ' '.join(text.split())
