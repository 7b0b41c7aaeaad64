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

import jax
import jax.numpy as jnp

from benchmarks import tpu_compiler
from inpars_tpu import flops, init, row_decoder
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import convert, decode, model, programs, sharding


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
  mesh = mesh_lib.make(shape, devices)
  num_filled = shape.data * row_decoder.num_filled(
    args.num_rows // shape.data, 'tpu'
  )
  num_steps = args.new_tokens - 1  # Prefill gives the first token.
  prefill, decoding = flops.write_query(
    config, args.prefix_tokens, args.prompt_tokens, num_steps
  )
  programs = {
    'fill': _fill(args, config, mesh, num_filled, prefill),
    # XLA counts the body of the loop once: a step.
    'advance': _advance(args, config, mesh, decoding // num_steps),
  }
  found: dict[str, Any] = {}
  for name, program in programs.items():
    found[name] = tpu_compiler.measure(program, len(devices))
    if 'error' in found[name]:
      return found | found[name]
  num_fills = args.num_rows / num_filled
  computed = (
    num_fills * found['fill']['flops'] + num_steps * found['advance']['flops']
  )
  needed = args.num_rows * (prefill + decoding) / len(devices)
  return found | {
    'gib': max(found[name]['gib'] for name in programs),
    'flops_ratio': round(computed / needed, 4),
  }


def _fill(args, config, mesh, num_filled, row_flops) -> tpu_compiler.Program:
  """Prefill of a group."""
  params, prefix, rows, cache = _arrays(args, config, mesh)
  numbers = _whole(mesh, (num_filled,), jnp.int32)
  tokens = _whole(mesh, (num_filled, args.prompt_tokens), jnp.int32)
  return tpu_compiler.Program(
    programs.fill,
    (params, config, prefix, tokens, numbers, numbers, rows, cache),
    hand_flops=num_filled * row_flops,
    kwargs={
      'is_stop': _whole(mesh, (config.vocab_size,), jnp.bool_),
      'is_filler': _whole(mesh, (num_filled,), jnp.bool_),
      'mesh': mesh,
    },
  )


def _advance(args, config, mesh, row_flops) -> tpu_compiler.Program:
  """Decoding of all rows."""
  params, prefix, rows, cache = _arrays(args, config, mesh)
  return tpu_compiler.Program(
    programs.advance,
    (params, config, prefix, rows, cache),
    hand_flops=args.num_rows * row_flops,
    kwargs={
      'is_stop': _whole(mesh, (config.vocab_size,), jnp.bool_),
      'num_prompt_slots': args.prompt_tokens,
      'min_done': _whole(mesh, (), jnp.int32),
      'mesh': mesh,
    },
  )


def _arrays(args, config, mesh):
  """Weights, prefix, rows and cache: shapes, dtypes and places."""
  dtype = jnp.dtype(args.dtype)

  def place(struct, axes):
    return jax.ShapeDtypeStruct(
      struct.shape,
      struct.dtype,
      sharding=mesh_lib.sharding(mesh, axes, sharding.RULES),
    )

  def places(tree, axes):
    return jax.tree.map(lambda leaf: place(leaf, axes[: leaf.ndim]), tree)

  params = convert.abstract_params(
    config, dtype, weights=args.weights, mesh=mesh
  )
  tokens = jax.ShapeDtypeStruct((args.prefix_tokens,), jnp.int32)
  prefix = jax.eval_shape(
    lambda params, tokens: model.prefill_prefix(params, config, tokens),
    params, tokens,
  )  # fmt: skip
  rows, cache = jax.eval_shape(
    lambda params: (
      decode.empty_rows(args.num_rows, args.new_tokens),
      model.empty_cache(
        params, config, args.num_rows, args.prompt_tokens + args.new_tokens
      ),
    ),
    params,
  )
  return (
    params,
    places(prefix, sharding.PREFIX),
    places(rows, ('rows', None)),
    places(cache, sharding.CACHE),
  )


def _whole(mesh, shape, dtype) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(
    shape, dtype, sharding=mesh_lib.sharding(mesh, (), sharding.RULES)
  )
