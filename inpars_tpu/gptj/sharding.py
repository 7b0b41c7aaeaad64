"""Which part of GPT-J each device of a mesh holds: Megatron's way.

Query, key, value and the MLP's first kernel are parted by what they put out,
the attention's output and the MLP's second kernel by what they take in: a layer
sums over the devices twice (arXiv:1909.08053, section 3). The shared prefix and
the cache are parted by heads, the cache by rows too, embedding and head by
vocabulary: the token is chosen where the logits are.

No mesh is one device: nothing here changes its programs.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import layout

from inpars_tpu import mesh as mesh_lib
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import decode, model

Mesh = jax.sharding.Mesh | None

# The one table: GPT-J's axes -> the mesh's.
RULES: mesh_lib.Rules = {
  'rows': 'data',
  'heads': 'model',  # In a kernel: the dimensions of all heads.
  'mlp': 'model',
  'vocab': 'model',
  'embed': None,
}
# Our path of a parameter, layers without their number -> its axes.
PARAMS: dict[tuple[str, ...], tuple[str, ...]] = {
  ('embedding',): ('vocab', 'embed'),
  ('norm', 'scale'): ('embed',),
  ('norm', 'bias'): ('embed',),
  ('query',): ('embed', 'heads'),
  ('key',): ('embed', 'heads'),
  ('value',): ('embed', 'heads'),
  ('out',): ('heads', 'embed'),
  ('mlp_in', 'kernel'): ('embed', 'mlp'),
  ('mlp_in', 'bias'): ('mlp',),
  ('mlp_out', 'kernel'): ('mlp', 'embed'),
  ('mlp_out', 'bias'): ('embed',),
  ('final_norm', 'scale'): ('embed',),
  ('final_norm', 'bias'): ('embed',),
  ('head', 'kernel'): ('embed', 'vocab'),
  ('head', 'bias'): ('vocab',),
}
FIRST = model.Projections(  # The first layer's table.
  *[(None, 'heads')] * 3, outer=(None, 'embed')
)
PREFIX = ('heads', None, None)
CACHE = ('heads', 'rows', None, None)


def counts(config: config_lib.GPTJConfig) -> dict[str, int]:
  """What the `model` axis must divide, by name.

  Not the vocabulary: where it cannot be parted each device holds all of it.
  """
  return {'heads': config.num_heads, 'MLP units': config.mlp_dim}


def rules(config: config_lib.GPTJConfig, mesh: Mesh) -> mesh_lib.Rules:
  """RULES, without the vocabulary where the mesh does not divide it."""
  is_divided = config.vocab_size % mesh_lib.shape_of(mesh).model == 0
  return RULES if is_divided else {**RULES, 'vocab': None}


def constrain(tree: Any, mesh: Mesh, axes: tuple[str | None, ...]) -> Any:
  """Inside a jitted function: says where arrays with these axes lie."""
  if mesh is None:
    return tree
  return jax.lax.with_sharding_constraint(
    tree, mesh_lib.sharding(mesh, axes, RULES)
  )


def constrain_batch(
  rows: decode.Rows, cache: model.Cache, mesh: Mesh
) -> tuple[decode.Rows, model.Cache]:
  """`constrain` for rows being decoded and their cache."""
  if mesh is None:
    return rows, cache
  clock = constrain(rows.clock, mesh, ())
  rows = constrain(rows._replace(clock=None), mesh, ('rows',))
  return rows._replace(clock=clock), constrain(cache, mesh, CACHE)


def keep_layout(cache: model.Cache, mesh: Mesh) -> model.Cache:
  """Inside a loop: says that the cache stays as it lies in memory, on a TPU.

  Its compiler would rather turn the cache for the loop, which saves 3% of a
  step's cycles, and copy all of it before and after: twice the memory.
  """
  as_it_is = layout.Layout(tuple(range(len(CACHE))))

  def keep(cache: model.Cache) -> model.Cache:
    return jax.tree.map(
      lambda x: layout.with_layout_constraint(x, as_it_is), cache
    )

  if mesh is not None:  # The partitioner gathers what has a layout to keep.
    spec = mesh_lib.sharding(mesh, CACHE, RULES).spec
    keep = jax.shard_map(keep, mesh=mesh, in_specs=spec, out_specs=spec)
  return jax.lax.platform_dependent(
    cache, tpu=keep, default=lambda cache: cache
  )


def put_rows(
  cache: model.Cache, new: model.Cache, rows: jax.Array, mesh: Mesh
) -> model.Cache:
  """`model.put_rows`, each part of the rows on its own devices.

  Args:
    cache: of B rows.
    new: of F rows.
    rows: [F] int32; each part of F, in order, must be rows of that part of B.
    mesh: of the arrays.
  """
  if mesh is None:
    return model.put_rows(cache, new, rows)
  num_own = cache[0].keys.shape[1] // mesh_lib.shape_of(mesh).data

  def put(cache, new, rows):
    return model.put_rows(cache, new, _from_first_own(rows, num_own))

  of_cache = mesh_lib.sharding(mesh, CACHE, RULES).spec
  of_rows = mesh_lib.sharding(mesh, ('rows',), RULES).spec
  return jax.shard_map(
    put, mesh=mesh, in_specs=(of_cache, of_cache, of_rows), out_specs=of_cache
  )(cache, new, rows)


def take_rows(
  tree: Any, kept: jax.Array, mesh: Mesh, axes: tuple[str | None, ...]
) -> Any:
  """Some rows of arrays with these axes, each part on its own devices.

  Args:
    tree: arrays of B rows.
    kept: [F] int32; each part of F, in order, must be rows of that part of B.
    mesh: of the arrays.
    axes: their names, 'rows' among them.
  """
  axis = axes.index('rows')

  def take(tree, kept):
    return jax.tree.map(lambda x: jnp.take(x, kept, axis, mode='clip'), tree)

  if mesh is None:
    return take(tree, kept)
  num_rows = jax.tree.leaves(tree)[0].shape[axis]
  num_own = num_rows // mesh_lib.shape_of(mesh).data

  def take_own(tree, kept):
    return take(tree, _from_first_own(kept, num_own))

  of_tree = mesh_lib.sharding(mesh, axes, RULES).spec
  of_rows = mesh_lib.sharding(mesh, ('rows',), RULES).spec
  return jax.shard_map(
    take_own, mesh=mesh, in_specs=(of_tree, of_rows), out_specs=of_tree
  )(tree, kept)


def _from_first_own(rows: jax.Array, num_own: int) -> jax.Array:
  """Inside shard_map: numbers of rows, counted from this device's first."""
  return rows - jax.lax.axis_index(RULES['rows']) * num_own
