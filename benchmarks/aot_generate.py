"""GPT-J's programs for a TPU that is not there; see aot_tpu.

  python -m benchmarks.aot_tpu --program=generate --mesh=data=2,model=4

Prefill of one group of prompts, and one decoding step of all rows: what
row_decoder.py runs, with the shapes that it would have. The operations of both
together are those of `num_rows` queries that end after `new_tokens`.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from inpars_tpu import init, row_decoder, tpu_compiler, tpu_programs
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import sharding


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds what --program=generate alone reads."""
  parser.add_argument('--weights', choices=('int8',))
  parser.add_argument('--num_rows', type=int, default=512)
  parser.add_argument('--prefix_tokens', type=int, default=312)
  parser.add_argument('--prompt_tokens', type=int, default=256)
  parser.add_argument('--new_tokens', type=int, default=64)


def measure(args: argparse.Namespace, devices: Sequence[Any]) -> dict[str, Any]:
  """Compiles prefill and decoding; returns what one core needs for both."""
  config = config_lib.GPTJConfig.from_hf(
    init.named_config(args.config or 'gptj_6b')
  )
  if args.num_layers:
    config = dataclasses.replace(config, num_layers=args.num_layers)
  shape = mesh_lib.parse(args.mesh or 'data=2,model=4', len(devices))
  mesh_lib.check(shape, sharding.counts(config))
  num_filled = shape.data * row_decoder.num_filled(
    args.num_rows // shape.data, 'tpu'
  )
  rows = tpu_programs.Rows(
    args.num_rows,
    num_filled,
    args.prefix_tokens,
    args.prompt_tokens,
    args.new_tokens,
  )
  programs = tpu_programs.generate(
    config,
    rows,
    mesh_lib.make(shape, devices),
    dtype=args.dtype,
    weights=args.weights,
  )
  found: dict[str, Any] = {}
  for name, program in programs.items():
    found[name] = tpu_compiler.measure(program, len(devices))
    if 'error' in found[name]:
      return found | found[name]
  num_fills, num_steps = args.num_rows / num_filled, args.new_tokens - 1
  computed = (
    num_fills * found['fill']['flops'] + num_steps * found['advance']['flops']
  )
  needed = (
    num_fills * programs['fill'].hand_flops
    + num_steps * programs['advance'].hand_flops
  ) / len(devices)
  return found | {
    'gib': max(found[name]['gib'] for name in programs),
    'flops_ratio': round(computed / needed, 4),
  }
