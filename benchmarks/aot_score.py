"""monoT5's scoring for a TPU that is not there; see aot_tpu.

python -m benchmarks.aot_tpu --program=score --mesh=data=2,model=4
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from inpars_tpu import init, tpu_compiler, tpu_programs
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import sharding


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds what --program=score alone reads."""
  parser.add_argument('--scan_layers', action='store_true')
  parser.add_argument('--batch_tokens', type=int, default=65_536)
  parser.add_argument('--length', type=int, default=512)


def read_sizes(
  args: argparse.Namespace, num_devices: int
) -> tuple[config_lib.T5Config, mesh_lib.Shape]:
  """The T5 and the mesh that the flags ask for; monoT5-3B, all `data`."""
  config = config_lib.T5Config.from_hf(
    init.named_config(args.config or 't5_3b')
  )
  if args.num_layers:
    config = dataclasses.replace(
      config, num_layers=args.num_layers, num_decoder_layers=args.num_layers
    )
  text = args.mesh or f'data={num_devices}'
  sharding.check(config, text, num_devices)
  return config, mesh_lib.parse(text, num_devices)


def measure(args: argparse.Namespace, devices: Sequence[Any]) -> dict[str, Any]:
  """Compiles the scoring of one batch; returns what one core needs."""
  config, shape = read_sizes(args, len(devices))
  program = tpu_programs.score_batch(
    config,
    args.batch_tokens // args.length,
    args.length,
    mesh_lib.make(shape, devices),
    dtype=args.dtype,
    scan_layers=args.scan_layers,
  )['score']
  return tpu_compiler.measure(program, len(devices))
