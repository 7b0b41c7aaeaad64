"""`inpars-tpu generate`: one query for each document, in shards of 1,024."""

import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Sequence
from typing import Any

from etils import epath

from inpars_tpu import (
  collection,
  errors,
  files,
  generator,
  manifest,
  processes,
  progress,
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
  generate(
    args.documents,
    args.model,
    args.output,
    args.recipe,
    data_dir=args.data_dir,
    save_prompts=args.save_prompts,
    others=processes.from_flags(args),
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
  others: processes.Processes = processes.ALONE,
  mesh: str | None = None,
) -> None:
  """Writes the query shards of documents.jsonl; goes on where it was cut off.

  Several processes that share nothing but the output directory may each write
  their share of the shards; the one that finds them all there writes the
  manifest. Their number may change from one start to the next.

  Args:
    documents_path: documents.jsonl.
    model_path: the generator.
    output: directory of shards.
    recipe: of which `_MACROS` decide the queries.
    data_dir: where published prompts are.
    save_prompts: keep each prompt beside its query.
    others: which of several processes this is.
    mesh: as `generator.GPTJ.load` takes it.

  Raises:
    InputError: malformed documents, a model that is not a GPT-J, an unknown
      prompt or one that does not fit it, an output that was begun with other
      settings, other processes that do not come, a mesh that does not fit the
      devices or the model.
  """
  prompt, tokens, max_prompt_tokens = _open(
    model_path, recipe, data_dir, others.known_mesh(mesh)
  )
  documents = collection.read_documents(documents_path)
  job = manifest.begin_directory(
    'generate',
    output,
    settings=recipe.only(*_MACROS)
    | {'prompt_sha256': prompt.sha256, 'save_prompts': save_prompts},
    inputs={'documents': documents_path, 'model': model_path},
  )
  if job.is_complete:
    return
  shards = shard_paths(job.output, len(documents))
  shares = others.share(len(shards), lambda number: not shards[number].exists())
  gptj = None
  with _on_another_thread(
    prompt_tokens.build,
    tokens,
    prompt,
    [document['text'] for document in documents],
    max_document_tokens=recipe.MAX_DOCUMENT_TOKENS,
    max_prompt_tokens=max_prompt_tokens,
  ) as tokenised:
    if shares.own:
      gptj = generator.GPTJ.load(
        model_path, recipe.GENERATOR_DTYPE, recipe.GENERATOR_WEIGHTS, mesh
      )
    built = tokenised.result()
  if gptj is not None:
    _write_shards(
      gptj,
      built,
      documents,
      {number: shards[number] for number in shares.own},
      f'generate{shares.name}',
      recipe,
      prompt if save_prompts else None,
    )
  others.meet()
  if others.is_first:
    _finish(job, shards, shares, built, len(documents))


def _finish(
  job: manifest.Job,
  shards: Sequence[epath.Path],
  shares: processes.Shares,
  built: prompt_tokens.Prompts,
  num_documents: int,
) -> None:
  """Writes the manifest, or says what is left to whom."""
  left = [i for i, path in enumerate(shards) if not path.exists()]
  if left:
    _log.info(
      'generate%s: done; of %d shards these are left: %s. Whoever writes the '
      'last one writes the manifest. If a process was lost, start any number '
      'of them again: they go on with what is left',
      shares.name, len(shards), shares.describe(left),
    )  # fmt: skip
  elif manifest.read(job.output):
    _log.info('generate: another process has written the manifest')
  else:
    job.finish(
      counts=_count(shards, num_documents)
      | {
        'documents cut': built.num_cut,
        'prompts too long': built.num_too_long,
      },
      prefix_tokens=len(built.prefix),
    )


@contextlib.contextmanager
def _on_another_thread(function, *args, **kwargs):
  """Yields the future of a call that is cancelled where the body fails."""
  failed = threading.Event()
  with concurrent.futures.ThreadPoolExecutor(1) as executor:
    try:
      yield executor.submit(
        function, *args, **kwargs, is_cancelled=failed.is_set
      )
    except BaseException:
      failed.set()
      raise


def check(
  model_path: files.PathLike,
  recipe: recipe_lib.Recipe,
  data_dir: files.PathLike,
) -> None:
  """Checks all that can be checked before there are documents.

  Raises:
    InputError: as `generate`.
  """
  _open(model_path, recipe, data_dir)


def _open(model_path, recipe, data_dir, mesh=None):
  """The prompt, the tokenizer, the most tokens that a prompt may have."""
  prompt = prompts.load(recipe.PROMPT, data_dir)
  tokens, config = generator.check(model_path, mesh)
  max_prompt_tokens = config.max_positions - recipe.MAX_NEW_TOKENS
  prompt_tokens.check_room(tokens, prompt, max_prompt_tokens)
  return prompt, tokens, max_prompt_tokens


def _write_shards(
  gptj: generator.GPTJ,
  built: prompt_tokens.Prompts,
  documents: Sequence[dict[str, Any]],
  shards: dict[int, epath.Path],
  name: str,
  recipe: recipe_lib.Recipe,
  saved_prompt: prompts.Prompt | None,
) -> None:
  """Writes shards (number -> path), with each prompt where one is given.

  `name` is for the line that shows how far it is.
  """
  places = {
    number: range(
      number * SHARD_DOCUMENTS,
      min((number + 1) * SHARD_DOCUMENTS, len(documents)),
    )
    for number in shards
  }
  shared = gptj.read_shared(built)
  with progress.Progress(name, sum(map(len, places.values()))) as shown:
    for number, path in shards.items():
      chosen = places[number]
      queries = dict.fromkeys(chosen, generator.NO_QUERY)
      num_written = 0
      for index, query in gptj.write_queries(
        built,
        shared,
        chosen,
        max_new_tokens=recipe.MAX_NEW_TOKENS,
        batch_size=recipe.GENERATOR_BATCH_SIZE,
      ):
        queries[index] = query
        num_written += 1
        shown.add(1, len(query.log_probs) + query.is_finished)
      files.write_jsonl(
        path,
        (
          _to_record(documents[index], query, built.num_chars[index],
                     saved_prompt)
          for index, query in queries.items()
        ),
        shared=True,
      )  # fmt: skip
      shown.add(len(chosen) - num_written)  # Prompts that do not fit.


def _to_record(
  document: dict[str, Any],
  query: generator.Query,
  num_chars: int,
  saved_prompt: prompts.Prompt | None,
) -> dict[str, Any]:
  record = {
    'doc_id': document['doc_id'],
    'query': query.text,
    'log_probs': query.log_probs,
    'finished': query.is_finished,
  }
  if saved_prompt is not None:
    record['prompt_text'] = saved_prompt.build(document['text'][:num_chars])
  return record


def shard_paths(
  directory: files.PathLike, num_documents: int
) -> list[epath.Path]:
  """`queries-00000-of-00098.jsonl` and so on: one for 1,024 documents."""
  total = -(-num_documents // SHARD_DOCUMENTS)
  return [
    epath.Path(directory) / f'queries-{i:05d}-of-{total:05d}.jsonl'
    for i in range(total)
  ]


def _count(shards: Sequence[epath.Path], num_documents: int) -> dict[str, int]:
  """Counts of the shards as they are, whoever wrote them and when."""
  counts = {'in': num_documents, 'out': 0, 'empty queries': 0, 'never ended': 0}
  for number, path in enumerate(shards):
    before = counts['out']
    for _, record in files.read_jsonl(path, 'queries', ('doc_id', 'query')):
      counts['out'] += 1
      counts['empty queries'] += not record['query']
      counts['never ended'] += not record['finished']
    expected = min(num_documents - number * SHARD_DOCUMENTS, SHARD_DOCUMENTS)
    if counts['out'] - before != expected:
      raise errors.InputError(
        f'{path} has {counts["out"] - before} lines for {expected} documents: '
        'it was changed; delete it and give the same command again'
      )
  return counts
