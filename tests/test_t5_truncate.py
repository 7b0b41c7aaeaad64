import pytest

from inpars_tpu.t5 import truncate


def encode(texts):
  """A tokenizer of words: the length of each."""
  return [[len(word) for word in text.split()] for text in texts]


def test_what_fits_is_whole():
  texts = [('a ', 'bb ccc', ' dddd'), ('', '', '')]
  assert truncate.fit(encode, texts, 4) == ([[1, 2, 3, 4], []], 0)


@pytest.mark.parametrize(
  ('limit', 'expected'),
  [
    (5, [1, 2, 3, 4, 5]),
    (4, [1, 2, 3, 5]),
    (3, [1, 2, 5]),
    (2, [1, 5]),
    (1, None),
  ],
)
def test_cuts_the_middle_and_keeps_its_ends(limit, expected):
  text = ('a ', 'bb ccc dddd', ' eeeee')
  assert truncate.fit(encode, [text], limit) == (
    [expected],
    0 if limit == 5 else 1,
  )


def test_unlike_texts_together():
  texts = [('a ', 'bb bb bb', ' c'), ('aaa ', 'b', ' cc'), ('a b c d', 'e', '')]
  found, num_long = truncate.fit(encode, texts, 3)
  assert found == [[1, 2, 1], [3, 1, 2], None]
  assert num_long == 2


def test_of_a_very_long_text_only_the_beginning_is_read():
  read = []

  def count(texts):
    read.append(sum(map(len, texts)))
    return encode(texts)

  text = ('a ', 'bb ' * 10_000, ' c')
  assert truncate.fit(count, [text], 5) == ([[1, 2, 2, 2, 1]], 1)
  assert sum(read) < 100


def test_reads_on_where_the_beginning_is_blank():
  text = ('a ', ' ' * 1_000 + 'bb', ' c')
  assert truncate.fit(encode, [text], 5) == ([[1, 2, 1]], 0)
