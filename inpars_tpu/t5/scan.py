"""Layers one after the other, or in one loop over stacked parameters.

A loop is compiled once for all layers, and holds the gradients' temporaries of
one. Its parameters are stacked in memory alone, ('encoder', 'layers', ...)
[layers, ...] in place of ('encoder', 'layers_0', ...), ...: files have t5x's
names of a network that is not scanned.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

Params = Mapping[str, Any]

STACKED = 'layers'  # Of a stacked array's path.
_ONE = re.compile(r'layers_(\d+)')


def fold(
  layers: Sequence[nn.Module] | nn.Module,
  step: Callable[[nn.Module, jax.Array, Any], jax.Array],
  x: jax.Array,
  given: Any,
  *,
  num_layers: int,
  remat: bool = False,
) -> jax.Array:
  """Sends x through every layer.

  Args:
    layers: all of them, or the one whose parameters are stacked.
    step: what a layer does to x and to what it is given.
    x: of the same shape before and after a layer.
    given: arrays whose first axis are layers; None: nothing.
    num_layers: in all.
    remat: keep nothing but x of a layer for the gradient, and compute the
      layer again there.
  """
  is_scanned = isinstance(layers, nn.Module)
  if remat:
    # In a loop nothing can be merged with what was computed before.
    step = nn.remat(step, prevent_cse=not is_scanned)
  if not is_scanned:
    for number, layer in enumerate(layers):
      x = step(layer, x, jax.tree.map(operator.itemgetter(number), given))
    return x
  loop = nn.scan(
    lambda layer, x, given: (step(layer, x, given), None),
    variable_axes={'params': 0},
    variable_broadcast='params_axes',
    split_rngs={'params': True},
    length=num_layers,
  )
  return loop(layers, x, given)[0]


def stack(params: Params) -> dict[str, Any]:
  """Parameters of a network that is not scanned -> of one that is."""
  numbered: dict[tuple[str, ...], dict[int, Any]] = {}
  stacked = {}
  for path, array in traverse_util.flatten_dict(params).items():
    found = [_ONE.fullmatch(key) for key in path]
    numbers = [int(match[1]) for match in found if match]
    if numbers:
      key = tuple(
        STACKED if match else key
        for key, match in zip(path, found, strict=True)
      )
      numbered.setdefault(key, {})[numbers[0]] = array
    else:
      stacked[path] = array
  for path, arrays in numbered.items():
    stacked[path] = jnp.stack([arrays[i] for i in range(len(arrays))])
  return traverse_util.unflatten_dict(stacked)


def unstack(params: Params) -> dict[str, Any]:
  """Parameters of a scanned network -> of one that is not."""
  unstacked = {}
  for path, array in traverse_util.flatten_dict(params).items():
    if STACKED in path:
      at = path.index(STACKED)
      for i in range(array.shape[0]):
        layer = f'{STACKED}_{i}'
        unstacked[(*path[:at], layer, *path[at + 1 :])] = array[i]
    else:
      unstacked[path] = array
  return traverse_util.unflatten_dict(unstacked)
