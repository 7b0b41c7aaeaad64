"""Reads a page of ours: its cells, headings and links; every tag is closed."""

import html.parser


class Reader(html.parser.HTMLParser):
  """Collects what a reader of the page would see, and what it would fetch."""

  VOID = ('meta', 'link')

  def __init__(self, text: str):
    super().__init__()
    self.open, self.cells, self.headings = [], [], []
    self.links, self.ids, self.tags = [], [], []
    self.feed(text)
    self.close()
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.links += [v for k, v in attrs if k in ('href', 'src', 'xlink:href')]
    self.ids += [v for k, v in attrs if k == 'id']
    if tag in ('td', 'th'):
      self.cells.append('')
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] in ('td', 'th'):
      self.cells[-1] += data
    if self.open and self.open[-1] in ('h1', 'h2', 'h3'):
      self.headings.append(data)
