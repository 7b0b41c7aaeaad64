"""How a training lies on its devices: what is parted, looped or computed twice.

A layout changes no result but for rounding. Rows of a microbatch are parted
over the mesh's `data`, weights over `model`; where whole weights do not fit,
they, their gradients and slots are parted over `data` too, as t5x's
`param_partitioning = 2`.
"""

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from flax.linen import partitioning

from inpars_tpu import device, errors, train_memory
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import network, sharding

Params = Mapping[str, Any]

# Input tokens of a microbatch for each part of its rows, padding counted: what
# a CPU's caches like, and elsewhere what leaves a 3B model's activations room.
MICROBATCH_TOKENS = {'cpu': 1_024, 'tpu': 4_096}
_MICROBATCH_TOKENS_ELSEWHERE = 8_192
# From T5-base on, a loop: its program is compiled in a fraction of the time.
_MIN_SCANNED_LAYERS = 24
_SHARE = 0.9  # Of the memory; the rest: programs, and gaps.


@dataclasses.dataclass(frozen=True)
class Layout:
  """Of one training."""

  mesh: sharding.Mesh = None  # None: one device.
  shards_params: bool = False  # Over `data` too.
  scan_layers: bool = False
  remat: bool = False

  @property
  def num_parts(self) -> int:
    """Of a microbatch's rows."""
    return mesh_lib.shape_of(self.mesh).data

  @property
  def rules(self) -> mesh_lib.Rules:
    """A network's axis -> the mesh's."""
    return sharding.FULLY_SHARDED if self.shards_params else sharding.RULES

  def needed_bytes(
    self,
    config: config_lib.T5Config,
    shape: mesh_lib.Shape,
    *,
    dtype: str,
    num_tokens: int,
    row_tokens: int,
  ) -> int:
    """Bytes of a device that a microbatch needs, by `train_memory`.

    Args:
      config: sizes.
      shape: of the mesh, which need not be there.
      dtype: of activations.
      num_tokens: input tokens of a part of a microbatch.
      row_tokens: of a row of it.
    """
    return train_memory.needed_bytes(
      train_memory.Task(
        config,
        shape,
        dtype=dtype,
        num_tokens=num_tokens,
        row_tokens=row_tokens,
        shards_params=self.shards_params,
        scan_layers=self.scan_layers,
        remat=self.remat,
      )
    )

  def __str__(self) -> str:
    """'data=8,model=1, parameters fully sharded, layers scanned'."""
    words = [str(mesh_lib.shape_of(self.mesh))]
    words += ['parameters fully sharded'] * self.shards_params
    words += ['layers scanned'] * self.scan_layers
    words += ['layers computed again for the gradient'] * self.remat
    return ', '.join(words)

  def network(
    self, config: config_lib.T5Config, dtype: jnp.dtype
  ) -> network.Transformer:
    """The network in this layout."""
    return network.Transformer(config, dtype, self.scan_layers, self.remat)

  def of_params(self, config: config_lib.T5Config, params: Params) -> Params:
    """Where each parameter lies: of each leaf its sharding."""
    return traverse_util.path_aware_map(
      lambda path, _: self._of_param(config, path), params
    )

  def of_slots(
    self, config: config_lib.T5Config, params: Params, slots: Any
  ) -> Any:
    """Where the optimizer's state lies.

    A slot of the size of its parameter lies with it. Factored ones, 12 MB of
    T5-3B, are whole on every device.
    """
    flat = traverse_util.flatten_dict(params)

    def of_slot(keys, slot):
      path = tuple(key.key for key in keys if hasattr(key, 'key'))
      if path in flat and flat[path].shape == slot.shape:
        return self._of_param(config, path)
      return self.whole()

    return jax.tree_util.tree_map_with_path(of_slot, slots)

  def whole(self) -> jax.sharding.Sharding:
    """Where a number lies that every device has."""
    if self.mesh is None:
      return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return mesh_lib.sharding(self.mesh, (), self.rules)

  @property
  def is_on_cpu(self) -> bool:
    """Whether its devices are CPUs, which an abstract mesh's never are."""
    if isinstance(self.mesh, jax.sharding.AbstractMesh):
      return False
    return next(iter(self.whole().device_set)).platform == 'cpu'

  def of_rows(self, num_axes: int) -> jax.sharding.Sharding:
    """Where an array lies whose first axis are rows of a microbatch."""
    if self.mesh is None:
      return self.whole()
    axes = ('batch', *[None] * (num_axes - 1))
    return mesh_lib.sharding(self.mesh, axes, self.rules)

  def place_rows(self, array: np.ndarray) -> np.ndarray | jax.Array:
    """Gives each device its rows; every process has them all."""
    if self.mesh is None:
      return array
    return mesh_lib.place(
      array.__getitem__, array.shape, self.of_rows(array.ndim)
    )

  @contextlib.contextmanager
  def constrained(self):
    """Within it a traced network says where its activations lie."""
    if self.mesh is None:
      yield
      return
    # Kernels too are whole within a layer: rows have taken `data`.
    rules = [(axis, part) for axis, part in sharding.RULES.items()]
    # Of the two flax asks for the one or the other, by its version; where it
    # finds none it says nothing, and the compiler sums what all rows would
    # have over the devices in place of gathering kernels.
    mesh = jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)
    with self.mesh, mesh, partitioning.axis_rules(rules):
      yield

  def _of_param(self, config, path) -> jax.sharding.Sharding:
    if self.mesh is None:
      return self.whole()
    return sharding.of_param(config, path, self.mesh, self.rules)


def microbatch_tokens(backend: str | None = None) -> int:
  """Input tokens of one part of a microbatch that suit the device.

  Args:
    backend: of another device than this process's.
  """
  backend = backend or jax.default_backend()
  return MICROBATCH_TOKENS.get(backend, _MICROBATCH_TOKENS_ELSEWHERE)


def is_fine(backend: str | None = None) -> bool:
  """Whether programs of many shapes cost less than padding to few.

  A CPU's compiler takes seconds for what a TPU's takes minutes.

  Args:
    backend: of another device than this process's.
  """
  return (backend or jax.default_backend()) == 'cpu'


def choose(config: config_lib.T5Config, **options) -> Layout:
  """The layout on all devices that `choose_parts` chooses, with its options."""
  num_devices = jax.device_count()
  shape, chosen = choose_parts(config, num_devices, device.here(), **options)
  if num_devices == 1:
    return chosen
  made = mesh_lib.make(shape, jax.devices())
  return dataclasses.replace(chosen, mesh=made)


def choose_parts(
  config: config_lib.T5Config,
  num_devices: int,
  on: device.Device,
  *,
  dtype: str,
  max_tokens: int,
  batch_size: int,
  list_size: int = 1,
  mesh: str | None = None,
  shard_params: bool | None = None,
  scan_layers: bool | None = None,
  remat: bool | None = None,
) -> tuple[mesh_lib.Shape, Layout]:
  """The layout on so many devices of any kind; what is None is chosen.

  Layers are scanned by their number alone, so that a training can go on
  elsewhere. Of parting the parameters over `data`, which costs their
  transport, and computing layers twice, the least that fits the memory.

  Args:
    config: sizes.
    num_devices: how many there are.
    on: one of them.
    dtype: of activations.
    max_tokens: of a row.
    batch_size: examples of a step.
    list_size: of them lie together on a device.
    mesh: 'data=2,model=4'; None: all devices are `data`.
    shard_params: whether parameters are parted over `data` too.
    scan_layers: whether the layers are one loop over stacked parameters.
    remat: whether a gradient computes each layer again.

  Returns:
    The shape of the mesh, and the layout, still without one.

  Raises:
    InputError: a mesh that is not of these devices, or parts what it does not
      divide: heads, embedding dimensions, the batch.
  """
  text = mesh or f'data={num_devices}'
  sharding.check(config, text, num_devices)
  shape = mesh_lib.parse(text, num_devices)
  check_batch(shape, batch_size, list_size)
  is_divided = config.d_model % shape.data == 0
  if shard_params and not is_divided:
    raise errors.InputError(
      f'SHARD_PARAMS: the model has {config.d_model} embedding dimensions, '
      f'which is no multiple of the {shape.data} parts of --mesh={shape}'
    )
  if scan_layers is None:
    num_layers = config.num_layers + config.num_decoder_layers
    scan_layers = num_layers >= _MIN_SCANNED_LAYERS
  may_shard = is_divided and shape.data > 1
  options = [
    Layout(shards_params=is_sharded, scan_layers=scan_layers, remat=is_remat)
    for is_remat in ((False, True) if remat is None else (remat,))
    for is_sharded in (
      (False, may_shard) if shard_params is None else (shard_params,)
    )
  ]
  num_tokens = max(microbatch_tokens(on.backend), max_tokens)
  chosen = next(
    (
      option
      for option in options
      if option.needed_bytes(
        config,
        shape,
        dtype=dtype,
        num_tokens=num_tokens,
        row_tokens=max_tokens,
      )
      <= _SHARE * on.memory_bytes
    ),
    options[-1],
  )
  return shape, dataclasses.replace(
    chosen, shards_params=chosen.shards_params and shape.data > 1
  )


def check_batch(
  shape: mesh_lib.Shape, batch_size: int, list_size: int = 1
) -> None:
  """Checks that the rows, or lists, of a batch can be parted.

  Raises:
    InputError: with the nearest sizes that can.
  """
  if batch_size % (shape.data * list_size):
    step = math.lcm(2, shape.data * list_size)
    below = batch_size // step * step
    nearest = ' or '.join(str(n) for n in (below, below + step) if n)
    of_lists = f' for lists of {list_size}' if list_size > 1 else ''
    raise errors.InputError(
      f'TRAIN_BATCH_SIZE = {batch_size} is no multiple of the {shape.data} '
      f'parts of --mesh={shape}{of_lists}; nearest: {nearest}'
    )
