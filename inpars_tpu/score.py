"""log P(true) of each (query, text) pair of a file."""

import collections
from typing import Any

from inpars_tpu import (
  errors,
  files,
  manifest,
  processes,
  score_parts,
)
from inpars_tpu import recipe as recipe_lib
from inpars_tpu import reranker as reranker_lib

# What a score depends on. SCORE_BATCH_TOKENS only fits the work to the memory:
# a run that ran out of it goes on with less.
MACROS = ('MAX_INPUT_TOKENS', 'MAX_PASSAGES', 'RERANKER_DTYPE')


def main(args) -> None:
  """`inpars-tpu score`."""
  score(
    args.pairs_file,
    args.model,
    args.output,
    args.recipe,
    label_words=args.label_words,
    mesh=args.mesh,
    others=processes.from_flags(args),
  )


def score(
  pairs_path: files.PathLike,
  model_path: files.PathLike,
  output: files.PathLike,
  recipe: recipe_lib.Recipe,
  *,
  label_words: str | None = None,
  mesh: str | None = None,
  others: processes.Processes = processes.ALONE,
) -> None:
  """Writes the lines of a JSONL file again, each with its log_prob_true.

  Args:
    pairs_path: lines with `query` and `text`, and whatever else.
    model_path: directory of a reranker.
    output: the same lines, in the same order.
    recipe: gives `MACROS`.
    label_words: 'false,true', where the directory does not say them.
    mesh: as `reranker.MonoT5.load` takes it.
    others: which of several processes this is, as in `score_parts.Parts`.

  Raises:
    InputError: a malformed line or an empty query; as `reranker.check`.
  """
  files.must_be_file(pairs_path, 'pairs file')
  spec, _, _ = reranker_lib.check(
    model_path, label_words, others.known_mesh(mesh)
  )
  job = manifest.begin_file(
    'score',
    output,
    settings=recipe.only(*MACROS) | {'label_words': label_words},
    inputs={'pairs': pairs_path, 'model': model_path},
  )
  if job.is_complete:
    return
  records = read_pairs(pairs_path)
  places = score_parts.split(len(records))
  parts = score_parts.Parts(job, [len(part) for part in places], others)
  if parts.own:
    parts.make(
      load_model(model_path, recipe, label_words, mesh),
      lambda i: [(records[p]['query'], records[p]['text']) for p in places[i]],
    )
  with parts.ending() as is_ending:
    if is_ending:
      counts: collections.Counter = collections.Counter()
      scores = [value for part in parts.read(counts) for value in part]
      files.write_jsonl(
        output,
        (
          record | {spec.field: value}
          for record, value in zip(records, scores, strict=True)
        ),
        shared=parts.is_shared,
      )
      job.finish(counts={'in': len(records), 'out': len(records), **counts})


def load_model(
  model_path: files.PathLike,
  recipe: recipe_lib.Recipe,
  label_words: str | None,
  mesh: str | None = None,
) -> reranker_lib.MonoT5:
  """The reranker as the recipe wants it."""
  return reranker_lib.MonoT5.load(
    model_path,
    dtype=recipe.RERANKER_DTYPE,
    max_tokens=recipe.MAX_INPUT_TOKENS,
    batch_tokens=recipe.SCORE_BATCH_TOKENS,
    label_words=label_words,
    mesh=mesh,
    max_passages=recipe.MAX_PASSAGES,
  )


def read_pairs(path: files.PathLike) -> list[dict[str, Any]]:
  """Reads JSON lines with `query` and `text`; an empty text is a text.

  Raises:
    InputError: with its line number, a malformed line, an empty query, or text
      that is no Unicode; a file without a line.
  """
  records = []
  for number, record in files.read_jsonl(path, 'pairs file', ('query', 'text')):
    if not record['query'].strip():
      raise errors.InputError(f'{path}:{number}: the query is empty')
    try:
      files.to_json_line(record)
    except UnicodeEncodeError:  # Half of a surrogate pair, escaped in JSON.
      raise errors.InputError(
        f'{path}:{number}: has text that is no Unicode'
      ) from None
    records.append(record)
  if not records:
    raise errors.InputError(f'{path}: no pairs')
  return records
