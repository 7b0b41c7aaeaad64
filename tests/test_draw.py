from xml.etree import ElementTree

from inpars_tpu import draw


def test_picture_has_a_title_and_a_description():
  svg = draw.picture('p', 'A & b', '1 < 2', 400, 20, [draw.dot(1, 2.345, 's0')])
  root = ElementTree.fromstring(svg)
  assert root.attrib['viewBox'] == '0 0 400 20'
  assert root.attrib['aria-labelledby'] == 'p-title p-desc'
  assert [child.text for child in root[:2]] == ['A & b', '1 < 2']
  assert [child.attrib['id'] for child in root[:2]] == ['p-title', 'p-desc']
  assert root[2].attrib == {'class': 's0', 'cx': '1.0', 'cy': '2.3', 'r': '3'}


def test_parts():
  assert draw.rect(1, 2, 3, 4, 's1') == (
    '<rect class="s1" x="1.0" y="2.0" width="3.0" height="4.0"/>'
  )
  assert draw.line(1, 2, 3, 4, 'axis') == (
    '<line class="axis" x1="1.0" y1="2.0" x2="3.0" y2="4.0"/>'
  )
  assert draw.text(1, 2, '<i>', 'end', 'value') == (
    '<text class="value" x="1.0" y="2.0" text-anchor="end">&lt;i&gt;</text>'
  )
  points = [(0, 0), (1, 2.25)]
  assert draw.polyline(points, 'k') == (
    '<polyline class="k" points="0.0,0.0 1.0,2.2"/>'
  )
  assert draw.polygon(points, 'k').startswith('<polygon class="k" points="0.0')


def test_signs_that_html_forbids_are_replaced():
  assert draw.escape('a\x00\x1b\n"<') == 'a\ufffd\ufffd\n&quot;&lt;'
