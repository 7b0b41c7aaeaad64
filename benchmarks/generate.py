r"""Queries a second: ours and the inpars toolkit's, on one random checkpoint.

  python -m benchmarks.generate --config=gptj_10m
  python -m benchmarks.generate --alone --config=gptj_6b --dtype=bfloat16 \
    --num_documents=8192

One JSON line: the peer at its best batch size against ours, float32, by turns,
compile time apart. cpu_ratio = the peer's best CPU seconds / ours. Needs
INPARS_TPU_PEER_PYTHON and INPARS_TPU_TEST_DATA (see side_by_side). Alone, on
whatever devices there are, it needs neither: see generate_alone.
"""

import argparse
import json
import pathlib
import sys

from benchmarks import generate_alone, generator_checkpoint, side_by_side
from inpars_tpu import files

_MAX_NEW_TOKENS = 64
_PROMPT = 'toolkit_gbq'


def main() -> None:
  """Parses, runs ours alone or both sides, prints one line."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  side_by_side.add_flags(parser, config='gptj_10m', peer_batch_sizes='1,8,32')
  parser.add_argument('--num_documents', type=int, default=256)
  parser.add_argument('--batch_size', type=int, default=None)
  generate_alone.add_flags(parser)
  args = parser.parse_args()
  if args.alone:
    found = generate_alone.measure(args)
  elif args.ours:
    found = measure_ours(pathlib.Path(args.ours), args)
  else:
    found = compare(args)
  print(json.dumps(found))


def compare(args) -> dict[str, object]:
  """Runs ours and each batch size of the peer, by turns."""
  folder = side_by_side.folder(args)
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

  queries, record = side_by_side.measure_twice(
    lambda: gptj.generate(
      texts,
      prompt=_PROMPT,
      data_dir=side_by_side.test_data(),
      max_new_tokens=_MAX_NEW_TOKENS,
      batch_size=args.batch_size,
    )
  )
  (checkpoint / 'ours.json').write_text(
    json.dumps([[q.text, q.log_probs] for q in queries])
  )
  num_tokens = sum(len(query.log_probs) for query in queries)
  return record | {'mean_tokens': num_tokens / len(queries)}


def _summary(args, found, checkpoint) -> dict[str, object]:
  ours = found.pop('ours')
  summary: dict[str, object] = {
    'config': args.config,
    'dtype': args.dtype,
    'documents': args.num_documents,
    'threads': args.threads,
    'mean_tokens': round(ours[0]['mean_tokens'], 2),
    **side_by_side.summarise('document', args.num_documents, ours, found),
  }
  if found:
    summary['tokens_identical'] = _identical(checkpoint, args)
  return summary


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
