"""Negatives of 10,000 queries: ours and the inpars toolkit's, on one index.

  python -m benchmarks.negatives --config=scifact
  python -m benchmarks.negatives --config=zipf --num_documents=100_000

One JSON line. Each side is its own command, whole: `inpars-tpu negatives`, and
the toolkit's generate_triples, which calls Pyserini's batch search, has it
write a run of 1,000 documents a query, reads that back and draws. A query is
eight words of its document, in their order. ratio = the peer's seconds / ours,
cpu_ratio the same of CPU seconds; found_by_peer: the share of our negatives
that are in the peer's run of the query too. Needs INPARS_TPU_PEER_PYTHON, with
pyserini and a JDK by JAVA_HOME, and for SciFact INPARS_TPU_TEST_DATA.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
from collections.abc import Iterable, Iterator, Mapping

from benchmarks import process, side_by_side, zipf
from inpars_tpu import collection, files, pairs

_QUERY_WORDS = 8
_HITS = 1_000
_PEERS = ('triples.tsv', 'tmp-run-docs.jsonl.txt')


def main() -> None:
  """Parses, writes the files, runs both sides, prints one line."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--config', choices=('scifact', 'zipf'), default='zipf')
  parser.add_argument('--num_documents', type=int, default=100_000)
  parser.add_argument('--num_queries', type=int, default=10_000)
  parser.add_argument('--rounds', type=int, default=1)
  parser.add_argument('--folder', default=None, help='where files are kept')
  args = parser.parse_args()
  folder = side_by_side.folder(args) / f'negatives_{args.config}'
  folder.mkdir(exist_ok=True)
  if args.config == 'scifact':
    documents = read_documents(
      side_by_side.test_data() / 'data' / 'beir' / 'scifact' / 'corpus.jsonl'
    )
  else:
    documents = zipf.documents(args.num_documents)
  counts = write(folder, documents, args.num_queries)
  print(json.dumps({'config': args.config, **counts} | compare(folder, args)))


def read_documents(path: pathlib.Path) -> Iterator[dict[str, str]]:
  """Documents of a corpus.jsonl, whose ids become 'd<id>'.

  The toolkit's reader takes an id that looks like a number for one, and finds
  none of the hits.
  """
  for document in collection.Corpus(path):
    yield {
      '_id': f'd{document.doc_id}',
      'title': document.title,
      'text': document.body,
    }


def write(
  folder: pathlib.Path,
  documents: Iterable[Mapping[str, str]],
  num_queries: int,
) -> dict[str, int]:
  """Writes corpus.jsonl, docs.jsonl (the toolkit's form), filtered.jsonl."""
  made = []
  with (
    files.atomic_writer(folder / 'corpus.jsonl') as corpus,
    files.atomic_writer(folder / 'docs.jsonl') as theirs,
  ):
    for document in documents:
      text = collection.clean(f'{document["title"]} {document["text"]}')
      made.append((document['_id'], text))
      corpus.write(files.to_json_line(document))
      theirs.write(files.to_json_line({'doc_id': made[-1][0], 'text': text}))
  # A corpus with fewer documents than queries has several for one.
  chosen = [made[i % len(made)] for i in range(num_queries)]
  draw = random.Random(1)
  files.write_jsonl(
    folder / 'filtered.jsonl',
    (
      {'doc_id': doc_id, 'query': query_of(text, draw), 'text': text}
      for doc_id, text in chosen
    ),
  )
  return {'documents': len(made), 'queries': num_queries}


def query_of(text: str, draw: random.Random) -> str:
  """Some words of a text, one after the other."""
  words = text.split()
  start = draw.randrange(max(1, len(words) - _QUERY_WORDS))
  return ' '.join(words[start : start + _QUERY_WORDS])


def compare(folder: pathlib.Path, args) -> side_by_side.Record:
  """Makes the index, runs both sides by turns, compares."""
  made = folder / 'index'
  if not (made / 'manifest.json').exists():
    process.measure(
      process.inpars_tpu('index', corpus=folder / 'corpus.jsonl', output=made)
    )
  commands = {'ours': lambda: run_ours(folder)}
  if peer := os.environ.get('INPARS_TPU_PEER_PYTHON'):
    commands['peer'] = lambda: run_peer(folder, peer)
  found = side_by_side.interleave(commands, args.rounds)
  return summarise(folder, found)


def run_ours(folder: pathlib.Path) -> side_by_side.Record:
  """Makes the pairs anew."""
  shutil.rmtree(folder / 'pairs', ignore_errors=True)
  return process.measure(
    process.inpars_tpu(
      'negatives', queries=folder / 'filtered.jsonl',
      corpus=folder / 'corpus.jsonl', index=folder / 'index',
      output=folder / 'pairs',
    )
  )  # fmt: skip


def run_peer(folder: pathlib.Path, python: str) -> side_by_side.Record:
  """Makes the triples anew; the toolkit looks for `python3` on the PATH."""
  for name in _PEERS:
    (folder / name).unlink(missing_ok=True)
  return process.measure(
    [
      python, '-m', 'inpars.generate_triples', '--input=filtered.jsonl',
      '--output=triples.tsv', '--dataset=docs.jsonl', '--index=index',
      '--n_samples=1', f'--max_hits={_HITS}',
    ],
    folder=folder,
    environment=os.environ
    | {
      'PATH': f'{os.path.dirname(python)}{os.pathsep}{os.environ["PATH"]}',
      'OPENAI_API_KEY': os.environ.get('OPENAI_API_KEY', 'none'),
      'HF_HUB_OFFLINE': '1',
    },
  )  # fmt: skip


def summarise(
  folder: pathlib.Path, found: Mapping[str, list[side_by_side.Record]]
) -> side_by_side.Record:
  """Medians of both sides, their ratios, and what they found."""
  negatives = _negatives(folder / 'pairs')
  summary = _medians(found['ours'], '') | {'negatives': len(negatives)}
  if 'peer' not in found:
    return summary
  summary |= _medians(found['peer'], 'peer_')
  summary['ratio'] = _ratio(found, 'seconds')
  summary['cpu_ratio'] = _ratio(found, 'cpu_seconds')
  with (folder / 'triples.tsv').open('rb') as stream:
    summary['peer_negatives'] = sum(1 for _ in stream)
  return summary | _agreement(folder, negatives)


def _medians(records, prefix: str) -> side_by_side.Record:
  return {
    f'{prefix}{name}': round(side_by_side.median(records, name), 1)
    for name in ('seconds', 'cpu_seconds', 'peak_rss_mb')
  }


def _ratio(found, name: str) -> float:
  ours, peer = (side_by_side.median(found[k], name) for k in ('ours', 'peer'))
  return round(peer / ours, 2)


def _negatives(directory: pathlib.Path) -> dict[int, str]:
  """Line of filtered.jsonl -> the negative's document id."""
  lines: dict[str, list[int]] = collections.defaultdict(list)
  records = files.read_jsonl(directory.parent / 'filtered.jsonl', 'queries')
  for line, (_, record) in enumerate(records):
    lines[record['doc_id']].append(line)
  grouped: dict[int, dict[int, pairs.Pair]] = collections.defaultdict(dict)
  for pair in pairs.read(directory)['train']:
    grouped[pair.group][pair.label] = pair
  # Groups are in the order of the lines, and so are a document's queries.
  return {
    lines[grouped[group][1].doc_id].pop(0): grouped[group][0].doc_id
    for group in sorted(grouped)
  }


def _agreement(folder, negatives: Mapping[int, str]) -> side_by_side.Record:
  num_lines = num_found = 0
  with (folder / 'tmp-run-docs.jsonl.txt').open() as stream:
    for line in stream:
      query, _, doc_id, *_ = line.split()
      num_lines += 1
      num_found += negatives.get(int(query)) == doc_id
  return {
    'peer_run_lines': num_lines,
    'found_by_peer': round(num_found / len(negatives), 4),
  }


if __name__ == '__main__':
  main()
