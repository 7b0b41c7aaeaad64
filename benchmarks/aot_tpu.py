"""What the TPU's compiler makes of our programs, on a machine without a TPU.

  python -m benchmarks.aot_tpu --program=score --config=t5_3b

One JSON line: bytes of a core, operations by XLA's count against the hand
count of `inpars_tpu.flops`, seconds of compiling. Nothing is run and no weights
are made. A program that does not fit prints the compiler's reason, and exits 1.

The compiler is libtpu, for Linux on x86_64, of a version that suits jax's.
`make test` installs it in a folder that jax does not see: where it can be
imported, every jax process loads it, asks a metadata server for a TPU and
complains. TPU_LIBRARY_PATH names another libtpu.so.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.experimental import topologies

from inpars_tpu import flops, init
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.t5 import config as t5_config
from inpars_tpu.t5 import convert as t5_convert
from inpars_tpu.t5 import network, scan, score, sharding


class Program(NamedTuple):
  """What to compile: a jitted function and what it would be called with."""

  function: Any
  args: tuple[Any, ...]  # Arrays are ShapeDtypeStructs with their sharding.
  hand_flops: int  # That the whole batch needs, on all cores together.
  # XLA counts what is in a loop once, whatever the number of rounds.
  is_counted_whole: bool = True


def main() -> None:
  """Parses, compiles, prints one line."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--program', choices=PROGRAMS, required=True)
  parser.add_argument('--config', default='t5_3b', help='a size of `init`')
  parser.add_argument('--num_layers', type=int, help='fewer, for a quick look')
  parser.add_argument('--topology', default='v3:2x2', help='v3:2x2 is a v3-8')
  parser.add_argument('--mesh', help='default: the rows on all cores')
  parser.add_argument('--scan_layers', action='store_true')
  parser.add_argument('--batch_tokens', type=int, default=131_072)
  parser.add_argument('--length', type=int, default=512)
  parser.add_argument('--dtype', default='bfloat16')
  args = parser.parse_args()
  devices = tpu_devices(args.topology)
  args.mesh = args.mesh or f'data={len(devices)}'
  mesh = mesh_lib.make(mesh_lib.parse(args.mesh, len(devices)), devices)
  found = measure(PROGRAMS[args.program](args, mesh), mesh.size)
  named = {k: v for k, v in vars(args).items() if v is not None}
  print(json.dumps(named | {'device': devices[0].device_kind} | found))
  if 'error' in found:
    sys.exit(1)


def tpu_devices(topology: str) -> list[Any]:
  """The cores of a TPU that is not there, for the compiler alone."""
  library = libtpu_path()
  if not library.is_file():
    sys.exit(f'{library}: no libtpu; `make compiler` installs it')
  jax.config.update('jax_platforms', 'cpu')
  os.environ.update(
    TPU_LIBRARY_PATH=str(library),
    # Else it asks a metadata server which TPU this machine is.
    TPU_SKIP_MDS_QUERY='1',
    TPU_WORKER_ID='0',
    TPU_WORKER_HOSTNAMES='localhost',
    TPU_ACCELERATOR_TYPE='v3-8',  # Any that exists: the topology decides.
    # Compiling takes no TPU, so others may compile at the same time.
    ALLOW_MULTIPLE_LIBTPU_LOAD='1',
  )
  described = topologies.get_topology_desc(
    platform='tpu', topology_name=topology
  )
  return described.devices


def libtpu_path() -> pathlib.Path:
  """Where the compiler is, or should be."""
  installed = pathlib.Path(sys.prefix, 'libtpu', 'libtpu', 'libtpu.so')
  return pathlib.Path(os.environ.get('TPU_LIBRARY_PATH', installed))


def measure(program: Program, num_cores: int) -> dict[str, Any]:
  """Compiles a program; returns what one core needs."""
  started = time.perf_counter()
  lowered = program.function.lower(*program.args)
  lower_seconds = time.perf_counter() - started
  started = time.perf_counter()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return {'error': str(error).partition('\n')[0]}
  compile_seconds = time.perf_counter() - started
  memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
  num_bytes = {
    'argument_bytes': memory.argument_size_in_bytes,
    'temporary_bytes': memory.temp_size_in_bytes,
    'output_bytes': memory.output_size_in_bytes,
    'code_bytes': memory.generated_code_size_in_bytes,
  }
  # Outputs that take the place of arguments.
  aliased = memory.alias_size_in_bytes
  hand = program.hand_flops / num_cores
  return {
    'num_cores': num_cores,
    'gib': round((sum(num_bytes.values()) - aliased) / 2**30, 3),
    **num_bytes,
    'aliased_bytes': aliased,
    'flops': int(cost['flops']),
    'hand_flops': int(hand),
    'flops_ratio': (
      round(cost['flops'] / hand, 4) if program.is_counted_whole else None
    ),
    'bytes_accessed': int(cost['bytes accessed']),
    'lower_seconds': round(lower_seconds, 1),
    'compile_seconds': round(compile_seconds, 1),
  }


def score_program(args: argparse.Namespace, mesh: jax.sharding.Mesh) -> Program:
  """monoT5: one batch scored."""
  config = t5_config.T5Config.from_hf(init.named_config(args.config))
  if args.num_layers:
    config = dataclasses.replace(
      config, num_layers=args.num_layers, num_decoder_layers=args.num_layers
    )
  sharding.check(config, args.mesh, mesh.size)
  dtype = jnp.dtype(args.dtype)
  params = traverse_util.unflatten_dict(
    {
      path: jax.ShapeDtypeStruct(
        shape, jnp.float32 if t5_convert.is_small(path) else dtype
      )
      for path, shape in t5_convert.shapes(config).items()
    }
  )
  if args.scan_layers:
    params = jax.eval_shape(scan.stack, params)
  num_rows = args.batch_tokens // args.length
  return Program(
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


def _put(array: jax.ShapeDtypeStruct, where: jax.sharding.Sharding):
  return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=where)


PROGRAMS: dict[
  str, Callable[[argparse.Namespace, jax.sharding.Mesh], Program]
] = {'score': score_program}


if __name__ == '__main__':
  main()
