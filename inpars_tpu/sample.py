"""Draws the documents that get a synthetic query."""

import numpy as np

from inpars_tpu import collection, errors, files, manifest
from inpars_tpu import recipe as recipe_lib

_MACROS = ('SEED', 'NUM_DOCUMENTS', 'MIN_DOCUMENT_CHARS')


def main(args) -> None:
  """`inpars-tpu sample`."""
  sample(args.corpus, args.output, args.recipe)


def sample(
  corpus_path: files.PathLike,
  output: files.PathLike,
  recipe: recipe_lib.Recipe,
) -> None:
  """Writes documents.jsonl: `doc_id`, `text`, in the order drawn.

  Raises:
    InputError: a malformed corpus, or no document of MIN_DOCUMENT_CHARS.
  """
  settings = recipe.only(*_MACROS)
  corpus = collection.Corpus(corpus_path)
  job = manifest.begin_file(
    'sample', output, settings=settings, inputs={'corpus': corpus_path}
  )
  if job.is_complete:
    return
  drawn = draw(
    corpus.num_chars,
    num_documents=recipe.NUM_DOCUMENTS,
    min_chars=recipe.MIN_DOCUMENT_CHARS,
    seed=recipe.SEED,
  )
  if not len(drawn):
    raise errors.InputError(
      f'{corpus_path}: no document has MIN_DOCUMENT_CHARS = '
      f'{recipe.MIN_DOCUMENT_CHARS} characters'
    )
  documents = (corpus[index] for index in drawn)
  files.write_jsonl(
    output, ({'doc_id': d.doc_id, 'text': d.text} for d in documents)
  )
  num_long = int((corpus.num_chars >= recipe.MIN_DOCUMENT_CHARS).sum())
  job.finish(
    counts={
      'in': len(corpus),
      'out': len(drawn),
      'dropped': {
        'too short': len(corpus) - num_long,
        'not drawn': num_long - len(drawn),
      },
    }
  )


def draw(
  num_chars: np.ndarray, *, num_documents: int, min_chars: int, seed: int
) -> np.ndarray:
  """Positions of the drawn documents, in the order drawn.

  Equal to the toolkit's `DataFrame.sample(n)` under `set_seed(seed)`, which is
  numpy's legacy `choice`: both ask about the same documents.

  Args:
    num_chars: [N] characters of each document.
    num_documents: how many to draw; all, in random order, if there are fewer.
    min_chars: shorter ones cannot be drawn.
    seed: of the draw.

  Returns:
    [n] int64.
  """
  eligible = np.flatnonzero(num_chars >= min_chars)
  size = min(num_documents, len(eligible))
  state = np.random.RandomState(seed)
  return eligible[state.choice(len(eligible), size, replace=False)]
