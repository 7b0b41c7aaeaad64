import re
from xml.etree import ElementTree

import pytest

from inpars_tpu import charts


def find(figure, tag, kind=None):
  """Elements of a tag, and of a class if given."""
  root = ElementTree.fromstring(figure.svg)
  return [e for e in root.iter(tag) if kind in (None, e.attrib.get('class'))]


def texts(figure):
  return [element.text for element in find(figure, 'text')]


def numbers(element, *names):
  return [float(element.attrib[name]) for name in names]


def test_bars_of_two_datasets():
  figure = charts.bars(
    'bars', 'nDCG@10', ['scifact', 'a-name-that-is-too-long'],
    {'BM25': [0.5, 0.25], 'before': [None, 0.0], 'after': [1.0, 0.75]},
    show='{:.2f}'.format, marks=('paper', [0.8, None]),
  )  # fmt: skip
  assert figure.header == ['', 'BM25', 'before', 'after', 'paper']
  assert figure.rows == [
    ['scifact', '0.50', '', '1.00', '0.80'],
    ['a-name-that-is-too-long', '0.25', '0.00', '0.75', ''],
  ]
  assert figure.summary == (
    'scifact: BM25 0.50, after 1.00, paper 0.80; a-name-that-is-too-long: '
    'BM25 0.25, before 0.00, after 0.75.'
  )
  assert figure.legend == [
    ('s0', 'BM25'), ('s1', 'before'), ('s2', 'after'), ('mark', 'paper'),
  ]  # fmt: skip
  after = find(figure, 'rect', 's2')
  whole, part = (numbers(rect, 'x', 'width') for rect in after)
  assert part[0] == whole[0]
  assert part[1] == pytest.approx(whole[1] * 0.75, abs=0.1)
  assert [numbers(r, 'width') for r in find(figure, 'rect', 's1')] == [[0.0]]
  (mark,) = find(figure, 'line', 'mark')
  assert numbers(mark, 'x1') == [
    pytest.approx(whole[0] + 0.8 * whole[1], abs=0.1)
  ]
  assert 'a-name-that-is-t…' in texts(figure)
  assert figure.rows[1][0] not in texts(figure)


def test_bars_of_one_series_have_their_own_classes_and_no_legend():
  figure = charts.bars(
    'b', 'Dropped', ['too short', 'kept'], {'queries': [0, 1_234]},
    show='{:,}'.format, classes=['s0', 's2'],
  )  # fmt: skip
  assert len(find(figure, 'rect', 's0')) == len(find(figure, 'rect', 's2')) == 1
  assert figure.legend == ()
  assert figure.summary == 'too short: 0; kept: 1,234.'
  assert '1,234' in texts(figure)


def test_histogram_draws_the_part_before_the_whole():
  figure = charts.histogram(
    'h', 'Lengths', 'tokens', [0, 10, 20, 30],
    {'written': [4, 8, 0], 'kept': [0, 2, 0]}, cut=('limit', 15),
  )  # fmt: skip
  whole = [numbers(r, 'x', 'y', 'height') for r in find(figure, 'rect', 's0')]
  (part,) = (numbers(r, 'x', 'y', 'height') for r in find(figure, 'rect', 's2'))
  assert len(whole) == 2  # An empty bin has no bar.
  assert whole[1][2] == pytest.approx(2 * whole[0][2], abs=0.2)
  assert part[0] == whole[1][0]
  assert part[1] + part[2] == pytest.approx(whole[1][1] + whole[1][2], abs=0.2)
  (cut,) = find(figure, 'line', 'mark')
  width = numbers(find(figure, 'rect', 's0')[1], 'width')[0]
  middle = whole[1][0] + width / 2
  assert numbers(cut, 'x1') == [pytest.approx(middle, abs=0.2)]
  assert figure.rows == [
    ['0 to 10', '4', '0'], ['10 to 20', '8', '2'], ['20 to 30', '0', '0'],
  ]  # fmt: skip
  assert figure.summary == (
    'written: 12 from 0 to 30, most of them, 8, at 10 to 20; kept: 2 from 0 to '
    '30, most of them, 2, at 10 to 20 (tokens). limit: 15.'
  )


def test_lines_share_their_scales():
  figure = charts.lines(
    'l', 'Loss', 'step',
    {'training': [(1, 4.0), (2, 2.0), (3, 1.0)], 'validation': [(3, 2.0)]},
  )  # fmt: skip
  (line,) = find(figure, 'polyline', 'line s0')
  points = [
    tuple(map(float, p.split(','))) for p in line.attrib['points'].split()
  ]
  assert points[1][0] == pytest.approx(
    (points[0][0] + points[2][0]) / 2, abs=0.1
  )
  assert points[0][1] < points[1][1] < points[2][1]  # Downwards.
  (dot,) = find(figure, 'circle', 's2')
  assert numbers(dot, 'cx', 'cy') == [points[2][0], points[1][1]]
  assert figure.rows == [
    ['1', '4.0000', ''], ['2', '2.0000', ''], ['3', '1.0000', '2.0000'],
  ]  # fmt: skip
  assert figure.summary.startswith(
    'training goes from 4.0000 to 1.0000 in step'
  )


def test_a_flat_line_and_a_single_point_are_drawn():
  for points in ([(1, 0.5), (2, 0.5)], [(7, 0.5)]):
    figure = charts.lines('l', 'Flat', 'step', {'loss': points})
    assert len(find(figure, 'circle')) == len(points)
    assert 'nan' not in figure.svg


def test_long_lines_are_thinned_and_say_so():
  assert charts.thin([(1, 4.0), (2, 2.0), (3, 1.0)], 2) == [
    (1.5, 3.0),
    (3, 1.0),
  ]
  points = [(i, float(i)) for i in range(1, 1_001)]
  figure = charts.lines('l', 'Loss', 'step', {'loss': points})
  assert len(figure.rows) == charts.MAX_POINTS == 200
  assert figure.rows[0] == ['3', '3.0000']  # The mean of 1 to 5.
  assert 'each point is the mean of 5' in figure.summary
  assert not find(figure, 'circle')


def test_differences_stand_on_both_sides_of_zero():
  figure = charts.differences(
    'd', 'After minus before', 'nDCG@10', [0.0, -0.5, 0.25, 0.5, 1.0, 0.0]
  )
  assert figure.summary == (
    'Of 6 queries 3 gain, 2 stay and 1 lose; from +1.0000 to -0.5000, +0.2083 '
    'in the mean (nDCG@10).'
  )
  assert figure.legend == (('win', '3 gain'), ('loss', '1 lose'))
  assert figure.rows == [
    ['+0.8 to +1.0', '1'], ['+0.4 to +0.6', '1'], ['+0.2 to +0.4', '1'],
    ['0', '2'], ['-0.4 to -0.6', '1'],
  ]  # fmt: skip
  (win,), (loss,) = (find(figure, 'polygon', k) for k in ('win', 'loss'))
  up, down = (
    [tuple(map(float, p.split(','))) for p in e.attrib['points'].split()]
    for e in (win, loss)
  )
  zero = up[0][1]
  assert zero == up[-1][1] == down[0][1] == down[-1][1]
  heights = [zero - y for _, y in up[1:-1:2]]  # Two corners for each query.
  assert heights == pytest.approx(
    [heights[0], heights[0] / 2, heights[0] / 4], abs=0.2
  )
  assert down[1][1] - zero == pytest.approx(heights[0] / 2, abs=0.2)
  assert down[-1][0] == pytest.approx(388)  # The last one ends at the border.


def test_many_differences_keep_the_extremes():
  values = [i / 5_000 for i in range(-4_999, 5_001)]
  figure = charts.differences('d', 'Many', 'nDCG@10', values)
  assert '10,000 queries' in ' '.join(texts(figure))
  points = re.findall(r'points="([^"]+)"', figure.svg)
  assert sum(len(p.split()) for p in points) <= 4 * charts.MAX_POINTS + 4
  assert figure.rows[0] == ['+0.8 to +1.0', '1,000']


def test_without_any_difference_nothing_is_drawn():
  figure = charts.differences('d', 'Same', 'nDCG@10', [0.0, 0.0])
  assert not find(figure, 'polygon')
  assert figure.summary.startswith('Of 2 queries 0 gain, 2 stay and 0 lose')
