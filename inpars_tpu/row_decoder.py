"""Rows in flight: token lists in, GPT-J, new tokens of each as it ends.

What is decoded together, on which mesh, and when rows are filled anew; the
programs are in gptj/. Knows no text and no files.
"""

import collections
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inpars_tpu import device, prompt_tokens
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import decode, model, programs, sharding

# Rows are filled anew when so large a part of the batch is free: the smaller,
# the fewer rows wait; a CPU reads prompts fastest four by four.
_FILLS_PER_BATCH = {'cpu': 5}
_FILLS_PER_BATCH_ELSEWHERE = 8
# The first layer's table is worth its making where so many times the vocabulary
# are read, and its memory where it is no larger a part of a device's.
_MIN_TABLE_USES = 4
_MAX_TABLE_SHARE = 1 / 16
# Of a row, for the choice of a mesh: the method's 256 and 64 tokens.
_USUAL_SLOTS = 320


class Ended(NamedTuple):
  """A row that has ended: what was written after one prompt."""

  index: int  # Of the prompt.
  tokens: np.ndarray  # [n] int32, a stop token the last, where there is one.
  log_probs: np.ndarray  # [n] float32, natural log.
  has_stopped: bool  # A stop token came before there was no more room.


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
    params: the weights; once it has been made, 'first' is the table of the
      first layer.
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
    self._config, self._dtype, self._mesh = config, dtype, mesh
    self._weight_bytes = weight_bytes
    self._is_stop = jnp.asarray(is_stop)

  def read_prefix(self, built: prompt_tokens.Prompts) -> model.Prefix:
    """Keys and values of the shared prefix: computed once for all rows."""
    if 'first' not in self.params and self._is_table_worth_it(built):
      table = programs.tabulate(self.params, self._config, self._mesh)
      self.params = self.params | {'first': table}
    tokens = jnp.asarray(built.prefix, jnp.int32)
    return programs.read_prefix(self.params, self._config, tokens, self._mesh)

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
    num_slots = _num_prompt_slots(built) + max_new_tokens
    return num_parts * fit_part(
      self._config, self._dtype, self._weight_bytes, self.shape, num_slots
    )

  def decode(
    self,
    built: prompt_tokens.Prompts,
    prefix: model.Prefix,
    chosen: Sequence[int],
    *,
    max_new_tokens: int,
    batch_size: int | None = None,
  ) -> Iterator[Ended]:
    """Yields what follows the chosen prompts that fit, as they end.

    Rows that have ended get new prompts while the others go on. What is decoded
    together depends on the arguments alone.

    Args:
      built: prompts; of them prefix, own tokens and buckets.
      prefix: from `read_prefix`.
      chosen: indices of prompts.
      max_new_tokens: a row that has not ended by then is cut.
      batch_size: rows decoded together, rounded up to a multiple of the mesh's
        data axis; None fits them to the memory.
    """
    num_prompt_slots = _num_prompt_slots(built)
    num_parts = self.shape.data  # Of the rows, each filled apart.
    num_rows = self.num_rows(built, max_new_tokens, batch_size)
    part_rows = num_rows // num_parts
    fitting = [i for i in chosen if built.own[i] is not None]
    num_new = num_filled(part_rows, jax.default_backend())
    groups = collections.deque(
      prompt_tokens.group(fitting, built.own, num_new * num_parts)
    )
    rows, cache = self._begin(
      num_rows, num_prompt_slots + max_new_tokens, max_new_tokens
    )
    holds: dict[int, int] = {}  # Row -> index of its prompt.
    clock = 0
    while groups or holds:
      free = [
        [row for row in range(start, start + part_rows) if row not in holds]
        for start in range(0, num_rows, part_rows)
      ]
      while groups and min(map(len, free)) >= num_new:
        group = groups.popleft()
        places = [row for part in free for row in part[:num_new]]
        free = [part[num_new:] for part in free]
        rows, cache = self._fill(prefix, built, group, places, rows, cache)
        holds |= {
          row: index
          for row, index in zip(places, group, strict=True)
          if index is not None
        }
      rows, cache = programs.advance(
        self.params,
        self._config,
        prefix,
        rows,
        cache,
        is_stop=self._is_stop,
        num_prompt_slots=num_prompt_slots,
        min_done=np.int32(num_new if groups else part_rows),
        mesh=self._mesh,
      )
      seen = jax.device_get(rows)
      self.num_row_steps += num_rows * (int(seen.clock) - clock)
      clock = int(seen.clock)
      for row in [row for row in holds if seen.is_done[row]]:
        yield _ended(holds.pop(row), seen, row)

  def _fill(self, prefix, built, group, places, rows, cache):
    """Puts a group of prompts into rows that are free."""
    tokens, lengths = prompt_tokens.pad(
      [None if index is None else built.own[index] for index in group],
      built.buckets,
    )
    return programs.fill(
      self.params,
      self._config,
      prefix,
      tokens,
      lengths,
      np.array(places, np.int32),
      rows,
      cache,
      is_stop=self._is_stop,
      is_filler=np.array([index is None for index in group]),
      mesh=self._mesh,
    )

  def _begin(self, num_rows, num_slots, max_new_tokens):
    """Rows that have nothing to do, and their cache."""
    begin = functools.partial(
      programs.begin, config=self._config, mesh=self._mesh, num_rows=num_rows,
      num_slots=num_slots, max_new_tokens=max_new_tokens,
    )  # fmt: skip
    # Jitted, no device ever holds the whole of a cache that has parts.
    return (begin if self._mesh is None else jax.jit(begin))(self.params)

  def _is_table_worth_it(self, built: prompt_tokens.Prompts) -> bool:
    """Whether to compute the first layer for each token of the vocabulary."""
    num_tokens = sum(len(own) for own in built.own if own is not None)
    row_bytes = 4 * self._config.model_dim * self._dtype.itemsize
    return (
      num_tokens >= _MIN_TABLE_USES * self._config.vocab_size
      and row_bytes * self._config.vocab_size
      <= _MAX_TABLE_SHARE * device.memory_bytes()
    )


def _num_prompt_slots(built: prompt_tokens.Prompts) -> int:
  return built.buckets[-1] if built.buckets else 0


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


def _ended(index: int, rows: decode.Rows, row: int) -> Ended:
  num_tokens = int(rows.num_tokens[row])
  return Ended(
    index,
    rows.tokens[row, :num_tokens],
    rows.log_probs[row, :num_tokens],
    bool(rows.has_stopped[row]),
  )
