"""What a page is made of, before it is HTML or Markdown: records, no markup."""

import dataclasses
from collections.abc import Sequence

from inpars_tpu import charts


@dataclasses.dataclass(frozen=True)
class Facts:
  """Few numbers that are seen first: (what, value, remark or '')."""

  items: Sequence[tuple[str, str, str]]


@dataclasses.dataclass(frozen=True)
class Paragraph:
  """A sentence or some."""

  text: str


@dataclasses.dataclass(frozen=True)
class Links:
  """Other pages: (words, relative address)."""

  items: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Table:
  """Cells are texts; the columns after the first `num_texts` hold numbers."""

  title: str
  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  num_texts: int = 1
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Sample:
  """A synthetic query and the document that it was written for."""

  query: str
  score: str  # With its name; '': there is none.
  doc_id: str
  text: str


@dataclasses.dataclass(frozen=True)
class Samples:
  """Synthetic queries to read."""

  title: str
  items: Sequence[Sample]


Block = Facts | Paragraph | Links | Table | Samples | charts.Figure


@dataclasses.dataclass(frozen=True)
class Section:
  """A heading and what is below it."""

  title: str
  blocks: Sequence[Block]

  @property
  def name(self) -> str:
    """Its id in the page: 'Training curve' -> 'training-curve'."""
    letters = (c if c.isalnum() else '-' for c in self.title.lower())
    return ''.join(letters)


@dataclasses.dataclass(frozen=True)
class Page:
  """All that report.html and report.md show."""

  title: str
  subtitle: str
  notes: Sequence[str]  # What a reader must know before any figure.
  sections: Sequence[Section]


MAX_SAMPLE_CHARS = 700


def clip(text: str, limit: int = MAX_SAMPLE_CHARS) -> str:
  """The beginning of a long text, and how long it is.

  clip('abcdef', 4) -> 'abcd … (4 of 6 characters)'
  """
  if len(text) <= limit:
    return text
  return f'{text[:limit]} … ({limit:,} of {len(text):,} characters)'
