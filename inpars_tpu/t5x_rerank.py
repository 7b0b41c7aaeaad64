"""Reranking by t5x.infer: a run's pairs for it, and a run of its scores.

  python -m inpars_tpu.t5x_rerank pairs --run= --corpus= --queries= --output=
  python -m inpars_tpu.t5x_rerank run --run= --scores= --output=

Between the two, gin/t5x/infer.gin. Imports nothing of t5x.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from etils import epath

from inpars_tpu import collection, errors, files, recipe, rerank, trec

_SCORES = '*-score.jsonl-*-of-*'  # t5x.infer's, without .COMPLETED.
_WRONG_INPUT = 2


def main(argv: Sequence[str]) -> int:
  """Runs one of the two; returns the exit code."""
  parser = argparse.ArgumentParser(prog='t5x_rerank', allow_abbrev=False)
  verbs = parser.add_subparsers(dest='verb', required=True)
  for verb, names in (('pairs', ('corpus', 'queries')), ('run', ('scores',))):
    flags = verbs.add_parser(verb, allow_abbrev=False)
    for name in ('run', *names, 'output'):
      flags.add_argument(f'--{name}', required=True)
    flags.add_argument('--hits', type=int, default=recipe.load().RERANK_HITS)
  args = parser.parse_args(argv)
  try:
    if args.verb == 'pairs':
      write_pairs(args.run, args.corpus, args.queries, args.output, args.hits)
    else:
      write_run(args.run, args.scores, args.output, args.hits)
  except errors.InputError as error:
    print(f't5x_rerank: {error}', file=sys.stderr)
    return _WRONG_INPUT
  return 0


def write_pairs(
  run_path: files.PathLike,
  corpus_path: files.PathLike,
  queries_path: files.PathLike,
  output: files.PathLike,
  hits: int,
) -> int:
  """Writes the texts of each query's first `hits` documents, as JSON lines.

  {"query_id": "1", "doc_id": "2", "query": "q", "text": "d"}

  Returns:
    How many.

  Raises:
    InputError: as `rerank.rerank`.
  """
  run = trec.read_run(run_path)
  queries = rerank.read_queries(queries_path, run)
  corpus = collection.Corpus(files.must_be_file(corpus_path, 'corpus'))
  positions = rerank.find_documents(corpus, run)
  return files.write_jsonl(
    output,
    (
      {
        'query_id': query_id,
        'doc_id': doc_id,
        'query': queries[query_id],
        'text': rerank.read_text(corpus, doc_id, int(position)),
      }
      for query_id, ranking in run.items()
      for (doc_id, _), position in zip(
        ranking[:hits], positions[query_id], strict=False
      )
    ),
  )


def write_run(
  run_path: files.PathLike,
  scores_path: files.PathLike,
  output: files.PathLike,
  hits: int,
) -> None:
  """Writes a run with each query's first `hits` in the order of t5x's scores.

  Args:
    run_path: the TREC run that `write_pairs` had.
    scores_path: what t5x.infer wrote: its folder, or one file.
    output: TREC run.
    hits: as `write_pairs` had it.

  Raises:
    InputError: a malformed line, a pair that has no score or two.
  """
  run = trec.read_run(run_path)
  scores = read_scores(scores_path)
  with files.atomic_writer(output) as stream:
    for query_id, ranking in run.items():
      own = []
      for doc_id, _ in ranking[:hits]:
        if (query_id, doc_id) not in scores:
          raise errors.InputError(
            f'{scores_path} has no score of query {query_id!r} and document '
            f'{doc_id!r}'
          )
        own.append(scores[query_id, doc_id])
      reordered = rerank.reorder(ranking, own)
      for line in trec.format_ranking(query_id, reordered, rerank.TAG):
        stream.write(line.encode())


def read_scores(path: files.PathLike) -> dict[tuple[str, str], float]:
  """(query_id, doc_id) -> score, of what t5x.infer wrote.

  {"inputs": {"query_id": "1", "doc_id": "2"}, "score": -0.5} ->
    {('1', '2'): -0.5}

  Raises:
    InputError: no such file, a malformed line, a pair with two scores.
  """
  scores: dict[tuple[str, str], float] = {}
  for file in _score_files(files.must_exist(path, 'scores')):
    for number, line in files.read_lines(file, 'scores'):
      try:
        record = json.loads(line)
        ids = record['inputs']['query_id'], record['inputs']['doc_id']
        score = float(record['score'])
      except (ValueError, KeyError, TypeError):
        raise errors.InputError(
          f'{file}:{number}: needs inputs with query_id and doc_id, and a score'
        ) from None
      if ids in scores:
        raise errors.InputError(f'{file}:{number}: a second score of {ids}')
      scores[ids] = score
  return scores


def _score_files(path: epath.Path) -> Iterator[epath.Path]:
  if not path.is_dir():
    yield path
    return
  found = [
    file for file in sorted(path.glob(_SCORES)) if file.suffix != '.COMPLETED'
  ]
  if not found:
    raise errors.InputError(f'{path} holds no scores of t5x.infer')
  yield from found


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
