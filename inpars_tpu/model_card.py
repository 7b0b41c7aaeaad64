"""The README.md of a fine-tuned reranker, as Hugging Face shows it."""

from collections.abc import Mapping
from typing import Any


def write(
  *,
  base_model: str,
  pairs: str,
  settings: Mapping[str, Any],
  counts: Mapping[str, int],
  epochs: float,
  template: str,
  label_words: tuple[str, str],
) -> str:
  """Text of the card: what it is, its data, its recipe.

  Args:
    base_model: name of the model that training started from.
    pairs: TFDS name of the training pairs.
    settings: gin macro -> value.
    counts: of the training pairs, by kind.
    epochs: how often the positives were read.
    template: the input text, with {query} and {document}.
    label_words: for irrelevant, for relevant.
  """
  numbers = '\n'.join(f'| {name} | {v!r} |' for name, v in settings.items())
  data = ', '.join(f'{count:,} {kind}' for kind, count in counts.items())
  false_word, true_word = label_words
  return f"""---
library_name: transformers
pipeline_tag: text-ranking
tags: [t5, monot5, reranker, inpars]
---
# {base_model}, fine-tuned on {pairs}

A monoT5 reranker, trained by inpars_tpu (InPars-v2, arXiv:2301.01820) on
synthetic queries that a language model wrote for documents of the corpus, with
BM25 negatives. Nobody labelled any of them.

It reads `{template}`, and its score is the log-probability of `{true_word}`
against `{false_word}` as the first word it says:

    inpars-tpu rerank --model=DIR --run=... --corpus=... --queries=...

## Data

{pairs}: {data}; read {epochs:g} times.

## Recipe

| | |
|---|---|
{numbers}
"""
