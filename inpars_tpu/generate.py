"""`inpars-tpu generate`: one query for each document, in shards of 1,024."""

import logging
from collections.abc import Mapping, Sequence

import tqdm
from etils import epath

from inpars_tpu import (
  collection,
  errors,
  files,
  generator,
  manifest,
  prompt_tokens,
  prompts,
)
from inpars_tpu import recipe as recipe_lib

_log = logging.getLogger(__name__)

# What a query depends on. GENERATOR_BATCH_SIZE and --mesh only fit the work to
# the memory: a run that ran out of it goes on with less.
_MACROS = (
  'PROMPT',
  'MAX_DOCUMENT_TOKENS',
  'MAX_NEW_TOKENS',
  'GENERATOR_DTYPE',
  'GENERATOR_WEIGHTS',
)
SHARD_DOCUMENTS = 1_024


def main(args) -> None:
  """`inpars-tpu generate`."""
  for name in ('shard_index', 'num_shards'):
    if not getattr(args, name).isdigit():
      raise errors.InputError(f'--{name}={getattr(args, name)} is no number')
  generate(
    args.documents,
    args.model,
    args.output,
    args.recipe,
    data_dir=args.data_dir,
    save_prompts=args.save_prompts,
    shard_index=int(args.shard_index),
    num_shards=int(args.num_shards),
    mesh=args.mesh,
  )


def generate(
  documents_path: files.PathLike,
  model_path: files.PathLike,
  output: files.PathLike,
  recipe: recipe_lib.Recipe,
  *,
  data_dir: files.PathLike = 'data',
  save_prompts: bool = False,
  shard_index: int = 0,
  num_shards: int = 1,
  mesh: str | None = None,
) -> None:
  """Writes the query shards of documents.jsonl; goes on where it was cut off.

  Several processes that share nothing but the output directory may each write
  every `num_shards`-th shard file; the one that finds them all there writes the
  manifest. Their number may change from one start to the next.

  Args:
    documents_path: documents.jsonl.
    model_path: the generator.
    output: directory of shards.
    recipe: of which `_MACROS` decide the queries.
    data_dir: where published prompts are.
    save_prompts: keep each prompt beside its query.
    shard_index: which process this is, from 0.
    num_shards: of so many.
    mesh: as `generator.GPTJ.load` takes it.

  Raises:
    InputError: malformed documents, an unknown prompt, a model that is not a
      GPT-J, an output that was begun with other settings, a mesh that does
      not fit the devices or the model.
  """
  if not 0 <= shard_index < num_shards:
    raise errors.InputError(
      f'--shard_index={shard_index} must be below --num_shards={num_shards}'
    )
  prompt = prompts.load(recipe.PROMPT, data_dir)
  documents = collection.read_documents(documents_path)
  generator.check(model_path, mesh)
  job = manifest.begin_directory(
    'generate',
    output,
    settings=recipe.only(*_MACROS)
    | {'prompt_sha256': prompt.sha256, 'save_prompts': save_prompts},
    inputs={'documents': documents_path, 'model': model_path},
  )
  if job.is_complete:
    return
  gptj = generator.GPTJ.load(
    model_path, recipe.GENERATOR_DTYPE, recipe.GENERATOR_WEIGHTS, mesh
  )
  built = gptj.build_prompts(
    [document['text'] for document in documents],
    prompt,
    max_document_tokens=recipe.MAX_DOCUMENT_TOKENS,
    max_new_tokens=recipe.MAX_NEW_TOKENS,
  )
  shards = shard_paths(job.output, len(documents))
  _write_shards(
    gptj,
    built,
    [document['doc_id'] for document in documents],
    dict(list(enumerate(shards))[shard_index::num_shards]),
    recipe,
    save_prompts,
  )
  missing = [path for path in shards if not path.exists()]
  if missing:
    _log.info(
      'generate: %d of %d shards are left to other processes',
      len(missing), len(shards),
    )  # fmt: skip
    return
  job.finish(
    counts=_count(shards)
    | {'documents cut': built.num_cut, 'prompts too long': built.num_too_long},
    prefix_tokens=len(built.prefix),
  )


def _write_shards(
  gptj: generator.GPTJ,
  built: prompt_tokens.Prompts,
  doc_ids: Sequence[str],
  shards: Mapping[int, epath.Path],
  recipe: recipe_lib.Recipe,
  save_prompts: bool,
) -> None:
  """Writes the shards (number -> path) that are not there yet."""
  places = {
    number: range(
      number * SHARD_DOCUMENTS,
      min((number + 1) * SHARD_DOCUMENTS, len(doc_ids)),
    )
    for number in shards
  }
  prefix = gptj.read_prefix(built)
  progress = tqdm.tqdm(
    total=sum(map(len, places.values())), unit='doc', desc='generate'
  )
  for number, path in shards.items():
    chosen = places[number]
    if path.exists():
      progress.update(len(chosen))
      continue
    queries = dict.fromkeys(chosen, generator.NO_QUERY)
    for index, query in gptj.write_queries(
      built,
      prefix,
      chosen,
      max_new_tokens=recipe.MAX_NEW_TOKENS,
      batch_size=recipe.GENERATOR_BATCH_SIZE,
    ):
      queries[index] = query
      progress.update()
    files.write_jsonl(
      path,
      (
        {
          'doc_id': doc_ids[index],
          'query': query.text,
          'log_probs': query.log_probs,
          'finished': query.is_finished,
        }
        | ({'prompt_text': built.texts[index]} if save_prompts else {})
        for index, query in queries.items()
      ),
    )
  progress.close()


def shard_paths(
  directory: files.PathLike, num_documents: int
) -> list[epath.Path]:
  """`queries-00000-of-00098.jsonl` and so on: one for 1,024 documents."""
  total = -(-num_documents // SHARD_DOCUMENTS)
  return [
    epath.Path(directory) / f'queries-{i:05d}-of-{total:05d}.jsonl'
    for i in range(total)
  ]


def _count(shards) -> dict[str, int]:
  counts = {'in': 0, 'out': 0, 'empty queries': 0, 'never ended': 0}
  for path in shards:
    for _, record in files.read_jsonl(path, 'queries', ('doc_id', 'query')):
      counts['in'] += 1
      counts['out'] += 1
      counts['empty queries'] += not record['query']
      counts['never ended'] += not record['finished']
  return counts
