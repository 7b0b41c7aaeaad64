"""monoT5's scoring for a TPU that is not there; see aot_tpu.

python -m benchmarks.aot_tpu --program=score --mesh=data=2,model=4
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from benchmarks import tpu_compiler
from inpars_tpu import flops, init
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import convert, network, scan, score, sharding


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds what --program=score alone reads."""
  parser.add_argument('--scan_layers', action='store_true')
  parser.add_argument('--batch_tokens', type=int, default=131_072)
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
  mesh = mesh_lib.make(shape, devices)
  dtype = jnp.dtype(args.dtype)
  params = traverse_util.unflatten_dict(
    {
      path: jax.ShapeDtypeStruct(
        shape, jnp.float32 if convert.is_small(path) else dtype
      )
      for path, shape in convert.shapes(config).items()
    }
  )
  if args.scan_layers:
    params = jax.eval_shape(scan.stack, params)
  num_rows = args.batch_tokens // args.length
  program = tpu_compiler.Program(
    score.score_batch,
    (
      network.Transformer(config, dtype, args.scan_layers),
      traverse_util.path_aware_map(
        lambda path, array: _put(array, sharding.of_param(config, path, mesh)),
        params,
      ),
      jax.ShapeDtypeStruct(
        (num_rows, args.length), jnp.int32, sharding=sharding.of_tokens(mesh)
      ),
      jax.ShapeDtypeStruct(
        (2,), jnp.int32, sharding=mesh_lib.sharding(mesh, (None,), {})
      ),
    ),
    hand_flops=num_rows * sum(flops.score_pair(config, args.length)),
    is_counted_whole=not args.scan_layers,
  )
  return tpu_compiler.measure(program, len(devices))


def _put(array: jax.ShapeDtypeStruct, where: jax.sharding.Sharding):
  return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=where)
