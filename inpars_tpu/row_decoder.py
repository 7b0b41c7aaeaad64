"""GPT-J after prompts: token lists in, the new tokens of each as it ends.

What is decoded together, on which mesh, and when rows are filled anew; the rows
themselves are row_batch's. Knows no text and no files.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from inpars_tpu import device, prompt_tokens, row_batch
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import model, programs, sharding

# Rows are filled anew when so large a part of the batch is free: the smaller,
# the fewer rows wait; a CPU reads prompts fastest four by four.
_FILLS_PER_BATCH = {'cpu': 10}
_FILLS_PER_BATCH_ELSEWHERE = 8
# The first layer's table is worth its making where each of its tokens is read
# so often, and its memory where it is no larger a part of a device's.
_MIN_TABLE_USES = 4
_MAX_TABLE_SHARE = 1 / 16
_TABLE_MULTIPLE = 1_024  # Of the tokens that it is of: few shapes.
# With no prompt left, rows that have ended are taken out, half of all at once,
# so often: a third time would spare a CPU 1% more, for one more program.
_NUM_HALVINGS = 2
# Of a row, for the choice of a mesh: the method's 256 and 64 tokens.
_USUAL_SLOTS = 320


def make_mesh(
  text: str | None,
  config: config_lib.GPTJConfig,
  dtype: jnp.dtype,
  weight_bytes: int,
) -> sharding.Mesh:
  """The mesh of this process's devices; None for one device.

  Args:
    text: the value of --mesh; None: as few parts of the weights as fit.
    config: sizes.
    dtype: of the cache.
    weight_bytes: of all weights.

  Raises:
    InputError: a mesh that is not of all devices, or does not divide the heads.
  """

  num_devices = jax.local_device_count()
  shape = choose_shape(
    text, config, dtype, weight_bytes, num_devices, device.here()
  )
  return mesh_lib.make(shape) if num_devices > 1 else None


def choose_shape(
  text: str | None,
  config: config_lib.GPTJConfig,
  dtype: jnp.dtype,
  weight_bytes: int,
  num_devices: int,
  on: device.Device,
) -> mesh_lib.Shape:
  """The shape of `make_mesh`, on so many devices of any kind."""

  def fits(shape: mesh_lib.Shape) -> bool:
    num_rows = fit_part(config, dtype, weight_bytes, shape, _USUAL_SLOTS, on)
    return device.is_enough(num_rows, on)

  return mesh_lib.resolve(text, num_devices, sharding.counts(config), fits)


def num_filled(num_rows: int, backend: str) -> int:
  """How many rows of a part of a batch are filled anew at once."""
  fills = _FILLS_PER_BATCH.get(backend, _FILLS_PER_BATCH_ELSEWHERE)
  return max(1, num_rows // fills)


class RowDecoder:
  """A GPT-J on the device, and the tokens that end a row.

  Attributes:
    params: the weights.
    shape: of the mesh.
    num_row_steps: decoding steps so far, each times its rows: as many tokens
      would have been written, had no row ever waited.
  """

  def __init__(
    self,
    config: config_lib.GPTJConfig,
    params: model.Params,
    is_stop: np.ndarray,
    *,
    dtype: jnp.dtype,
    mesh: sharding.Mesh,
    weight_bytes: int,
  ):
    """Takes weights that are on the device.

    Args:
      config: sizes.
      params: from `convert.load`.
      is_stop: [V] bool, tokens that end a row.
      dtype: of weights and cache.
      mesh: that the weights lie on, from `make_mesh`.
      weight_bytes: of all weights.
    """
    self.params = params
    self.shape = mesh_lib.shape_of(mesh)
    self.num_row_steps = 0
    self._loaded = row_batch.Loaded(config, params, mesh, jnp.asarray(is_stop))
    self._dtype, self._weight_bytes = dtype, weight_bytes

  def read_shared(self, built: prompt_tokens.Prompts) -> row_batch.Shared:
    """Computes once what all rows of these prompts read."""
    config, params, mesh, _ = self._loaded
    tokens = jnp.asarray(built.prefix, jnp.int32)
    prefix = programs.read_prefix(params, config, tokens, mesh)
    own = [ids for ids in built.own if ids is not None]
    most = self._most_tabulated(sum(map(len, own)))
    is_whole = config.vocab_size <= most
    if is_whole:
      chosen = np.arange(config.vocab_size)
    else:
      chosen = np.unique(np.concatenate(own)) if most else ()
    if not 0 < len(chosen) <= most:
      return row_batch.Shared(prefix, None, is_whole=False)
    chosen = np.pad(chosen, (0, -len(chosen) % _TABLE_MULTIPLE), mode='edge')
    table = programs.tabulate(params, config, chosen.astype(np.int32), mesh)
    return row_batch.Shared(prefix, table, is_whole)

  def num_rows(
    self,
    built: prompt_tokens.Prompts,
    max_new_tokens: int,
    batch_size: int | None = None,
  ) -> int:
    """Rows that `decode` decodes together, given the same arguments."""
    num_parts = self.shape.data
    if batch_size:
      return -(-batch_size // num_parts) * num_parts
    num_slots = row_batch.num_prompt_slots(built) + max_new_tokens
    return num_parts * fit_part(
      self._loaded.config,
      self._dtype,
      self._weight_bytes,
      self.shape,
      num_slots,
    )

  def decode(
    self,
    built: prompt_tokens.Prompts,
    shared: row_batch.Shared,
    chosen: Sequence[int],
    *,
    max_new_tokens: int,
    batch_size: int | None = None,
  ) -> Iterator[row_batch.Ended]:
    """Yields what follows the chosen prompts that fit, as they end.

    Rows that have ended get new prompts while the others go on, until there is
    no prompt left: then they are taken out. What is decoded together depends on
    the arguments alone.

    Args:
      built: prompts; of them prefix, own tokens and buckets.
      shared: from `read_shared`, given the same prompts.
      chosen: indices of prompts.
      max_new_tokens: a row that has not ended by then is cut.
      batch_size: rows decoded together, rounded up to a multiple of the mesh's
        data axis; None fits them to the memory.
    """
    fitting = [index for index in chosen if built.own[index] is not None]
    if not fitting:
      return
    num_parts = self.shape.data  # Of the rows, each filled apart.
    part_rows = self.num_rows(built, max_new_tokens, batch_size) // num_parts
    num_new = num_filled(part_rows, jax.default_backend())
    groups = prompt_tokens.group(fitting, built.own, num_new * num_parts)
    batch = row_batch.RowBatch(
      self._loaded,
      built,
      shared,
      part_rows=part_rows,
      max_new_tokens=max_new_tokens,
    )
    for group in groups:
      yield from batch.advance(num_new)
      batch.fill(group)
    for _ in range(_NUM_HALVINGS):
      half = batch.part_rows // 2
      if half:
        yield from batch.advance(batch.part_rows - half)
        batch.shrink(half)
    yield from batch.advance(batch.part_rows)
    self.num_row_steps += batch.num_row_steps

  def _most_tabulated(self, num_read: int) -> int:
    """Tokens that a table is worth where so many are read, and has room for."""
    row_bytes = 4 * self._loaded.config.model_dim * self._dtype.itemsize
    return min(
      int(num_read / _MIN_TABLE_USES),
      int(_MAX_TABLE_SHARE * device.memory_bytes() / row_bytes),
    )


def fit_part(
  config: config_lib.GPTJConfig,
  dtype: jnp.dtype,
  weight_bytes: int,
  shape: mesh_lib.Shape,
  num_slots: int,
  on: device.Device | None = None,
) -> int:
  """Rows of one part of a batch whose cache and logits fit the memory.

  Args:
    config: sizes.
    dtype: of the cache.
    weight_bytes: of all weights.
    shape: of the mesh.
    num_slots: cache positions of a row.
    on: the devices; None: this process's.
  """
  position_bytes = 2 * config.model_dim * config.num_layers * dtype.itemsize
  row_bytes = num_slots * position_bytes + 4 * config.vocab_size
  return device.fit_rows(
    row_bytes / shape.model, weight_bytes / shape.model, on
  )
