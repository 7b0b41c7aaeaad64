import re

from inpars_tpu import charts, page, report_html
from tests import html_reader

EVIL = '</style><script>alert(1)</script>&amp;"\'\x00'


def build(*blocks) -> str:
  return report_html.to_html(
    page.Page('T', 'sub', ['note'], [page.Section('One thing', blocks)])
  )


def test_page_is_complete_and_every_tag_is_closed():
  figure = charts.bars('b', 'Bars', ['x'], {'y': [1.0]}, show=str)
  text = build(
    page.Facts([('kept', '10', 'of 20'), ('hours', '3', '')]),
    page.Paragraph('Said.'),
    page.Links([('scifact', 'scifact/report.html')]),
    page.Table('Table', ['a', 'b'], [['x', '1'], ['', '']], note='n'),
    page.Samples('Some', [page.Sample('q', 'logit 0.5', 'd1', 'text')]),
    figure,
  )
  found = html_reader.Reader(text)
  assert found.headings == ['T', 'One thing', 'Table', 'Some']
  assert found.links == ['data:,', '#one-thing', 'scifact/report.html']
  assert found.cells[:6] == ['a', 'b', 'x', '1', '', '']
  assert found.cells[6:] == ['', 'y', 'x', '1.0']  # Numbers of the figure.
  assert len(set(found.ids)) == len(found.ids)
  assert {'one-thing', 'b', 'b-title', 'b-desc'} < set(found.ids)
  assert text.count(figure.svg) == 1
  assert '<html lang="en">' in text
  assert text.count('tabindex="0"') == 2  # What scrolls has the keyboard's.


def test_nothing_is_fetched_and_nothing_runs():
  text = build(page.Table('t', ['a'], [['b']]))
  assert not re.search(r'https?:|url\(|@import|<script|\son\w+=', text)


def test_every_text_is_escaped():
  figure = charts.bars(
    'b', EVIL, [EVIL], {EVIL: [1.0], 'other': [2.0]}, show=lambda _: EVIL
  )
  text = report_html.to_html(
    page.Page(
      EVIL, EVIL, [EVIL],
      [
        page.Section(EVIL, [
          page.Facts([(EVIL, EVIL, EVIL)]), page.Paragraph(EVIL),
          page.Links([(EVIL, EVIL)]),
          page.Table(EVIL, [EVIL], [[EVIL]], note=EVIL),
          page.Samples(EVIL, [page.Sample(EVIL, EVIL, EVIL, EVIL)]), figure,
        ])
      ],
    )
  )  # fmt: skip
  found = html_reader.Reader(text)
  assert 'script' not in found.tags
  assert text.count('<style>') == text.count('</style>') == 1
  assert '\x00' not in text
  assert found.headings[0] == EVIL.replace('\x00', '\ufffd')
  assert found.cells.count(EVIL.replace('\x00', '\ufffd')) >= 4


def test_figures_that_follow_each_other_stand_side_by_side():
  one, two, three = (
    charts.bars(name, name, ['x'], {'y': [1.0]}, show=str) for name in 'abc'
  )
  text = build(one, two, page.Paragraph('between'), three)
  assert text.count('<div class="figures">') == 2
  order = [
    text.index(part) for part in ('id="a"', 'id="b"', 'between', 'id="c"')
  ]
  assert order == sorted(order)


def test_a_long_document_is_cut():
  sample = page.Sample('', '', 'd', 'x' * 5_000)
  text = build(page.Samples('s', [sample]))
  assert '… (700 of 5,000 characters)' in text
  assert text.count('x' * 700) == 1
  assert '(empty)' in text
