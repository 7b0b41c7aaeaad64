"""Makes the Lucene index of a corpus."""

import logging

from inpars_tpu import bm25, collection, errors, files, manifest

_log = logging.getLogger(__name__)


def main(args) -> None:
  """`inpars-tpu index`."""
  index_corpus(args.corpus, args.output, args.language)


def index_corpus(
  corpus_path: files.PathLike,
  output: files.PathLike,
  language: str = bm25.DEFAULT_LANGUAGE,
) -> None:
  """Writes the index directory, unless it is complete.

  Raises:
    InputError: what `bm25.build_index` raises; nothing is written then.
  """
  collection.must_be_corpus(corpus_path)
  corpus = None
  if not manifest.read(output):
    bm25.check(language)
    corpus = collection.Corpus(corpus_path)
  job = manifest.begin_directory(
    'index',
    output,
    settings={'language': language},
    inputs={'corpus': corpus_path},
  )
  if job.is_complete:
    return
  try:
    counts = bm25.build_index(corpus, output, language)
  except errors.InputError:
    job.output.rmtree()  # Ours alone: begin_directory takes no other.
    raise
  _log.info(
    'index: %d of %d documents; %d are empty',
    counts['indexed'], counts['documents'], counts['empty'],
  )  # fmt: skip
  job.finish(
    counts={
      'in': counts['documents'],
      'out': counts['indexed'],
      'dropped': {'empty': counts['empty']},
    }
  )
