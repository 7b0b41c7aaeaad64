"""The mesh of devices: which of them part a batch's rows, which the weights.

Two axes: `data` parts the rows of a batch, `model` the weights. A network's
sharding.py has the table of its own axes; here is the arithmetic, which needs
no device, and the jax objects that are made of it.

A mesh is of one process's devices: processes share nothing but their output.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from inpars_tpu import errors

Index = tuple[slice, ...]  # A part of an array, a slice for each axis.
Rules = Mapping[str, str | None]  # A network's axis -> the mesh's; None: whole.


class Shape(NamedTuple):
  """How many parts each axis has."""

  data: int = 1
  model: int = 1

  def __str__(self) -> str:
    return f'data={self.data},model={self.model}'


def parse(text: str, num_devices: int) -> Shape:
  """Reads the value of --mesh; an axis that it leaves out has one part.

  parse('data=2,model=4', 8) -> Shape(data=2, model=4)

  Raises:
    InputError: an unknown axis, no positive number, or a number of devices in
      all that is not `num_devices`.
  """
  sizes: dict[str, int] = {}
  for part in text.split(','):
    axis, equals, size = part.strip().partition('=')
    if not equals:
      raise errors.InputError(
        f'--mesh={text}: write it as data=2,model=4, not {part!r}'
      )
    if axis not in Shape._fields:
      raise errors.unknown(f'axis in --mesh={text}:', axis, Shape._fields)
    if axis in sizes:
      raise errors.InputError(f'--mesh={text} has {axis} twice')
    if not size.isdecimal() or not int(size):
      raise errors.InputError(
        f'--mesh={text}: {axis} must be a number of 1 or more, not {size!r}'
      )
    sizes[axis] = int(size)
  shape = Shape(**sizes)
  if math.prod(shape) != num_devices:
    raise errors.InputError(
      f'--mesh={text} is of {math.prod(shape)} devices and there are '
      f'{num_devices}; nearest: {_nearest(shape, num_devices)}'
    )
  return shape


def model_sizes(num_devices: int, counts: Mapping[str, int]) -> list[int]:
  """Every size, ascending, that the `model` axis may have.

  Args:
    num_devices: of which it must be a divisor.
    counts: what it must divide too, by name: {'heads': 16}.
  """
  common = math.gcd(num_devices, *counts.values())
  return [size for size in range(1, common + 1) if not common % size]


def check(shape: Shape, counts: Mapping[str, int]) -> None:
  """Checks that the `model` axis divides what it parts.

  Raises:
    InputError: names what it does not divide, and the sizes that would do.
  """
  valid = model_sizes(math.prod(shape), counts)
  if shape.model not in valid:
    wrong = ', '.join(
      f'{count} {name}' for name, count in counts.items() if count % shape.model
    )
    raise errors.InputError(
      f'--mesh={shape}: the model has {wrong}, which is no multiple of '
      f'{shape.model}; with {math.prod(shape)} devices model may be '
      f'{" or ".join(map(str, valid))}'
    )


def choose(
  num_devices: int, sizes: Sequence[int], fits: Callable[[Shape], bool]
) -> Shape:
  """The shape that parts the weights least, of those that fit the memory.

  Where none fits it is the one that parts them most.

  Args:
    num_devices: all of them are used.
    sizes: of the `model` axis, ascending, from `model_sizes`.
    fits: whether weights and batch fit the devices.
  """
  shapes = [Shape(num_devices // size, size) for size in sizes]
  return next(filter(fits, shapes), shapes[-1])


def resolve(
  text: str | None,
  num_devices: int,
  counts: Mapping[str, int],
  fits: Callable[[Shape], bool],
) -> Shape:
  """The shape that --mesh asks for, or, where it is not given, `choose`'s.

  Raises:
    InputError: as `parse` and `check`.
  """
  if text is None:
    return choose(num_devices, model_sizes(num_devices, counts), fits)
  shape = parse(text, num_devices)
  check(shape, counts)
  return shape


def make(
  shape: Shape, devices: Sequence[Any] | None = None
) -> jax.sharding.Mesh:
  """The mesh itself, of this process's devices where none are given."""
  return jax.make_mesh(
    tuple(shape),
    Shape._fields,
    axis_types=(jax.sharding.AxisType.Auto,) * len(shape),
    devices=jax.local_devices() if devices is None else devices,
  )


def abstract(shape: Shape) -> jax.sharding.AbstractMesh:
  """A mesh of devices that are not there, to know what part each would have."""
  return jax.sharding.AbstractMesh(
    tuple(shape),
    Shape._fields,
    axis_types=(jax.sharding.AxisType.Auto,) * len(shape),
  )


def shape_of(mesh: jax.sharding.Mesh | None) -> Shape:
  """The shape of a mesh; no mesh is one device."""
  return Shape() if mesh is None else Shape(**mesh.shape)


def sharding(
  mesh: jax.sharding.Mesh, axes: Sequence[str | None], rules: Rules
) -> jax.sharding.NamedSharding:
  """Where an array lies whose axes are these.

  ('embed', 'mlp') with {'embed': None, 'mlp': 'model'} ->
  PartitionSpec(None, 'model')
  """
  spec = [None if axis is None else rules[axis] for axis in axes]
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))


def place(
  read: Callable[[Index], np.ndarray],
  shape: Sequence[int],
  sharding: jax.sharding.Sharding,
) -> jax.Array:
  """An array that is read part by part, each to the devices that hold it.

  Args:
    read: gives the part at an index; called once for each that differs.
    shape: of the whole.
    sharding: which part each device holds.
  """
  parts: dict[tuple, np.ndarray] = {}

  def read_once(index: Index) -> np.ndarray:
    key = tuple(part.indices(size)[:2] for part, size in zip(
      index, shape, strict=True))  # fmt: skip
    if key not in parts:
      parts[key] = read(index)
    return parts[key]

  return jax.make_array_from_callback(tuple(shape), sharding, read_once)


def _nearest(shape: Shape, num_devices: int) -> Shape:
  """The shape of so many devices whose axes are most like those of `shape`."""

  def distance(other: Shape) -> float:
    return sum(abs(math.log(a / b)) for a, b in zip(shape, other, strict=True))

  return min(
    (Shape(num_devices // size, size) for size in model_sizes(num_devices, {})),
    key=distance,
  )
