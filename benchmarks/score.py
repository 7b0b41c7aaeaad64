"""Pairs a second: ours and the inpars toolkit's, on one random checkpoint.

  python -m benchmarks.score --config=t5_16m
  python -m benchmarks.score --alone --config=t5_3b --dtype=bfloat16

One JSON line: the peer at its best batch size against ours, by turns, compile
time apart. cpu_ratio = the peer's best CPU seconds / ours. Needs
INPARS_TPU_PEER_PYTHON and INPARS_TPU_TEST_DATA (see side_by_side). Alone, on
whatever device there is, it needs neither: see score_alone.
"""

import argparse
import json
import math
import pathlib
import sys

from benchmarks import reranker_checkpoint, score_alone, side_by_side
from inpars_tpu import files

_MAX_TOKENS = 512


def main() -> None:
  """Parses, runs ours alone or both sides, prints one line."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  side_by_side.add_flags(parser, config='t5_16m', peer_batch_sizes='16,64')
  parser.add_argument('--num_pairs', type=int, default=256)
  parser.add_argument('--document_share', type=float, default=1)
  parser.add_argument('--batch_tokens', type=int, default=None)
  args = parser.parse_args()
  if args.alone:
    found = score_alone.measure(
      args.config, args.dtype, args.num_pairs, args.batch_tokens
    )
  elif args.ours:
    found = measure_ours(pathlib.Path(args.ours), args)
  else:
    found = compare(args)
  print(json.dumps(found))


def compare(args) -> dict[str, object]:
  """Runs ours and each batch size of the peer, by turns."""
  folder = side_by_side.folder(args)
  checkpoint = reranker_checkpoint.write(args.config, folder / args.config)
  pairs = reranker_checkpoint.pairs(args.num_pairs, args.document_share)
  files.write_jsonl(checkpoint / 'pairs.jsonl', pairs)
  ours = [
    sys.executable, '-m', 'benchmarks.score', f'--ours={checkpoint}',
    f'--dtype={args.dtype}',
    *([f'--batch_tokens={args.batch_tokens}'] if args.batch_tokens else []),
  ]  # fmt: skip
  commands = {'ours': lambda: side_by_side.run(ours, args.threads)}
  for size in filter(None, args.peer_batch_sizes.split(',')):
    peer = side_by_side.peer_command(
      'peer_rerank.py', checkpoint, checkpoint / 'pairs.jsonl',
      f'--batch_size={size}', f'--dtype={args.dtype}',
      f'--out={checkpoint / "peer.json"}', f'--threads={args.threads}',
    )  # fmt: skip
    if peer:
      commands[f'peer {size}'] = lambda peer=peer: side_by_side.run(
        peer, args.threads
      )
  found = side_by_side.interleave(commands, args.rounds)
  return _summary(args, found, checkpoint)


def measure_ours(checkpoint: pathlib.Path, args) -> dict[str, object]:
  """Scores twice in this process: with compiling, and without."""
  from inpars_tpu import reranker as reranker_lib

  records = files.read_jsonl(checkpoint / 'pairs.jsonl', 'pairs')
  pairs = [(record['query'], record['text']) for _, record in records]
  model = reranker_lib.MonoT5.load(
    checkpoint,
    dtype=args.dtype,
    max_tokens=_MAX_TOKENS,
    batch_tokens=args.batch_tokens,
  )
  scores, record = side_by_side.measure_twice(lambda: model.score_pairs(pairs))
  lengths = [len(tokens) for tokens in model.tokenise(pairs)]
  (checkpoint / 'ours.json').write_text(
    json.dumps({'scores': scores, 'lengths': lengths})
  )
  return record | {'mean_tokens': sum(lengths) / len(lengths)}


def _summary(args, found, checkpoint) -> dict[str, object]:
  ours = found.pop('ours')
  summary: dict[str, object] = {
    'config': args.config,
    'dtype': args.dtype,
    'pairs': args.num_pairs,
    'threads': args.threads,
    'mean_tokens': round(ours[0]['mean_tokens'], 1),
    **side_by_side.summarise('pair', args.num_pairs, ours, found),
  }
  if found:
    summary |= _differences(checkpoint)
  return summary


def _differences(checkpoint: pathlib.Path) -> dict[str, object]:
  """How far the peer's scores, probabilities, are from ours.

  Pairs that fill the limit are left out: the peer cuts ` Relevant:` off.
  """
  ours = json.loads((checkpoint / 'ours.json').read_text())
  theirs = map(json.loads, (checkpoint / 'peer.json').read_text().splitlines())
  compared = [
    (score, math.log(probability))
    for score, length, probability in zip(
      ours['scores'], ours['lengths'], theirs, strict=True
    )
    if length < _MAX_TOKENS
  ]
  scores = [score for score, _ in compared]
  return {
    'max_score_difference': float(
      f'{max(abs(score - peer) for score, peer in compared):.3g}'
    ),
    'pairs_compared': len(compared),
    'lowest_score': round(min(scores), 3),
    'highest_score': round(max(scores), 5),
  }


if __name__ == '__main__':
  main()
