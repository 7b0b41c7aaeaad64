"""Queries a second: ours and the inpars toolkit's, on one random checkpoint.

  python -m benchmarks.generate --config=gptj_10m

One JSON line: the peer at its best batch size against ours, float32, by turns,
compile time apart. cpu_ratio = the peer's best CPU seconds / ours. Needs
INPARS_TPU_PEER_PYTHON and INPARS_TPU_TEST_DATA (see side_by_side).
"""

import argparse
import json
import pathlib
import resource
import sys
import tempfile
import time

from benchmarks import generator_checkpoint, side_by_side
from inpars_tpu import files

_MAX_NEW_TOKENS = 64
_PROMPT = 'toolkit_gbq'


def main() -> None:
  """Parses, runs ours alone or both sides, prints one line."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--config', default='gptj_10m')
  parser.add_argument('--num_documents', type=int, default=256)
  parser.add_argument('--rounds', type=int, default=1)
  parser.add_argument('--threads', type=int, default=1)
  parser.add_argument('--peer_batch_sizes', default='1,8,32')
  parser.add_argument('--batch_size', type=int, default=None)
  parser.add_argument('--dtype', default='float32')
  parser.add_argument('--folder', default=None, help='where checkpoints are')
  parser.add_argument('--ours', default=None, help='measure ours alone there')
  args = parser.parse_args()
  if args.ours:
    print(json.dumps(measure_ours(pathlib.Path(args.ours), args)))
  else:
    print(json.dumps(compare(args)))


def compare(args) -> dict[str, object]:
  """Runs ours and each batch size of the peer, by turns."""
  folder = pathlib.Path(
    args.folder or pathlib.Path(tempfile.gettempdir()) / 'inpars_tpu_benchmark'
  )
  checkpoint = generator_checkpoint.write(args.config, folder / args.config)
  documents = folder / f'documents-{args.num_documents}.jsonl'
  files.write_jsonl(
    documents, generator_checkpoint.documents(args.num_documents)
  )
  ours = [
    sys.executable, '-m', 'benchmarks.generate', f'--ours={checkpoint}',
    f'--num_documents={args.num_documents}', f'--dtype={args.dtype}',
    *([f'--batch_size={args.batch_size}'] if args.batch_size else []),
  ]  # fmt: skip
  commands = {'ours': lambda: side_by_side.run(ours, args.threads)}
  for size in filter(None, args.peer_batch_sizes.split(',')):
    out = folder / f'peer-{args.config}-{size}.jsonl'
    peer = side_by_side.peer_command(
      'peer_generate.py', checkpoint, documents,
      f'--batch_size={size}', f'--dtype={args.dtype}', f'--out={out}',
      f'--threads={args.threads}', f'--max_new_tokens={_MAX_NEW_TOKENS}',
    )  # fmt: skip
    if peer:
      commands[f'peer {size}'] = lambda peer=peer: side_by_side.run(
        peer, args.threads
      )
  found = side_by_side.interleave(commands, args.rounds)
  return _summary(args, found, checkpoint)


def measure_ours(checkpoint: pathlib.Path, args) -> dict[str, object]:
  """Generates twice in this process: with compiling, and without."""
  from inpars_tpu import generator

  texts = [
    d['text'] for d in generator_checkpoint.documents(args.num_documents)
  ]
  gptj = generator.GPTJ.load(checkpoint, args.dtype)

  def run():
    started, cpu = time.perf_counter(), time.process_time()
    queries = gptj.generate(
      texts,
      prompt=_PROMPT,
      data_dir=side_by_side.test_data(),
      max_new_tokens=_MAX_NEW_TOKENS,
      batch_size=args.batch_size,
    )
    return queries, time.perf_counter() - started, time.process_time() - cpu

  _, first_seconds, first_cpu = run()
  queries, seconds, cpu = run()
  (checkpoint / 'ours.json').write_text(
    json.dumps([[q.text, q.log_probs] for q in queries])
  )
  return {
    'seconds': seconds,
    'cpu_seconds': cpu,
    'compile_seconds': first_seconds - seconds,
    'compile_cpu_seconds': first_cpu - cpu,
    'mean_tokens': sum(len(q.log_probs) for q in queries) / len(queries),
    'peak_rss_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
  }


def _summary(args, found, checkpoint) -> dict[str, object]:
  ours, peers = found.pop('ours'), found
  count = args.num_documents
  summary: dict[str, object] = {
    'config': args.config,
    'dtype': args.dtype,
    'documents': count,
    'threads': args.threads,
    'documents_per_s': round(count / side_by_side.median(ours, 'seconds'), 3),
    'cpu_ms_per_document': round(
      1e3 * side_by_side.median(ours, 'cpu_seconds') / count, 2
    ),
    'compile_seconds': round(side_by_side.median(ours, 'compile_seconds'), 1),
    'mean_tokens': round(ours[0]['mean_tokens'], 2),
    'peak_rss_mb': round(side_by_side.median(ours, 'peak_rss_mb')),
  }
  if not peers:
    return summary
  fastest = min(side_by_side.median(r, 'seconds') for r in peers.values())
  leanest = min(side_by_side.median(r, 'cpu_seconds') for r in peers.values())
  seconds = side_by_side.median(ours, 'seconds')
  return summary | {
    'peer_documents_per_s': round(count / fastest, 3),
    'ratio': round(fastest / seconds, 2),
    'cpu_ratio': round(leanest / side_by_side.median(ours, 'cpu_seconds'), 2),
    'peer_cpu_ms_per_document': {
      name: round(1e3 * side_by_side.median(r, 'cpu_seconds') / count, 1)
      for name, r in peers.items()
    },
    'peer_peak_rss_mb': {
      name: round(side_by_side.median(r, 'peak_rss_mb'))
      for name, r in peers.items()
    },
    'tokens_identical': _identical(checkpoint, args),
  }


def _identical(checkpoint: pathlib.Path, args) -> str:
  """How many queries equal those of the peer's batch size 1."""
  size = args.peer_batch_sizes.split(',')[0]
  peer = checkpoint.parent / f'peer-{args.config}-{size}.jsonl'
  theirs = [
    json.loads(line)['query'].partition('\n')[0].strip()
    for line in peer.read_text().splitlines()
  ]
  ours = [text for text, _ in json.loads(
    (checkpoint / 'ours.json').read_text())]  # fmt: skip
  same = sum(a == b for a, b in zip(ours, theirs, strict=True))
  return f'{same} of {len(ours)}'


if __name__ == '__main__':
  main()
