"""Fine-tuning for a TPU that is not there; see aot_tpu.

  python -m benchmarks.aot_tpu --program=train
  python -m benchmarks.aot_tpu --program=train --mesh=data=2,model=4

A step of the embedded trainer has two programs: one adds a microbatch's
gradients to the sums, the other applies them. They run one after the other, so
a core needs the larger of the two.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from benchmarks import aot_score
from inpars_tpu import layout, tpu_compiler, tpu_programs, trainer
from inpars_tpu import mesh as mesh_lib


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds what --program=train alone reads."""
  parser.add_argument('--batch_size', type=int, default=128)
  parser.add_argument('--train_tokens', type=int, default=512)
  parser.add_argument('--dropout_rate', type=float, default=0.1)
  parser.add_argument('--unrolled', action='store_true', help='no loop')
  parser.add_argument('--no_remat', action='store_true')
  parser.add_argument(
    '--whole_params', action='store_true', help='not fully sharded'
  )


def measure(args: argparse.Namespace, devices: Sequence[Any]) -> dict[str, Any]:
  """Compiles both programs; returns what one core needs."""
  config, shape = aot_score.read_sizes(args, len(devices))
  layout.check_batch(shape, args.batch_size)
  # As the trainer forms a microbatch of the longest rows.
  num_rows = min(
    shape.data * (layout.MICROBATCH_TOKENS['tpu'] // args.train_tokens),
    args.batch_size,
  )
  programs = tpu_programs.train(
    config,
    trainer.Settings(
      seed=1,
      num_steps=156,
      batch_size=args.batch_size,
      learning_rate=1e-3,
      dropout_rate=args.dropout_rate,
      z_loss=1e-4,
      dtype=args.dtype,
      max_input_tokens=args.train_tokens,
    ),
    num_rows,
    args.train_tokens,
    layout.Layout(
      mesh=mesh_lib.make(shape, devices),
      shards_params=not args.whole_params,
      scan_layers=not args.unrolled,
      remat=not args.no_remat,
    ),
  )
  found: dict[str, Any] = {}
  for name, program in programs.items():
    found[name] = tpu_compiler.measure(program, len(devices))
    if 'error' in found[name]:
      return found | {'error': found[name]['error']}
  return found | {
    'microbatch_rows': num_rows,
    'gib': max(found[name]['gib'] for name in programs),
    'flops_ratio': found['accumulate']['flops_ratio'],
  }
