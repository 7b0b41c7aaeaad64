"""The most of a text that fits a number of tokens.

Knows no tokenizer and no template: tokens of a text cut at a character are
what the given function says.
"""

from collections.abc import Callable


def longest_fit(
  encode: Callable[[int], list[int]], num_chars: int, max_tokens: int
) -> list[int] | None:
  """Finds at which character to cut a text that has too many tokens.

  Args:
    encode: tokens of the whole input when only so many characters are kept.
    num_chars: of the text; all of them are too many.
    max_tokens: the most tokens that the input may have.

  Returns:
    Tokens of an input that fits: it fills the limit, or a character more would
    not fit. None where not even the empty text fits.
  """
  low, high = 0, num_chars  # `low` fits and `high` does not.
  kept, num_high = encode(low), len(encode(high))
  if len(kept) > max_tokens:
    return None
  is_guess = True
  while high - low > 1 and len(kept) < max_tokens:
    middle = (low + high) // 2
    if is_guess:  # On the line through both ends; alone it may creep.
      share = (max_tokens - len(kept)) / (num_high - len(kept))
      middle = low + int(share * (high - low))
      middle = min(max(middle, low + 1), high - 1)
    tokens = encode(middle)
    if len(tokens) <= max_tokens:
      low, kept = middle, tokens
    else:
      high, num_high = middle, len(tokens)
    is_guess = not is_guess
  return kept
