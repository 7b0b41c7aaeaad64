"""The programs of generation, scoring and training, for a TPU's compiler.

What the stages would jit, with the shapes that they would have and no weights.
No mesh is one device.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import traverse_util

from inpars_tpu import flops, layout, tpu_compiler, trainer
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.gptj import attention, decode, model, programs
from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.gptj import convert as gptj_convert
from inpars_tpu.gptj import sharding as gptj_sharding
from inpars_tpu.t5 import config as t5_config
from inpars_tpu.t5 import network, scan, score, sharding, tensors

Programs = Mapping[str, tpu_compiler.Program]

NUM_TARGETS = 2  # The label word and </s>.
_LABEL_IDS = (6_136, 1_176)  # T5's false and true.


class Rows(NamedTuple):
  """Shapes of generation, all devices together."""

  num_rows: int  # Decoded together.
  num_filled: int  # Filled at once.
  prefix_tokens: int
  prompt_tokens: int  # Padded, of a row's own.
  new_tokens: int


def generate(
  config: gptj_config.GPTJConfig,
  rows: Rows,
  mesh: jax.sharding.Mesh | None,
  *,
  dtype: str,
  weights: str | None = None,
) -> Programs:
  """'fill', prefill of one group, and 'advance', decoding of all rows."""
  num_steps = max(rows.new_tokens - 1, 1)  # Prefill gives the first token.
  prefill, decoding = flops.write_query(
    config, rows.prefix_tokens, rows.prompt_tokens, num_steps
  )
  params, prefix, begun, cache = _arrays(config, rows, mesh, dtype, weights)
  is_stop = _whole(mesh, (config.vocab_size,), jnp.bool_)
  numbers = _whole(mesh, (rows.num_filled,), jnp.int32)
  tokens = _whole(mesh, (rows.num_filled, rows.prompt_tokens), jnp.int32)
  return {
    'fill': tpu_compiler.Program(
      programs.fill,
      (params, config, prefix, tokens, numbers, numbers, begun, cache),
      hand_flops=rows.num_filled * prefill,
      kwargs={
        'is_stop': is_stop,
        'is_filler': _whole(mesh, (rows.num_filled,), jnp.bool_),
        'mesh': mesh,
      },
    ),
    # XLA counts the body of the loop once: a step.
    'advance': tpu_compiler.Program(
      programs.advance,
      (params, config, prefix, begun, cache),
      hand_flops=rows.num_rows * (decoding // num_steps),
      kwargs={
        'is_stop': is_stop,
        'num_prompt_slots': rows.prompt_tokens,
        'min_done': _whole(mesh, (), jnp.int32),
        'mesh': mesh,
      },
    ),
  }


def score_batch(
  config: t5_config.T5Config,
  num_rows: int,
  num_tokens: int,
  mesh: jax.sharding.Mesh | None,
  *,
  dtype: str,
  scan_layers: bool = False,
) -> Programs:
  """'score': one batch of pairs of `num_tokens`, padding counted."""
  params = traverse_util.unflatten_dict(
    {
      path: jax.ShapeDtypeStruct(
        shape, jnp.float32 if tensors.is_small(path) else jnp.dtype(dtype)
      )
      for path, shape in tensors.shapes(config).items()
    }
  )
  if scan_layers:
    params = jax.eval_shape(scan.stack, params)
  return {
    'score': tpu_compiler.Program(
      score.score_batch,
      (
        network.Transformer(config, jnp.dtype(dtype), scan_layers),
        traverse_util.path_aware_map(
          lambda path, array: jax.ShapeDtypeStruct(
            array.shape,
            array.dtype,
            sharding=mesh and sharding.of_param(config, path, mesh),
          ),
          params,
        ),
        jax.ShapeDtypeStruct(
          (num_rows, num_tokens),
          jnp.int32,
          sharding=mesh and sharding.of_tokens(mesh),
        ),
        _whole(mesh, (2,), jnp.int32),
      ),
      hand_flops=num_rows * sum(flops.score_pair(config, num_tokens)),
      is_counted_whole=not scan_layers,
    )
  }


def train(
  config: t5_config.T5Config,
  settings: trainer.Settings,
  num_rows: int,
  num_tokens: int,
  where: layout.Layout,
) -> Programs:
  """'accumulate', a microbatch's gradients added to the sums, and 'update'.

  They run one after the other, so a device needs the larger of the two.
  """
  made = trainer.Trainer(config, settings, _LABEL_IDS, where)
  hand_flops = {
    'accumulate': num_rows * flops.train_pair(config, num_tokens, NUM_TARGETS),
    'update': 0,
  }
  return {
    name: tpu_compiler.Program(
      function,
      arguments,
      hand_flops[name],
      is_counted_whole=not where.scan_layers and name == 'accumulate',
    )
    for name, (function, arguments) in made.programs(
      num_rows, num_tokens, NUM_TARGETS
    ).items()
  }


def _arrays(config, rows: Rows, mesh, dtype: str, weights: str | None):
  """Weights, prefix, rows and cache: shapes, dtypes and places."""
  sharded = gptj_sharding

  def places(tree, axes):
    return jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        leaf.shape,
        leaf.dtype,
        sharding=mesh
        and mesh_lib.sharding(mesh, axes[: leaf.ndim], sharded.RULES),
      ),
      tree,
    )

  params = gptj_convert.abstract_params(
    config, jnp.dtype(dtype), weights=weights, mesh=mesh
  )
  # As `model.prefill_prefix` makes it, without tracing every layer.
  shape = (config.num_heads, config.head_dim, rows.prefix_tokens)
  prefix = [
    attention.KeysValues(
      jax.ShapeDtypeStruct(shape, params['embedding'].dtype),
      jax.ShapeDtypeStruct(
        (shape[0], *shape[:0:-1]), params['embedding'].dtype
      ),
    )
  ] * config.num_layers
  begun, cache = jax.eval_shape(
    lambda params: (
      decode.empty_rows(rows.num_rows, rows.new_tokens),
      model.empty_cache(
        params, config, rows.num_rows, rows.prompt_tokens + rows.new_tokens
      ),
    ),
    params,
  )
  return (
    params,
    places(prefix, sharded.PREFIX),
    places(begun, ('rows', None)),
    places(cache, sharded.CACHE),
  )


def _whole(mesh, shape, dtype) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(
    shape, dtype, sharding=mesh and mesh_lib.sharding(mesh, (), {})
  )
