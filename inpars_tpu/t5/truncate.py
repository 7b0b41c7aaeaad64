"""Texts that must fit a number of tokens: the middle is cut, the ends stay.

Knows no template and no tokenizer: `encode` says what the tokens of texts are,
of all of them together, since tokenizers are quick only with many at once.
"""

from collections.abc import Callable, Sequence

Parts = tuple[str, str, str]  # Before, what may be cut, after.
Tokens = list[int]

# A longer text is read no farther at first: English has four a token.
_CHARS_PER_TOKEN = 8


def fit(
  encode: Callable[[Sequence[str]], list[Tokens]],
  texts: Sequence[Parts],
  max_tokens: int,
) -> tuple[list[Tokens | None], int]:
  """Tokenises texts, each in one piece; keeps of the middle what there is room.

  A piece never reaches over a blank, so tokens cut off behind a word are those
  of the text cut there; within a word they are the first of the whole word.

  Args:
    encode: tokens of each text.
    texts: in three parts, which the text joins.
    max_tokens: the most that a text may have; one that is cut has as many.

  Returns:
    Tokens of each text, None where its ends alone are too long; and how many
    texts were too long.
  """
  most = _CHARS_PER_TOKEN * max_tokens
  found: list[Tokens | None] = encode(
    [before + middle[:most] + after for before, middle, after in texts]
  )
  short = [
    i
    for i, (_, middle, _) in enumerate(texts)
    if len(middle) > most and len(found[i]) <= max_tokens
  ]
  whole = encode([''.join(texts[i]) for i in short])
  for i, tokens in zip(short, whole, strict=True):
    found[i] = tokens
  long = [i for i, tokens in enumerate(found) if len(tokens) > max_tokens]
  heads = encode([texts[i][0] for i in long])
  tails = encode([texts[i][2] for i in long])
  for i, head, tail in zip(long, heads, tails, strict=True):
    has_room = len(head) + len(tail) <= max_tokens
    found[i] = found[i][: max_tokens - len(tail)] + tail if has_room else None
  return found, len(long)
