"""The stages of a run, in their order, and what each costs on a machine."""

import dataclasses
from typing import Any

from inpars_tpu import (
  machines,
  plan_devices,
  plan_memory,
  plan_models,
  plan_work,
)
from inpars_tpu import recipe as recipe_lib

UTILISATION = 0.4  # Of the peaks; not measured on a machine of the table.
# CPU seconds on one core, as README and the notes of bm25 measured them.
_SECONDS = {
  'sample': 10e-6,  # Of a document of the corpus, as the next.
  'index': 42e-6,
  'negatives': 1.6e-3,  # Of a query.
  'search': 6e-3,
  'evaluate': 1e-6,  # Of a line of a run.
}


def build(
  work: plan_work.Work,
  generator: plan_models.Model,
  reranker: plan_models.Model,
  recipe: recipe_lib.Recipe,
  machine: machines.Machine,
  *,
  utilisation: float = UTILISATION,
  filter_model: plan_models.Model | None = None,
  has_first_stage: bool = False,
  engine: str = 'embedded',
  compile_programs: plan_devices.Compile | None = None,
  known: dict[Any, plan_memory.Memory] | None = None,
) -> list[plan_devices.Stage]:
  """The stages of a run, in their order.

  Args:
    work: what is to be done.
    generator: GPT-J.
    reranker: training starts from it.
    recipe: the method's numbers.
    machine: where it is done.
    utilisation: of the machine's peaks that is reached.
    filter_model: another reranker for the filter.
    has_first_stage: a run of others replaces BM25's.
    engine: of training.
    compile_programs: gives the compiler's bytes; None: by arithmetic.
    known: what programs need, of other plans for the machine; is added to.

  Raises:
    InputError: a batch that the machine's devices do not divide.
  """
  known = {} if known is None else known
  made = plan_devices.Maker(
    machine, recipe, utilisation, compile_programs, known
  )
  n, kept = work.num_documents, min(recipe.NUM_PAIRS, work.num_sampled)
  stages = [
    _on_host('sample', f'{work.num_sampled:,} of {n:,} documents', n),
    made.generate(generator, work),
  ]
  filtered = plan_devices.Stage('filter', 'by rules')
  if recipe.FILTER_BY == 'reranker':
    filtered = made.score(
      'filter', filter_model or reranker, work.num_sampled, work.filter_tokens
    )
  stages += [
    filtered,
    _on_host('index', f'{n:,} documents', n),
    _on_host('negatives', f'of {kept:,} queries', kept),
    made.train(reranker, work, engine),
  ]
  if not work.num_queries:
    return stages
  hits = min(recipe.FIRST_STAGE_HITS, n)
  if not has_first_stage:
    stages.append(
      _on_host('search', f'{work.num_queries:,} queries', work.num_queries)
    )
  pairs = work.num_queries * min(recipe.RERANK_HITS, n)
  before = made.score('rerank before', reranker, pairs, work.rerank_tokens)
  num_lines = 3 * work.num_queries * hits
  return [
    *stages,
    before,
    dataclasses.replace(before, name='rerank after'),
    _on_host('evaluate', f'{num_lines:,} lines', num_lines),
  ]


def _on_host(name: str, what: str, num: int) -> plan_devices.Stage:
  return plan_devices.Stage(name, what, seconds=num * _SECONDS[name])
