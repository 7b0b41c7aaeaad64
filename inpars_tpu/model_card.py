"""The README.md of a fine-tuned reranker, as Hugging Face shows it."""

from collections.abc import Mapping
from typing import Any

from inpars_tpu import monot5


def write(
  *,
  base_model: str,
  pairs: str,
  settings: Mapping[str, Any],
  counts: Mapping[str, int],
  epochs: float,
  spec: monot5.RerankerSpec,
  scores: Mapping[str, float],
) -> str:
  """Text of the card: what it is, its data, its recipe.

  Args:
    base_model: name of the model that training started from.
    pairs: TFDS name of the training pairs.
    settings: gin macro -> value.
    counts: of the pairs, by kind.
    epochs: how often the positives were read.
    spec: what it reads and says.
    scores: on the validation pairs, by name; none where there are none.
  """
  numbers = '\n'.join(f'| {name} | {v!r} |' for name, v in settings.items())
  results = _results(scores) if scores else ''
  data = ', '.join(f'{count:,} {kind}' for kind, count in counts.items())
  if spec.label_words is None:
    kind = 'RankT5'
    score = f'the logit of token {spec.logit_id} at the first decoder step'
  else:
    kind = 'monoT5'
    false_word, true_word = spec.label_words
    score = (
      f'the log-probability of `{true_word}`\nagainst `{false_word}` as the '
      'first word it says'
    )
  return f"""---
library_name: transformers
pipeline_tag: text-ranking
tags: [t5, {kind.lower()}, reranker, inpars]
---
# {base_model}, fine-tuned on {pairs}

A {kind} reranker, trained by inpars_tpu (InPars-v2, arXiv:2301.01820) on
synthetic queries that a language model wrote for documents of the corpus, with
BM25 negatives. Nobody labelled any of them.

It reads `{spec.template}`, and its score is {score}:

    inpars-tpu rerank --model=DIR --run=... --corpus=... --queries=...

## Data

{pairs}: {data}; read {epochs:g} times.
{results}
## Recipe

| | |
|---|---|
{numbers}
"""


def _results(scores: Mapping[str, float]) -> str:
  rows = '\n'.join(f'| {name} | {v:.4f} |' for name, v in scores.items())
  return f"""
## Scores

On held-out synthetic queries, each with its positive and its negatives:

| | |
|---|---|
{rows}
"""
