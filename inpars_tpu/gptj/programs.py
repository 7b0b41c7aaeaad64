"""The programs that generation runs on the device: jitted, on a mesh or not.

Each is compiled once for its shapes. No mesh is one device.
"""

import functools

import jax

from inpars_tpu import mesh as mesh_lib
from inpars_tpu.gptj import decode, model, sharding


@functools.partial(
  jax.jit,
  static_argnames=('config', 'mesh', 'num_rows', 'num_slots', 'max_new_tokens'),
)
def begin(params, *, config, mesh, num_rows, num_slots, max_new_tokens):
  """Rows that have nothing to do, and their cache.

  Jitted, no device ever holds the whole of a cache that has parts.
  """
  return sharding.constrain_batch(
    decode.empty_rows(num_rows, max_new_tokens),
    model.empty_cache(params, config, num_rows, num_slots),
    mesh,
  )


@functools.partial(jax.jit, static_argnames=('config', 'mesh'))
def tabulate(params, config, tokens, mesh):
  """`model.tabulate`."""
  table = model.tabulate(params, config, tokens)
  rows = (
    sharding.constrain(part, mesh, axes)
    for part, axes in zip(table.rows, sharding.FIRST, strict=True)
  )
  return table._replace(rows=model.Projections(*rows))


@functools.partial(jax.jit, static_argnames=('config', 'mesh'))
def read_prefix(params, config, tokens, mesh):
  """`model.prefill_prefix`."""
  prefix = model.prefill_prefix(params, config, tokens)
  return sharding.constrain(prefix, mesh, sharding.PREFIX)


@functools.partial(
  jax.jit, static_argnames=('config', 'mesh'), donate_argnames=('rows', 'cache')
)
def fill(
  params, config, prefix, tokens, lengths, places, rows, cache, *,
  is_stop, is_filler, mesh,
):  # fmt: skip
  """Prefill of a group: a program for each padded length."""
  tokens, lengths = sharding.constrain((tokens, lengths), mesh, ('rows',))
  logits, own = model.prefill(params, config, prefix, tokens, lengths)
  rows = decode.fill(
    rows, places, logits, lengths, is_stop=is_stop, is_filler=is_filler
  )
  cache = sharding.put_rows(cache, own, places, mesh)
  return sharding.constrain_batch(rows, cache, mesh)


@functools.partial(
  jax.jit,
  static_argnames=('config', 'num_prompt_slots', 'mesh'),
  donate_argnames=('rows', 'cache'),
)
def advance(
  params, config, prefix, rows, cache, *,
  is_stop, num_prompt_slots, min_done, mesh,
):  # fmt: skip
  """Decoding of all rows, until some of each part are free: one program."""

  def step(tokens, positions, slot, is_visible, cache):
    logits, cache = model.decode_step(
      params, config, prefix, tokens, positions, slot, is_visible, cache
    )
    return logits, sharding.keep_layout(cache, mesh)

  rows, cache = decode.advance(
    step,
    rows,
    cache,
    is_stop=is_stop,
    num_prompt_slots=num_prompt_slots,
    min_done=min_done,
    num_parts=mesh_lib.shape_of(mesh).data,
  )
  return sharding.constrain_batch(rows, cache, mesh)


@functools.partial(jax.jit, static_argnames=('axes', 'mesh'))
def take_rows(tree, kept, *, axes, mesh):
  """`sharding.take_rows`."""
  return sharding.take_rows(tree, kept, mesh, axes)
