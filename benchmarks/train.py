"""Examples a second of fine-tuning: ours and the inpars toolkit's.

  python -m benchmarks.train --config=t5_16m

One JSON line: both train one random checkpoint on the same pairs with
Adafactor and dropout, by turns, compile time apart; the peer's first step is
left out. The peer pads every input to 512 tokens; ours groups them by length,
and under `fixed` pads them to 512 too; it has large pages, which `inpars-tpu
train` asks for. cpu_ratio = the peer's CPU seconds / ours. Needs
INPARS_TPU_PEER_PYTHON and INPARS_TPU_TEST_DATA (see side_by_side).
"""

import argparse
import json
import pathlib
import sys

import jax
import numpy as np

from benchmarks import reranker_checkpoint, side_by_side
from inpars_tpu import batches, files, large_pages, monot5, trainer
from inpars_tpu import reranker as reranker_lib
from inpars_tpu.t5 import convert

_MAX_TOKENS = 512


def main() -> None:
  """Parses, runs ours alone or both sides, prints one line."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  side_by_side.add_flags(parser, config='t5_16m', peer_batch_sizes='8')
  parser.add_argument('--batch_size', type=int, default=8)
  parser.add_argument('--num_steps', type=int, default=8)
  parser.add_argument('--document_share', type=float, default=1)
  parser.add_argument('--microbatch_tokens', type=int, default=None)
  parser.add_argument('--fixed', action='store_true', help='pad ours to 512')
  args = parser.parse_args()
  found = (
    measure_ours(pathlib.Path(args.ours), args) if args.ours else compare(args)
  )
  print(json.dumps(found))


def compare(args) -> side_by_side.Record:
  """Runs ours both ways and each batch size of the peer, by turns."""
  folder = side_by_side.folder(args)
  checkpoint = reranker_checkpoint.write(args.config, folder / args.config)
  num_examples = args.num_steps * args.batch_size
  pairs = [
    pair | {'label': (number + 1) % 2}
    for number, pair in enumerate(
      reranker_checkpoint.pairs(num_examples, args.document_share)
    )
  ]
  path = checkpoint / 'train_pairs.jsonl'
  files.write_jsonl(path, pairs)
  ours = [
    sys.executable, '-m', 'benchmarks.train', f'--ours={checkpoint}',
    f'--dtype={args.dtype}', f'--batch_size={args.batch_size}',
    f'--num_steps={args.num_steps}',
    *([f'--microbatch_tokens={args.microbatch_tokens}']
      if args.microbatch_tokens else []),
  ]  # fmt: skip
  pages = large_pages.environment()
  commands = {
    'ours': lambda: side_by_side.run(ours, args.threads, pages),
    'fixed': lambda: side_by_side.run([*ours, '--fixed'], args.threads, pages),
  }
  for size in filter(None, args.peer_batch_sizes.split(',')):
    peer = side_by_side.peer_command(
      'peer_train.py', checkpoint, path, f'--batch_size={size}',
      f'--steps={num_examples // int(size)}', f'--max_len={_MAX_TOKENS}',
      f'--dtype={args.dtype}', f'--threads={args.threads}',
    )  # fmt: skip
    if peer:
      commands[f'peer {size}'] = lambda peer=peer: side_by_side.run(
        peer, args.threads
      )
  found = side_by_side.interleave(commands, args.rounds)
  return _summary(args, found, num_examples)


def measure_ours(checkpoint: pathlib.Path, args) -> side_by_side.Record:
  """Takes the steps twice in this process: with compiling, and without."""
  examples = read_examples(checkpoint)
  config, params = convert.load(checkpoint)
  settings = trainer.Settings(
    seed=1,
    num_steps=args.num_steps,
    batch_size=args.batch_size,
    learning_rate=1e-3,
    dropout_rate=0.1,
    z_loss=1e-4,
    dtype=args.dtype,
    max_input_tokens=_MAX_TOKENS,
    has_length_buckets=not args.fixed,
    microbatch_tokens=args.microbatch_tokens,
  )
  _, _, label_ids = reranker_lib.check(checkpoint)
  model_trainer = trainer.Trainer(config, settings, tuple(label_ids))
  state = model_trainer.init(params)
  del params
  losses: list[float] = []

  def take_steps() -> None:
    nonlocal state
    losses.clear()
    for step in range(1, args.num_steps + 1):
      state, metrics = model_trainer.step(state, examples, step)
      losses.append(metrics.loss)
    jax.block_until_ready(state)

  _, record = side_by_side.measure_twice(take_steps)
  if not np.all(np.isfinite(losses)):
    sys.exit(f'{checkpoint}: a loss is not finite')
  return record | {
    'mean_tokens': float(examples.lengths.mean()),
    'programs': model_trainer.num_programs(),
  }


def read_examples(checkpoint: pathlib.Path) -> batches.Examples:
  """The pairs beside a checkpoint, tokenised as training does."""
  spec, tokenizer, label_ids = reranker_lib.check(checkpoint)
  pairs = [
    record
    for _, record in files.read_jsonl(
      checkpoint / 'train_pairs.jsonl', 'train_pairs'
    )
  ]
  inputs = monot5.build_inputs(
    spec,
    tokenizer,
    [pair['query'] for pair in pairs],
    [pair['text'] for pair in pairs],
    _MAX_TOKENS,
  )
  return batches.Examples.collect(
    batches.Example(
      inputs=np.array(tokens, np.int32),
      targets=np.array([label_ids[pair['label']], tokenizer.eos_id], np.int32),
      label=pair['label'],
      group=number // 2,
    )
    for number, (tokens, pair) in enumerate(zip(inputs, pairs, strict=True))
  )


def _summary(args, found, num_examples: int) -> side_by_side.Record:
  ours, fixed = found.pop('ours'), found.pop('fixed')
  return {
    'config': args.config,
    'dtype': args.dtype,
    'examples': num_examples,
    'batch_size': args.batch_size,
    'threads': args.threads,
    'mean_tokens': round(ours[0]['mean_tokens'], 1),
    'programs': ours[0]['programs'],
    **side_by_side.summarise('example', num_examples, ours, found),
    'fixed': side_by_side.summarise('example', num_examples, fixed, found),
  }


if __name__ == '__main__':
  main()
