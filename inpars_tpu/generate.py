"""`inpars-tpu generate`: one query for each document, in shards of 1,024."""

from typing import Any

import tqdm
from etils import epath

from inpars_tpu import collection, files, generator, manifest, prompts
from inpars_tpu import recipe as recipe_lib

# What a query depends on. GENERATOR_BATCH_SIZE only fits the work to the
# memory: a run that ran out of it goes on with less.
_MACROS = (
  'PROMPT',
  'MAX_DOCUMENT_TOKENS',
  'MAX_NEW_TOKENS',
  'GENERATOR_DTYPE',
)
SHARD_DOCUMENTS = 1_024


def main(args) -> None:
  """`inpars-tpu generate`."""
  generate(
    args.documents,
    args.model,
    args.output,
    args.recipe,
    data_dir=args.data_dir,
    save_prompts=args.save_prompts,
  )


def generate(
  documents_path: files.PathLike,
  model_path: files.PathLike,
  output: files.PathLike,
  recipe: recipe_lib.Recipe,
  *,
  data_dir: files.PathLike = 'data',
  save_prompts: bool = False,
) -> None:
  """Writes the query shards of documents.jsonl; goes on where it was cut off.

  Raises:
    InputError: malformed documents, an unknown prompt, a model that is not a
      GPT-J, an output that was begun with other settings.
  """
  prompt = prompts.load(recipe.PROMPT, data_dir)
  documents = collection.read_documents(documents_path)
  generator.check(model_path)
  job = manifest.begin_directory(
    'generate',
    output,
    settings=recipe.only(*_MACROS)
    | {'prompt_sha256': prompt.sha256, 'save_prompts': save_prompts},
    inputs={'documents': documents_path, 'model': model_path},
  )
  if job.is_complete:
    return
  gptj = generator.GPTJ.load(model_path, recipe.GENERATOR_DTYPE)
  built = gptj.build_prompts(
    [document['text'] for document in documents],
    prompt,
    max_document_tokens=recipe.MAX_DOCUMENT_TOKENS,
    max_new_tokens=recipe.MAX_NEW_TOKENS,
  )
  prefix = gptj.read_prefix(built)
  shards = shard_paths(job.output, len(documents))
  progress = tqdm.tqdm(total=len(documents), unit='doc', desc='generate')
  for number, path in enumerate(shards):
    first = number * SHARD_DOCUMENTS
    chosen = range(first, min(first + SHARD_DOCUMENTS, len(documents)))
    if not path.exists():
      records = [
        {'doc_id': documents[i]['doc_id'], 'query': '', 'log_probs': [],
         'finished': True}
        | ({'prompt_text': built.texts[i]} if save_prompts else {})
        for i in chosen
      ]  # fmt: skip
      for index, query in gptj.write_queries(
        built,
        prefix,
        chosen,
        max_new_tokens=recipe.MAX_NEW_TOKENS,
        batch_size=recipe.GENERATOR_BATCH_SIZE,
      ):
        records[index - first] |= {
          'query': query.text,
          'log_probs': query.log_probs,
          'finished': query.is_finished,
        }
        progress.update()
      files.write_jsonl(path, records)
    progress.n = chosen.stop
    progress.refresh()
  progress.close()
  job.finish(
    counts=_count(shards)
    | {'documents cut': built.num_cut, 'prompts too long': built.num_too_long},
    prefix_tokens=len(built.prefix),
  )


def shard_paths(directory: files.PathLike, num_documents: int) -> list[Any]:
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
