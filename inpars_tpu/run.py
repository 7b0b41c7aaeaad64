"""The whole loop on one dataset: every stage in its order.

Owns the order and the names of the files in `work_dir/<dataset>/`; each stage
skips what it finds complete, and resumes what was cut off. Of several processes
all generate, filter, train and rerank, and the first one does the rest, while
the others wait.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping

from etils import epath

from inpars_tpu import (
  beir,
  bm25,
  collection,
  errors,
  evaluate,
  files,
  filter,  # The stage, not the builtin.
  forums,
  generate,
  index,
  negatives,
  processes,
  report,
  report_record,
  rerank,
  sample,
  search,
  stores,
  train,
  trec,
)
from inpars_tpu import plan as planning
from inpars_tpu import recipe as recipe_lib
from inpars_tpu import reranker as reranker_lib

_log = logging.getLogger(__name__)

_BEGINS = 'run: %s'  # benchmarks/kills.py looks for these lines.


@dataclasses.dataclass(frozen=True)
class Plan:
  """Everything a run is asked to do, as the command line gives it."""

  dataset: str
  data_dir: files.PathLike
  work_dir: files.PathLike
  generator: files.PathLike
  reranker: files.PathLike
  recipe: recipe_lib.Recipe
  filter_model: files.PathLike | None = None
  first_stage_run: files.PathLike | None = None
  language: str = 'en'
  label_words: str | None = None
  engine: str = 'embedded'


def main(args) -> None:
  """`inpars-tpu run`."""
  fields = {field.name for field in dataclasses.fields(Plan)}
  plan = Plan(**{k: v for k, v in vars(args).items() if k in fields})
  with processes.from_flags(args).together() as members:
    run(plan, members)


def run(plan: Plan, members: processes.Processes = processes.ALONE) -> None:
  """Runs every stage, then prints the table and where the report is.

  Args:
    plan: what to do.
    members: the processes that run it together, this one among them.

  Raises:
    InputError: before anything is written, for input that some stage would
      refuse; or a stage's output that was made with other settings.
  """
  folder = find_dataset(plan.dataset, plan.data_dir)
  parts = {name: folder / name for name in beir.parts(folder.name)}
  has_test = any((p / 'qrels' / 'test.tsv').exists() for p in parts.values())
  check(plan, parts, has_test)
  work = epath.Path(plan.work_dir) / folder.name
  work.mkdir(parents=True, exist_ok=True)
  members.meet()  # Before any writes, all have found the input right.
  _write_plan(plan, folder, work, members)
  _make_reranker(plan, parts, work, members)
  if has_test:
    for name, part in parts.items():
      _test(plan, part, work / name, work / 'model', members)
    if is_forums(parts):
      _once(
        members,
        forums.average,
        {name: work / name for name in parts},
        work / 'metrics.json',
        seed=plan.recipe.only('SEED')['SEED'],
      )
  if members.is_first:
    _show(work, has_test)
  members.meet()


def _show(work: epath.Path, has_test: bool) -> None:
  """Writes the report, and prints the table."""
  page = _report(work)
  for role in report.untrained(work):
    print(f'The {role} had random, untrained weights.')
  if has_test:
    print('nDCG@10')
    for name, value in report.result_rows(
      files.read_json(work / 'metrics.json', 'metrics')
    ):
      print(f'  {name:<16} {value:.4f}')
  else:
    print('No qrels/test.tsv, so there is nothing to evaluate.')
    print(f'After fine-tuning the reranker is {work / "model"}')
  print(page)


def find_dataset(dataset: str, data_dir: files.PathLike) -> epath.Path:
  """The folder of a dataset: a folder itself, or a name below `data_dir`.

  Raises:
    InputError: there is no such folder; for a name of BEIR's it says how to
      get it, for another one which known name is nearest.
  """
  candidates = (epath.Path(dataset), epath.Path(data_dir) / dataset)
  # A folder's name is the dataset's: '.' and '..' have none.
  for folder in candidates:
    parts = beir.parts(stores.absolute(folder).name)
    if any((folder / part / 'corpus.jsonl').exists() for part in parts):
      return stores.absolute(folder)
  for folder in candidates:
    if folder.exists():
      first = epath.Path(beir.parts(stores.absolute(folder).name)[0])
      raise errors.InputError(f'{folder} has no {first / "corpus.jsonl"}')
  if dataset in beir.DATASETS:
    raise errors.InputError(
      f'{dataset} is not in {data_dir}: '
      f'{beir.how_to_get(beir.DATASETS[dataset], data_dir)}'
    )
  if '/' in dataset:
    raise errors.InputError(f'no dataset folder at {dataset}')
  raise errors.unknown('dataset', dataset, beir.DATASETS)


def check(plan: Plan, parts: Mapping[str, epath.Path], has_test: bool) -> None:
  """Reads all that a run reads, as far as is needed to know that it will do."""
  if is_forums(parts) and plan.first_stage_run:
    raise errors.InputError(
      '--first_stage_run is of one collection, and this is '
      f'{len(parts)} forums with a run each; leave it out'
    )
  for folder in parts.values():
    corpus = collection.Corpus(folder / 'corpus.jsonl')
    if has_test:
      path = folder / 'qrels' / 'test.tsv'
      queries = collection.read_queries(folder / 'queries.jsonl')
      collection.check_qrels(path, collection.read_qrels(path), queries, corpus)
  generate.check(plan.generator, plan.recipe, plan.data_dir)
  for model in {plan.reranker, plan.filter_model} - {None}:
    reranker_lib.check(model, label_words=plan.label_words)
  train.check(plan.recipe, plan.engine)
  bm25.check(plan.language)
  if plan.first_stage_run:
    trec.read_run(plan.first_stage_run)


def is_forums(parts: Mapping[str, epath.Path]) -> bool:
  """Whether these are the forums of a dataset, and not the dataset itself."""
  return '' not in parts


def _write_plan(
  plan: Plan,
  folder: epath.Path,
  work: epath.Path,
  members: processes.Processes,
) -> None:
  """Once: what this machine should need, for the report to set beside.

  All processes ask for their devices, which come to all of them or to none.
  """
  path = work / report_record.PLAN
  if not path.exists():
    made = planning.for_run(
      folder,
      generator=plan.generator,
      reranker=plan.reranker,
      filter_model=plan.filter_model,
      recipe=plan.recipe,
      data_dir=plan.data_dir,
      has_first_stage=plan.first_stage_run is not None,
      engine=plan.engine,
    )
    if members.is_first:
      files.write_json(path, planning.to_record(made))
  members.meet()


def _once(
  members: processes.Processes,
  stage: Callable[..., None],
  /,
  *args,
  **kwargs,
) -> None:
  """A stage that the first process does, while the others wait."""
  _log.info(_BEGINS, _name(stage))
  if members.is_first:
    stage(*args, **kwargs)
  members.meet()


def _together(
  members: processes.Processes,
  stage: Callable[..., None],
  /,
  *args,
  **kwargs,
) -> None:
  """A stage of all processes; its output is there when the last has left."""
  _log.info(_BEGINS, _name(stage))
  stage(*args, **kwargs)
  members.meet()


def _name(stage: Callable[..., None]) -> str:
  """Of the verb."""
  return stage.__module__.rpartition('.')[2]


def _make_reranker(
  plan: Plan,
  parts: Mapping[str, epath.Path],
  work: epath.Path,
  members: processes.Processes,
) -> None:
  """corpus -> documents -> queries -> filtered -> pairs -> model."""
  recipe = plan.recipe
  if is_forums(parts):
    corpus = work / forums.POOL_NAME
    _once(members, forums.pool, parts, corpus)
  else:
    corpus = parts[''] / 'corpus.jsonl'
  _once(members, sample.sample, corpus, work / 'documents.jsonl', recipe)
  _together(
    members,
    generate.generate,
    work / 'documents.jsonl',
    plan.generator,
    work / 'queries',
    recipe,
    data_dir=plan.data_dir,
    others=members,
  )
  _together(
    members,
    filter.filter_queries,
    work / 'queries',
    work / 'documents.jsonl',
    work / 'filtered.jsonl',
    recipe,
    model=plan.filter_model or plan.reranker,
    label_words=plan.label_words,
    others=members,
  )
  indexes = {name: work / name / 'index' for name in parts}
  for name, path in indexes.items():
    _once(
      members,
      index.index_corpus,
      parts[name] / 'corpus.jsonl',
      path,
      language=plan.language,
    )
  _once(
    members,
    negatives.mine,
    work / 'filtered.jsonl',
    corpus,
    indexes if is_forums(parts) else indexes[''],
    work / 'pairs',
    recipe,
    name=work.name,
  )
  _together(
    members,
    train.train,
    work / 'pairs',
    plan.reranker,
    work,
    recipe,
    label_words=plan.label_words,
    engine=plan.engine,
    members=members,
  )


def _test(
  plan: Plan,
  folder: epath.Path,
  work: epath.Path,
  trained: epath.Path,
  members: processes.Processes,
) -> None:
  """Test queries -> first stage -> reranked before and after -> metrics."""
  recipe = plan.recipe
  queries, qrels = folder / 'queries.jsonl', folder / 'qrels' / 'test.tsv'
  first_stage = plan.first_stage_run
  if first_stage is None:
    first_stage = work / 'bm25.trec'
    _once(
      members,
      search.search,
      work / 'index',
      queries,
      first_stage,
      recipe,
      qrels=qrels,
      exclude_own_id=_drops_own_id(folder),
    )
  runs = [first_stage]
  for name, model in (
    ('reranked_base', plan.reranker),
    ('reranked', trained),
  ):
    runs.append(work / f'{name}.trec')
    _together(
      members,
      rerank.rerank,
      first_stage,
      folder / 'corpus.jsonl',
      queries,
      model,
      runs[-1],
      recipe,
      label_words=plan.label_words if model == plan.reranker else None,
      others=members,
    )
  _once(
    members,
    evaluate.evaluate_files,
    qrels,
    runs,
    work / 'metrics.json',
    baseline=first_stage,
    seed=recipe.only('SEED')['SEED'],
  )


def _drops_own_id(folder: epath.Path) -> bool:
  dataset = beir.DATASETS.get(folder.name)
  return dataset is not None and dataset.drops_own_id


def _report(work: epath.Path) -> epath.Path:
  """Writes the report where one of the outputs it shows is newer."""
  if report.is_current(work):
    _log.info('all of %s is complete', work)
  else:
    report.write(work)
  return work / 'report.html'
