import pytest

from inpars_tpu.t5 import truncate


def one_for_each_word(text):
  """A tokenizer of words, and a template of two tokens around the text."""
  return lambda length: [0, *map(len, text[:length].split()), 1]


@pytest.mark.parametrize('limit', [3, 4, 7, 20, 80])
def test_fills_the_limit(limit):
  text = 'a few words of unequal length ' * 20
  kept = truncate.longest_fit(one_for_each_word(text), len(text), limit)
  assert len(kept) == limit
  assert (kept[0], kept[-1]) == (0, 1)


def test_stops_before_the_character_that_does_not_fit():
  # A character of three tokens each: 3 n + 1 of them never fill 9.
  kept = truncate.longest_fit(lambda n: [5] + [6, 7, 8] * n, 10, 9)
  assert kept == [5, 6, 7, 8, 6, 7, 8]


def test_keeps_nothing_where_only_the_empty_text_fits():
  text = 'words words words'
  assert truncate.longest_fit(one_for_each_word(text), len(text), 2) == [0, 1]


def test_says_where_even_the_empty_text_does_not_fit():
  assert truncate.longest_fit(one_for_each_word('a b'), 3, 1) is None


def test_is_fast_where_tokens_are_uneven():
  calls = []

  def encode(length):  # All the tokens are in the last tenth.
    calls.append(length)
    return [0] * max(0, length - 9_000)

  assert len(truncate.longest_fit(encode, 10_000, 500)) == 500
  assert len(calls) < 30
