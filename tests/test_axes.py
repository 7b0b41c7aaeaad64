import pytest

from inpars_tpu import axes


@pytest.mark.parametrize('low,high,expected', [
  (0, 0.43, [0.0, 0.1, 0.2, 0.3, 0.4]),
  (0, 1_000, [0, 200, 400, 600, 800, 1_000]),
  (-0.9, -0.55, [-0.9, -0.8, -0.7, -0.6]),
  (5.93, 6.7, [6.0, 6.2, 6.4, 6.6]),
  (3, 3, [3]),
])  # fmt: skip
def test_ticks_are_round_and_inside(low, high, expected):
  assert axes.ticks(low, high) == pytest.approx(expected)


def test_scale_maps_the_ends():
  x = axes.scale(-1, 1, 100, 200)
  assert [x(-1), x(0), x(1)] == [100, 150, 200]
  assert axes.scale(2, 2, 100, 200)(2) == 100  # One value: no division by 0.


def test_numbers():
  found = [axes.number(v) for v in (12_000, 0.30000001, -0.9, 1e-17)]
  assert found == ['12,000', '0.3', '-0.9', '0']
  assert axes.number(0.5, '+') == '+0.5'


def test_axes_have_a_line_and_a_number_for_each_tick():
  y = axes.scale(0, 2, 100, 0)
  found = axes.y_axis([0, 1], y, 400)
  assert [part.split()[0] for part in found] == ['<line', '<text'] * 2
  assert found[3].endswith('>1</text>')
  assert 'y="54.0"' in found[3]  # 1 is at 50; letters stand on their line.
  found = axes.x_axis([0, 1], y, 400, 200, 'a < b')
  assert found[-1].endswith('>a &lt; b</text>')
  assert len(found) == 4
