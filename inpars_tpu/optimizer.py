"""Adafactor as t5x fine-tunes T5 with it, and the learning rate of each step.

What Adafactor does to a parameter depends on the whole of its tensor: the
clipping of the update, the scale of the parameter, the factors. Of stacked
layers it must therefore see one at a time.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from inpars_tpu.t5 import scan

Params = Mapping[str, Any]

SCHEDULES = ('constant', 'linear', 'cosine', 'inverse_sqrt')


def make_schedule(
  name: str, peak: float, *, num_steps: int, warmup_steps: int = 0
) -> optax.Schedule:
  """The learning rate by the number of steps already done.

  It grows evenly over `warmup_steps` to the peak, then stays there, or falls:
  to 0 after the last step in a line or half a cosine, or as 1 / sqrt(step)
  from the end of the warm-up, without an end.

  Args:
    name: one of SCHEDULES.
    peak: the highest rate.
    num_steps: of the training.
    warmup_steps: 0: none.
  """
  num_left = max(num_steps - warmup_steps, 1)
  shift = max(warmup_steps, 1)
  after = {
    'constant': optax.constant_schedule(peak),
    'linear': optax.linear_schedule(peak, 0.0, num_left),
    'cosine': optax.cosine_decay_schedule(peak, num_left),
    'inverse_sqrt': lambda count: (
      peak * jnp.sqrt(shift / (shift + jnp.maximum(count, 0)))
    ),
  }[name]
  if not warmup_steps:
    return after
  warmup = optax.linear_schedule(peak / warmup_steps, peak, warmup_steps - 1)
  return optax.join_schedules([warmup, after], [warmup_steps])


def make(
  learning_rate: float | optax.Schedule,
) -> optax.GradientTransformation:
  """Adafactor with the settings that t5x fine-tunes T5 with.

  optax's equals t5x's to 6e-8 after 20 steps; t5x factors a matrix that has a
  side below 128 too, which no T5 but those of tests has.

  Args:
    learning_rate: or its schedule, by the number of steps already done.
  """
  # The chain of optax.adafactor, whose states checkpoints hold.
  return _per_layer(
    optax.chain(
      optax.scale_by_factored_rms(
        factored=True,
        decay_rate=0.8,
        step_offset=0,
        min_dim_size_to_factor=128,
        epsilon=1e-30,
      ),
      optax.clip_by_block_rms(1.0),
      optax.scale_by_learning_rate(learning_rate, flip_sign=False),
      _scale_by_parameters(),
      optax.scale(-1),
    )
  )


def _scale_by_parameters(
  min_scale: float = 1e-3,
) -> optax.GradientTransformation:
  """Multiplies by the root mean square of each parameter.

  As optax.scale_by_param_block_rms, which selects inside the sum, where
  nothing takes a gradient: ten times as slow on a CPU.
  """

  def scaled(update, parameter):
    scale = jnp.sqrt(jnp.mean(jnp.square(parameter)))
    return update * jnp.maximum(scale, min_scale)

  return optax.stateless(
    lambda updates, params: jax.tree.map(scaled, updates, params)
  )


def _per_layer(
  optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """Acts on each of stacked layers as if its arrays were not stacked.

  The state of parameters that are not stacked is the optimizer's own; else
  there is one more for each stack, with a leading axis of layers.
  """

  def init(params):
    rest, stacks = _split(params)
    state = optimizer.init(rest)
    if not stacks:
      return state
    return state, {
      name: jax.vmap(optimizer.init)(stack) for name, stack in stacks.items()
    }

  def update(gradients, state, params):
    rest, stacks = _split(params)
    slopes, stacked_slopes = _split(gradients)
    if not stacks:
      return optimizer.update(slopes, state, rest)
    updates, rest_state = optimizer.update(slopes, state[0], rest)
    stacked_updates, states = {}, {}
    for name, stack in stacks.items():
      stacked_updates[name], states[name] = jax.vmap(optimizer.update)(
        stacked_slopes[name], state[1][name], stack
      )
    return _join(updates, stacked_updates), (rest_state, states)

  return optax.GradientTransformation(init, update)


def _split(params: Params) -> tuple[Params, dict[str, Params]]:
  """What is not stacked, and each stack: 'encoder' -> its layers."""
  rest, stacks = {}, {}
  for path, array in traverse_util.flatten_dict(params).items():
    if scan.STACKED in path:
      at = path.index(scan.STACKED)
      stacks.setdefault('/'.join(path[:at]), {})[path[at:]] = array
    else:
      rest[path] = array
  return traverse_util.unflatten_dict(rest), {
    name: traverse_util.unflatten_dict(stack) for name, stack in stacks.items()
  }


def _join(rest: Params, stacks: Mapping[str, Params]) -> dict[str, Any]:
  """The inverse of `_split`."""
  flat = traverse_util.flatten_dict(rest)
  for name, stack in stacks.items():
    for path, array in traverse_util.flatten_dict(stack).items():
      flat[(*name.split('/'), *path)] = array
  return traverse_util.unflatten_dict(flat)
