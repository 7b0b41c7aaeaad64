"""The TPU's compiler, on a machine without a TPU.

The compiler is libtpu, for Linux on x86_64, of a version that suits jax's.
`make compiler` installs it in a folder that jax does not see: where it can be
imported, every jax process loads it, asks a metadata server for a TPU and
complains. TPU_LIBRARY_PATH names another libtpu.so.
"""

import os
import pathlib
import re
import sys
import time
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from inpars_tpu import errors

# Of a v4 two cores are one device, as jax has them on the machine itself; its
# compiler has to be told.
_MEGACORE = re.compile('v4:')
_CHIPS_PER_HOST = {'1x1': (1, 1, 1), '2x4': (2, 4, 1)}  # Where not 2 x 2.


class Program(NamedTuple):
  """What to compile: a jitted function and what it would be called with."""

  function: Any
  args: tuple[Any, ...]  # Arrays are ShapeDtypeStructs with their sharding.
  hand_flops: int  # That the whole batch needs, on all cores together.
  # XLA counts what is in a loop once, whatever the number of rounds.
  is_counted_whole: bool = True
  kwargs: Mapping[str, Any] = types.MappingProxyType({})  # By name.


def tpu_devices(topology: str) -> list[Any]:
  """The devices of a TPU that is not there, for the compiler alone.

  Args:
    topology: its family and how its chips lie: 'v3:2x2', 'v4:2x2x1'.

  Raises:
    InputError: no compiler.
  """
  library = libtpu_path()
  if not library.is_file():
    raise errors.InputError(
      f'{library}: no libtpu, the compiler of TPUs; `make compiler` installs '
      'it, or TPU_LIBRARY_PATH names another'
    )
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
  options: dict[str, Any] = {}
  if _MEGACORE.match(topology):
    options['chip_config_name'] = 'megacore'
  bounds = _CHIPS_PER_HOST.get(topology.partition(':')[2])
  if bounds:
    options['chips_per_host_bounds'] = bounds
  described = topologies.get_topology_desc(
    platform='tpu', topology_name=topology, **options
  )
  return described.devices


def libtpu_path() -> pathlib.Path:
  """Where the compiler is, or should be."""
  installed = pathlib.Path(sys.prefix, 'libtpu', 'libtpu', 'libtpu.so')
  return pathlib.Path(os.environ.get('TPU_LIBRARY_PATH', installed))


def measure(program: Program, num_cores: int) -> dict[str, Any]:
  """Compiles a program; returns what one core needs."""
  started = time.perf_counter()
  lowered = program.function.lower(*program.args, **program.kwargs)
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
    'total_bytes': sum(num_bytes.values()) - aliased,
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
