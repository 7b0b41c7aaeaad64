"""What the small GPT-J reads: the general text, then the prompt, as tokens.

Of what it is given to foretell, a document counts less than what is told of
it: its names and places are drawn at random.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from inpars_tpu import prompts
from inpars_tpu.demo import causal, reading

_DOCUMENT_WEIGHT = 0.1
_QUESTIONS = 0.5  # Share of questions among what the prompt is read with.
_NUM_TOGETHER = 512  # Texts that are tokenised in one call.


def passages(tokens, rng: np.random.Generator) -> Iterator[causal.Example]:
  """General text without end, each passage after an end of text."""
  end = tokens.encode(['<|endoftext|>'])[0]
  while True:
    texts = [reading.draw_passage(rng) for _ in range(_NUM_TOGETHER)]
    for text in weigh(tokens, texts):
      yield causal.Example(end + text.tokens, [0.0, *text.weights])


def answers(
  tokens, prompt: prompts.Prompt, rng: np.random.Generator
) -> Iterator[causal.Example]:
  """What follows the prompt's beginning: a document, and what is told."""
  while True:
    texts = []
    for _ in range(_NUM_TOGETHER):
      is_question = rng.random() < _QUESTIONS
      told = reading.ask(rng) if is_question else reading.restate(rng)
      after = prompt.after.replace(reading.QUESTION, told.genre)
      texts.append(f' {told.document}{after} {told.text}\n')
    yield from weigh(tokens, texts)


def weigh(tokens, texts: Sequence[str]) -> Iterator[causal.Example]:
  """Passages; of one that tells of a document, the document counts less.

  'Document: d\\nSummary: s\\n' -> the tokens of it, 0.1 each up to 'Summary:'
  """
  parts = []
  for text in texts:
    first, newline, rest = text.partition('\n')
    genre, colon, told = rest.partition(':')
    parts += [first + newline + genre + colon, told] if told else ['', text]
  encoded = tokens.encode(parts)
  for before, after in zip(encoded[::2], encoded[1::2], strict=True):
    yield causal.Example(
      before + after,
      [_DOCUMENT_WEIGHT] * len(before) + [1.0] * len(after),
    )
