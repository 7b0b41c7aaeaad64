"""Memory of a device that a program needs: arguments, and what it makes.

Arguments are counted from the shapes of the programs, parted as they would be.
What a program makes beside them is estimated: the widest layer's activations,
which is what the TPU's compiler was found to keep at one time, or the rows of a
table that are looked up, which a TPU pads. Training is in `train_memory`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import traverse_util

from inpars_tpu import mesh as mesh_lib
from inpars_tpu import tiles, tpu_programs
from inpars_tpu.gptj import attention as gptj_attention
from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.t5 import attention
from inpars_tpu.t5 import config as t5_config

# Of the decoder, in scoring: modules, or a module in another.
_UNREAD = {
  'relpos_bias', ('self_attention', 'query'), ('self_attention', 'key'),
}  # fmt: skip


class Memory(NamedTuple):
  """Bytes of a device, of the program that needs the most in all."""

  arguments: int  # That it reads.
  total: int
  error: str | None = None  # The compiler's reason, where it does not fit.


def estimate(
  programs: tpu_programs.Programs,
  temporaries: Mapping[str, int],
  *,
  total: int | None = None,
  unread: Callable[[tpu_programs.Programs], int] = lambda programs: 0,
) -> Memory:
  """The most that a program needs, by arithmetic.

  Args:
    programs: of one stage, whose arguments may lie on an abstract mesh.
    temporaries: program -> bytes beside its arguments.
    total: of all, where the estimate is not in parts.
    unread: gives the bytes of arguments that no program reads, so that jax
      passes none.
  """
  of_programs = {
    name: argument_bytes(program.args) + argument_bytes(program.kwargs)
    for name, program in programs.items()
  }
  if total is not None:
    arguments = max(of_programs.values())
    return Memory(arguments, max(total, arguments))
  not_passed = unread(programs)
  return max(
    (
      Memory(num_bytes - not_passed, num_bytes + temporaries[name])
      for name, num_bytes in of_programs.items()
    ),
    key=lambda memory: memory.total,
  )


def of_compiled(found: Mapping[str, dict[str, Any]]) -> Memory:
  """The same of what `tpu_compiler.measure` says of a stage's programs."""
  for result in found.values():
    if 'error' in result:
      return Memory(0, 0, result['error'])
  return max(
    (
      Memory(result['argument_bytes'], result['total_bytes'])
      for result in found.values()
    ),
    key=lambda memory: memory.total,
  )


def argument_bytes(tree: Any) -> int:
  """Of one device, of all arrays in a tree of ShapeDtypeStructs."""
  return sum(
    _tiled_bytes(leaf)
    for leaf in jax.tree.leaves(tree)
    if isinstance(leaf, jax.ShapeDtypeStruct)
  )


def generator_bytes(
  config: gptj_config.GPTJConfig, rows: tpu_programs.Rows, itemsize: int
) -> int:
  """The cache of all rows, on all devices together."""
  slots = rows.prompt_tokens + rows.new_tokens
  width = 2 * config.num_layers * config.model_dim * itemsize
  return rows.num_rows * slots * width


def generate_temporaries(
  config: gptj_config.GPTJConfig,
  rows: tpu_programs.Rows,
  shape: mesh_lib.Shape,
  itemsize: int,
) -> dict[str, int]:
  """'fill': keys and values of a group in every layer, and one layer's work.

  'advance': the loop keeps the kernels of queries, keys and values once more,
  as it wants to read them. Where an embedding or a head has fewer numbers than
  a TPU has lanes, rows of the embedding are read from a padded copy, and so is
  the cache in the loop, as `sharding.keep_layout` has it.
  """
  d, parts = config.model_dim, shape.model
  num_rows = rows.num_filled // shape.data
  tokens = num_rows * rows.prompt_tokens
  own = 2 * config.num_layers * tokens * d // parts * itemsize
  units = tokens * config.mlp_dim // parts * (itemsize + 4)
  block = min(rows.prompt_tokens, gptj_attention.QUERY_BLOCK)
  seen = rows.prefix_tokens + rows.prompt_tokens
  logits = config.num_heads // parts * num_rows * block * seen * (4 + itemsize)
  words = config.vocab_size // parts * 4
  kernels = config.num_layers * 3 * d * d // parts * itemsize
  embedding = tiles.padded_copy((words // 4, d), itemsize)
  in_slots = (
    config.num_heads // parts * rows.num_rows // shape.data,
    rows.prompt_tokens + rows.new_tokens,
    config.head_dim,
  )
  cache = 2 * config.num_layers * tiles.padded_copy(in_slots, itemsize)
  layer = own + max(units, logits) + tokens * d * (itemsize + 4)
  return {
    'fill': max(layer, embedding) + num_rows * words,
    'advance': kernels + embedding + cache
    + rows.num_rows // shape.data * 2 * words,
  }  # fmt: skip


def score_temporaries(
  config: t5_config.T5Config,
  num_rows: int,
  num_tokens: int,
  shape: mesh_lib.Shape,
  itemsize: int,
) -> dict[str, int]:
  """'score': a layer's attention or feed-forward units, and the residual.

  Or, of a small model, the relative positions: a row of numbers, one of a head,
  looked up for each pair of tokens, and turned.
  """
  heads = config.num_heads // shape.model
  joined = config.num_heads * config.d_kv
  block = min(num_tokens, attention.MAX_QUERIES)
  logits = config.num_heads * block * 4 + 3 * joined * itemsize
  units = (2 if config.is_gated else 1) * config.d_ff * itemsize
  layer = num_rows * num_tokens * max(logits, units) // shape.model
  positions = tiles.as_rows((num_tokens**2, heads), 4)
  positions += 4 * heads * num_tokens**2
  residual = num_rows * num_tokens * 8 * config.d_model
  return {'score': max(layer, positions) + residual}


def score_unread(programs: tpu_programs.Programs) -> int:
  """Bytes that a single decoder position, which sees itself, has no use for.

  They lie on the device all the same.
  """
  _, params, *_ = programs['score'].args
  return sum(
    argument_bytes(leaf)
    for path, leaf in traverse_util.flatten_dict(params).items()
    if 'decoder' in path and _UNREAD & {*path, path[-3:-1]}
  )


def _tiled_bytes(struct: jax.ShapeDtypeStruct) -> int:
  """Of the part that a device has."""
  part = struct.shape
  if struct.sharding is not None:
    part = struct.sharding.shard_shape(part)
  return tiles.as_it_lies(part, struct.dtype.itemsize)
