"""The embedded trainer: the steps of one fine-tuning, on one device or many.

A batch is computed in microbatches of few static shapes whose gradients add up
to that of the whole batch. Reads no file and writes none.

Axes: B rows of a microbatch, S input tokens, T target tokens, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from inpars_tpu import batches, losses, optimizer
from inpars_tpu import layout as layout_lib
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import network, scan
from inpars_tpu.t5 import score as score_lib

Params = Mapping[str, Any]

# To update one parameter after the other. XLA begins them all on a CPU, so that
# many threads have work, and holds what each has come to: 462 MiB of a T5 of
# 60M parameters for 64, at less than half the speed.
_ONE_BY_ONE = {'xla_cpu_scheduler_type': 'CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED'}


@dataclasses.dataclass(frozen=True)
class Settings:
  """The numbers of one fine-tuning."""

  seed: int
  num_steps: int
  batch_size: int  # Examples; even.
  learning_rate: float
  dropout_rate: float
  z_loss: float
  dtype: str  # Of activations; parameters are float32.
  max_input_tokens: int
  has_length_buckets: bool = True  # False: pads to max_input_tokens.
  loss: str = losses.MONOT5  # Or losses.RANKT5.
  list_size: int = 1  # RankT5: rows of a list; batch_size is a multiple.
  # Of one part of a microbatch's rows; None: by the kind of device.
  microbatch_tokens: int | None = None
  schedule: str = 'constant'  # Or another of optimizer.SCHEDULES.
  warmup_steps: int = 0


class TrainState(NamedTuple):
  """What a checkpoint holds."""

  params: Params  # float32
  opt_state: optax.OptState


class Sums(NamedTuple):
  """Of the microbatches so far; beside the gradients as `losses.Sums`."""

  gradients: Params
  loss: jax.Array  # [] float32, z-loss in it.
  z_loss: jax.Array  # [] float32
  num_correct: jax.Array  # [] float32


class StepMetrics(NamedTuple):
  """Of one step, on the device: each [] float32."""

  loss: jax.Array  # Mean over target tokens, z-loss in it; or over lists.
  z_loss: jax.Array
  accuracy: jax.Array
  grad_norm: jax.Array
  update_norm: jax.Array
  learning_rate: jax.Array


class Trainer:
  """One model's compiled steps: a program for each shape, one to update."""

  def __init__(
    self,
    config: config_lib.T5Config,
    settings: Settings,
    token_ids: Sequence[int],
    layout: layout_lib.Layout = layout_lib.Layout(),
  ):
    """Compiles nothing yet.

    Args:
      config: of the model; its dropout rate is replaced.
      settings: of the fine-tuning.
      token_ids: as `losses.make` takes them.
      layout: on the devices.
    """
    config = dataclasses.replace(config, dropout_rate=settings.dropout_rate)
    self.settings, self.layout = settings, layout
    self._config = config
    self._network = layout.network(config, jnp.dtype(settings.dtype))
    self._schedule = optimizer.make_schedule(
      settings.schedule,
      settings.learning_rate,
      num_steps=settings.num_steps,
      warmup_steps=settings.warmup_steps,
    )
    is_constant = settings.schedule == 'constant' and not settings.warmup_steps
    self._optimizer = optimizer.make(
      settings.learning_rate if is_constant else self._schedule
    )
    self._token_ids = np.array(token_ids, np.int32)
    self._loss = losses.make(
      settings.loss,
      token_ids,
      z_loss=settings.z_loss,
      list_size=settings.list_size,
    )
    self._dropout_key = jax.random.key(settings.seed % 2**32)
    self._is_fine = settings.has_length_buckets and layout_lib.is_fine()
    self._lengths = batches.bucket_lengths(
      settings.max_input_tokens, settings.has_length_buckets, self._is_fine
    )
    self._microbatch_tokens = layout.num_parts * (
      settings.microbatch_tokens or layout_lib.microbatch_tokens()
    )
    # Outputs lie where the next call takes them.
    state = self.abstract_state()
    sums = _abstract_sums(state.params, layout.whole())
    self._zeros = jax.jit(_zero_sums, out_shardings=_places(sums))
    self._accumulate = jax.jit(
      self._add_microbatch,
      donate_argnames='sums',
      out_shardings=_places(sums),
    )
    self._update = jax.jit(
      self._apply_gradients,
      donate_argnames='state',
      out_shardings=(_places(state), layout.whole()),
      compiler_options=_ONE_BY_ONE if layout.is_on_cpu else None,
    )

  def init(self, params: Params) -> TrainState:
    """The state before the first step.

    Args:
      params: the 'params' of `network.Transformer`, float32, of layers that
        are not stacked; they are given away.
    """
    where = _places(self.abstract_state().opt_state)
    params = self.place(params)
    return TrainState(
      params, jax.jit(self._optimizer.init, out_shardings=where)(params)
    )

  def place(self, params: Params) -> Params:
    """Parameters of layers that are not stacked, as the steps take them."""
    where = _places(self.abstract_state().params)
    if self.layout.scan_layers:
      return jax.jit(scan.stack, out_shardings=where)(params)
    return jax.device_put(params, where)

  def export(self, state: TrainState) -> Params:
    """The parameters of layers that are not stacked, wherever they lie.

    To be called by every process, where there are several.
    """
    params = jax.tree.map(_fetch, state.params)
    return scan.unstack(params) if self.layout.scan_layers else params

  def step(
    self, state: TrainState, examples: batches.Examples, step: int
  ) -> tuple[TrainState, StepMetrics]:
    """Draws the batch of one step and applies its gradient.

    Args:
      state: is given away.
      examples: all examples of the training split.
      step: from 1.
    """
    chosen = batches.draw(
      examples,
      seed=self.settings.seed,
      step=step,
      batch_size=self.settings.batch_size,
      list_size=self.settings.list_size,
    )
    sums, num_terms = self.add_up(state.params, examples, chosen, step)
    num_chosen = np.float32(len(chosen))
    return self._update(state, sums, num_terms, num_chosen, np.int32(step))

  def add_up(
    self,
    params: Params,
    examples: batches.Examples,
    chosen: np.ndarray,
    step: int,
  ) -> tuple[Sums, np.float32]:
    """Sums over the rows or lists `chosen`, and what the loss is the mean of.

    That is how many target tokens the rows have, or how many lists there are.
    """
    sums = self._zeros(params)
    for number, microbatch in enumerate(
      batches.split(
        examples,
        chosen,
        lengths=self._lengths,
        microbatch_tokens=self._microbatch_tokens,
        num_parts=self.layout.num_parts,
        is_fine=self._is_fine,
      )
    ):
      place = np.array([step, number], np.uint32)
      microbatch = jax.tree.map(self.layout.place_rows, microbatch)
      sums = self._accumulate(sums, params, microbatch, place)
    if self.settings.loss == losses.RANKT5:
      return sums, np.float32(len(chosen))
    num_targets = np.count_nonzero(examples.targets[chosen] != network.PAD_ID)
    return sums, np.float32(num_targets)

  def score(self, params: Params, examples: batches.Examples) -> np.ndarray:
    """Scores every example as the reranker will, without dropout.

    Returns:
      [N] float32: log P(true), or the logit of a RankT5.
    """
    chosen = np.arange(len(examples))
    parts = [
      score_lib.score_batch(
        self._network,
        params,
        self.layout.place_rows(microbatch.inputs),
        self._token_ids,
      )
      for microbatch in batches.split(
        examples,
        chosen,
        lengths=self._lengths,
        microbatch_tokens=self._microbatch_tokens,
        num_parts=self.layout.num_parts,
      )
    ]
    scores = np.empty(len(examples), np.float32)
    found = np.concatenate([np.asarray(_fetch(part)) for part in parts])
    found = found[: len(examples)]
    scores[batches.by_length(examples, chosen)] = found
    return scores

  def programs(
    self, num_rows: int, num_tokens: int, num_targets: int
  ) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """What a step is made of, for whoever compiles and does not run it.

    Args:
      num_rows: of a microbatch.
      num_tokens: of an input.
      num_targets: tokens of a target.

    Returns:
      Name -> a jitted function, and the shapes that it is called with.
    """
    state, whole = self.abstract_state(), self.layout.whole()
    sums = _abstract_sums(state.params, whole)
    microbatch = batches.Microbatch(
      *(
        jax.ShapeDtypeStruct(
          shape, jnp.int32, sharding=self.layout.of_rows(len(shape))
        )
        for shape in (
          (num_rows, num_tokens),
          (num_rows, num_targets),
          (num_rows,),
        )
      )
    )
    place = jax.ShapeDtypeStruct((2,), jnp.uint32, sharding=whole)
    number = jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)
    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    return {
      'accumulate': (self._accumulate, (sums, state.params, microbatch, place)),
      'update': (self._update, (state, sums, number, number, step)),
    }

  def num_programs(self) -> int:
    """Shapes of microbatches compiled so far."""
    return self._accumulate._cache_size()

  def _add_microbatch(
    self,
    sums: Sums,
    params: Params,
    microbatch: batches.Microbatch,
    place: jax.Array,  # [2] uint32: step, and microbatch of it.
  ) -> Sums:
    key = jax.random.fold_in(self._dropout_key, place[0])
    key = jax.random.fold_in(key, place[1])
    compute = jax.value_and_grad(self._compute_loss, has_aux=True)
    with self.layout.constrained():
      (_, found), gradients = compute(params, microbatch, key)
    return Sums(
      gradients=jax.tree.map(jnp.add, sums.gradients, gradients),
      loss=sums.loss + found.loss,
      z_loss=sums.z_loss + found.z_loss,
      num_correct=sums.num_correct + found.num_correct,
    )

  def _compute_loss(self, params, microbatch, key):
    """The sum over a microbatch, and all its sums; not the mean."""
    targets = microbatch.targets  # [B, T]
    logits = self._network.apply(
      {'params': params},
      microbatch.inputs,
      jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1],  # Moved right by one.
      targets,
      enable_dropout=self.settings.dropout_rate > 0,
      rngs={'dropout': key},
    )  # [B, T, V] float32
    sums = self._loss(logits, targets, microbatch.labels)
    return sums.loss, sums

  def _apply_gradients(
    self,
    state: TrainState,
    sums: Sums,
    num_terms: jax.Array,  # [] float32, as `add_up` counts them.
    num_chosen: jax.Array,  # [] float32, rows or lists.
    step: jax.Array,  # [] int32
  ) -> tuple[TrainState, StepMetrics]:
    # A product, for XLA multiplies in each pass and would keep a quotient.
    gradients = jax.tree.map(lambda g: g * (1 / num_terms), sums.gradients)
    updates, opt_state = self._optimizer.update(
      gradients, state.opt_state, state.params
    )
    metrics = StepMetrics(
      loss=sums.loss / num_terms,
      z_loss=sums.z_loss / num_terms,
      accuracy=sums.num_correct / num_chosen,
      grad_norm=_norm(gradients),
      update_norm=_norm(updates),
      learning_rate=jnp.asarray(self._schedule(step - 1), jnp.float32),
    )
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state), metrics

  def abstract_state(self) -> TrainState:
    """Shapes, dtypes and places of a state, without any memory."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    params = jax.eval_shape(
      self._network.init, self._dropout_key, tokens, tokens, tokens
    )['params']
    slots = jax.eval_shape(self._optimizer.init, params)
    return jax.tree.map(
      _at,
      TrainState(params, slots),
      TrainState(
        self.layout.of_params(self._config, params),
        self.layout.of_slots(self._config, params, slots),
      ),
    )


def _fetch(array: jax.Array) -> jax.Array | np.ndarray:
  """All of it, also where other processes have parts."""
  if array.is_fully_addressable:
    return array
  return multihost_utils.process_allgather(array, tiled=True)


def _abstract_sums(params: Params, whole: jax.sharding.Sharding) -> Sums:
  number = jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)
  return Sums(params, number, number, number)


def _at(struct, sharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(struct.shape, struct.dtype, sharding=sharding)


def _places(structs: Any) -> Any:
  """Of each leaf its sharding."""
  return jax.tree.map(lambda struct: struct.sharding, structs)


def _zero_sums(params: Params) -> Sums:
  zero = jnp.zeros((), jnp.float32)
  return Sums(jax.tree.map(jnp.zeros_like, params), zero, zero, zero)


def _norm(tree: Params) -> jax.Array:
  """[] float32, of all numbers in the tree."""
  square = functools.partial(jnp.vdot, precision=jax.lax.Precision.HIGHEST)
  return jnp.sqrt(sum(square(x, x) for x in jax.tree.leaves(tree)))
