"""Bytes on disk that a run takes, roughly: what it reads and what it writes."""

import math

from inpars_tpu import plan_models, plan_work
from inpars_tpu import recipe as recipe_lib
from inpars_tpu.gptj import convert as gptj_convert
from inpars_tpu.t5 import tensors

_WEIGHT_BYTES = 4  # Of a model that is not there yet; float32 at most.
_INDEX_SHARE = 0.21  # Of the corpus: 106 MB for a million of 79 words.
_RUN_LINE = 50  # Of a document of a run.
_QUERY_LINE = 80  # Of a query, beside its tokens, each with its log_prob.
_TOKEN = 16
_NUM_CHECKPOINTS = 3  # Two are kept while the next is written.


def build(
  work: plan_work.Work,
  generator: plan_models.Model,
  rerankers: list[plan_models.Model],
  recipe: recipe_lib.Recipe,
) -> dict[str, int]:
  """What -> bytes.

  Args:
    work: what is to be done.
    generator: GPT-J.
    rerankers: the one that is trained first, then another one for the filter.
    recipe: the method's numbers.
  """
  kept = 1.1 * min(recipe.NUM_PAIRS, work.num_sampled)  # With the validation.
  query = _QUERY_LINE + _TOKEN * work.new_tokens
  hits = min(recipe.FIRST_STAGE_HITS, work.num_documents)
  trained = _num_parameters(rerankers[0]) * 4
  models = sum(
    model.num_bytes or _num_parameters(model) * _WEIGHT_BYTES
    for model in (generator, *rerankers)
  )
  found = {
    'models': models,
    'corpus': work.corpus_bytes,
    'documents and queries': work.num_sampled * (work.document_bytes + query),
    'index': _INDEX_SHARE * work.corpus_bytes,
    'filtered and pairs': kept
    * ((2 + recipe.NUM_NEGATIVES) * work.document_bytes + query),
    'checkpoints': _NUM_CHECKPOINTS * trained,
    'fine-tuned model': trained,
    'runs': 3 * work.num_queries * hits * _RUN_LINE,
  }
  return {what: round(num_bytes) for what, num_bytes in found.items()}


def _num_parameters(model: plan_models.Model) -> int:
  shapes = (
    gptj_convert.hf_shapes(model.config)
    if hasattr(model.config, 'rotary_dim')
    else tensors.shapes(model.config)
  )
  return sum(map(math.prod, shapes.values()))
