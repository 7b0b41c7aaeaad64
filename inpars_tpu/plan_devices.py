"""What the stages that devices run would cost: generate, scoring, training.

The same choices of mesh, rows and layout as the stages make, by the same
functions, for devices that need not be there; the shapes are those of the
programs that would be jitted. Starts no accelerator.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from inpars_tpu import (
  batches,
  device,
  flops,
  layout,
  machines,
  plan_memory,
  plan_models,
  plan_work,
  program_flops,
  prompt_tokens,
  row_decoder,
  score_parts,
  tpu_programs,
  train,
  train_recipe,
)
from inpars_tpu import generate as generate_lib
from inpars_tpu import mesh as mesh_lib
from inpars_tpu import recipe as recipe_lib
from inpars_tpu.gptj import convert as gptj_convert
from inpars_tpu.t5 import score, tensors

_SAMPLED_STEPS = 4  # Of training, whose microbatches are formed.

# Compiles programs for devices of a mesh's shape; gives each its bytes.
Compile = Callable[
  [Callable[[Any], tpu_programs.Programs], mesh_lib.Shape],
  Mapping[str, dict[str, Any]],
]


@dataclasses.dataclass(frozen=True)
class Stage:
  """Of one verb. On all devices together, but for the memory."""

  name: str  # As report_record calls it.
  what: str
  flops: int = 0
  bytes: int = 0  # Of weights, keys and values that programs read.
  seconds: float | None = 0.0  # None: nobody knows how fast the machine is.
  memory: plan_memory.Memory | None = None  # Of a device.
  mesh: str | None = None


@dataclasses.dataclass(frozen=True)
class Maker:
  """Makes the stages that devices run, each from what is to be done."""

  machine: machines.Machine
  recipe: recipe_lib.Recipe
  utilisation: float
  compile_programs: Compile | None
  known: dict[Any, plan_memory.Memory]

  @property
  def on(self) -> device.Device:
    return self.machine.device

  def generate(self, model: plan_models.Model, work: plan_work.Work) -> Stage:
    recipe, config = self.recipe, model.config
    weights, dtype = recipe.GENERATOR_WEIGHTS, recipe.GENERATOR_DTYPE
    kind = jnp.dtype(dtype)
    weight_bytes = gptj_convert.num_bytes(config, kind, weights)
    shape = row_decoder.choose_shape(
      None, config, kind, weight_bytes, self.machine.devices_per_host, self.on
    )
    buckets = prompt_tokens.choose_buckets(work.own_tokens)
    num_slots = buckets[-1] + recipe.MAX_NEW_TOKENS
    part_rows = row_decoder.fit_part(
      config, kind, weight_bytes, shape, num_slots, self.on
    )
    if recipe.GENERATOR_BATCH_SIZE:
      part_rows = -(-recipe.GENERATOR_BATCH_SIZE // shape.data)
    num_filled = shape.data * row_decoder.num_filled(part_rows, self.on.backend)
    rows = tpu_programs.Rows(
      shape.data * part_rows,
      num_filled,
      work.prefix_tokens,
      buckets[-1],
      recipe.MAX_NEW_TOKENS,
    )
    # One shard, of prompts that are long like those of the sample.
    own = np.resize(work.own_tokens, generate_lib.SHARD_DOCUMENTS)
    padded = [
      next(b for b in buckets if b >= own[group[0]])
      for group in prompt_tokens.group(
        range(len(own)), [range(n) for n in own], num_filled
      )
    ]
    num_shards = work.num_sampled / len(own)
    filled = sum(
      program_flops.fill(config, num_filled, tokens, rows.prefix_tokens)
      for tokens in padded
    )
    # Prefill gives the first token.
    num_steps = work.num_sampled * (work.new_tokens - 1) / rows.num_rows
    stepped = program_flops.step(
      config, rows.num_rows, num_slots, rows.prefix_tokens
    )
    cache = plan_memory.generator_bytes(config, rows, kind.itemsize)
    read = shape.data * weight_bytes
    parts = [
      (num_shards * filled, num_shards * len(padded) * read),
      (num_steps * stepped, num_steps * (read + cache)),
      (flops.read_prefix(config, rows.prefix_tokens), read),
    ]

    def programs(mesh):
      return tpu_programs.generate(
        config, rows, mesh, dtype=dtype, weights=weights
      )

    return self._finish(
      'generate',
      f'{work.num_sampled:,} queries: {rows.num_rows} rows of '
      f'{rows.prefix_tokens} + {work.own_tokens.mean():.0f} tokens',
      parts,
      self._measure(
        (config, rows, dtype, weights),
        programs,
        shape,
        plan_memory.generate_temporaries(config, rows, shape, kind.itemsize),
      ),
      shape,
    )

  def score(
    self,
    name: str,
    model: plan_models.Model,
    num_pairs: int,
    tokens: np.ndarray,
  ) -> Stage:
    recipe, config = self.recipe, model.config
    dtype = recipe.RERANKER_DTYPE
    weight_bytes = tensors.num_bytes(config, jnp.dtype(dtype))
    shape = score.choose_shape(
      config,
      None,
      self.machine.devices_per_host,
      self.on,
      weight_bytes=weight_bytes,
      dtype=dtype,
      batch_tokens=recipe.SCORE_BATCH_TOKENS,
    )
    # One part, of pairs that are long like those of the sample.
    lengths = np.resize(tokens, score_parts.PART_PAIRS).tolist()
    planned = score.plan_batches(
      lengths,
      max_tokens=recipe.MAX_INPUT_TOKENS,
      batch_tokens=recipe.SCORE_BATCH_TOKENS
      or score.default_batch_tokens(self.on.backend) * shape.data,
      bucket_tokens=score.default_bucket_tokens(self.on.backend),
      num_parts=shape.data,
    )
    num_parts = num_pairs / len(lengths)
    computed = sum(
      program_flops.score(config, batch.num_rows, batch.length)
      for batch in planned
    )
    read = shape.data * weight_bytes
    largest = max(planned, key=lambda batch: batch.num_rows * batch.length)

    def programs(mesh):
      return tpu_programs.score_batch(
        config, largest.num_rows, largest.length, mesh, dtype=dtype
      )

    return self._finish(
      name,
      f'{num_pairs:,} pairs of {tokens.mean():.0f} tokens',
      [(num_parts * computed, num_parts * len(planned) * read)],
      self._measure(
        (config, largest.num_rows, largest.length, dtype),
        programs,
        shape,
        plan_memory.score_temporaries(
          config,
          largest.num_rows // shape.data,
          largest.length,
          shape,
          jnp.dtype(dtype).itemsize,
        ),
        unread=plan_memory.score_unread,
      ),
      shape,
    )

  def train(
    self, model: plan_models.Model, work: plan_work.Work, engine: str
  ) -> Stage:
    recipe, config = self.recipe, model.config
    settings = train_recipe.make_settings(recipe)
    if engine == train.T5X:  # It pads all.
      settings = dataclasses.replace(settings, has_length_buckets=False)
    shape, chosen = layout.choose_parts(
      config,
      self.machine.num_devices,
      self.on,
      **train_recipe.layout_options(recipe),
    )
    part_tokens = layout.microbatch_tokens(self.on.backend)
    shapes = _microbatches(
      work.filter_tokens,
      settings,
      part_tokens * shape.data,
      shape.data,
      settings.has_length_buckets and layout.is_fine(self.on.backend),
    )
    num_parameters = sum(map(math.prod, tensors.shapes(config).values()))
    computed = sum(
      program_flops.accumulate(
        config,
        *rows_and_tokens,
        has_dropout=settings.dropout_rate > 0,
        num_parameters=num_parameters,
        remat=chosen.remat,
      )
      for rows_and_tokens in shapes
    )
    per_step = 1 / _SAMPLED_STEPS
    # Parameters are read, the sums too, and these are written.
    moved = shape.data * 3 * 4 * num_parameters
    parts = [
      (
        settings.num_steps * per_step * computed,
        settings.num_steps * per_step * len(shapes) * moved,
      ),
      (
        settings.num_steps * program_flops.update(num_parameters),
        settings.num_steps * moved,
      ),
      self._validation(config, work, moved),
    ]
    num_rows, num_tokens = max(shapes, key=math.prod)

    def programs(mesh):
      return tpu_programs.train(
        config,
        dataclasses.replace(settings, microbatch_tokens=part_tokens),
        num_rows,
        num_tokens,
        dataclasses.replace(chosen, mesh=mesh),
      )

    num_pairs = settings.num_steps * settings.batch_size
    needed = chosen.needed_bytes(
      config,
      shape,
      dtype=settings.dtype,
      num_tokens=num_rows * num_tokens // shape.data,
      row_tokens=num_tokens,
    )
    return self._finish(
      'train',
      f'{num_pairs:,} pairs in {settings.num_steps} steps',
      parts,
      self._measure(
        (config, settings, num_rows, num_tokens, chosen),
        programs,
        shape,
        {},
        total=needed,
      ),
      shape,
      str(chosen).partition(', ')[2],
    )

  def _validation(self, config, work, moved) -> tuple[float, float]:
    """Operations and bytes of scoring the validation pairs, every time."""
    recipe = self.recipe
    num_queries = min(
      recipe.NUM_PAIRS // 10, max(work.num_sampled - recipe.NUM_PAIRS, 0)
    )
    num_times = math.ceil(recipe.TRAIN_STEPS / recipe.CHECKPOINT_STEPS)
    num_pairs = num_times * num_queries * (1 + recipe.NUM_NEGATIVES)
    tokens = int(work.filter_tokens.mean())
    of_one = program_flops.score(config, 1, tokens)
    return num_pairs * of_one, num_times * moved if num_queries else 0

  def _measure(
    self, key, programs, shape, temporaries, **options: Any
  ) -> plan_memory.Memory:
    """Of programs(mesh); `key` is all that they depend on."""
    if (key, shape) in self.known:
      return self.known[key, shape]
    if self.compile_programs:
      found = plan_memory.of_compiled(self.compile_programs(programs, shape))
    else:
      mesh = mesh_lib.abstract(shape) if math.prod(shape) > 1 else None
      found = plan_memory.estimate(programs(mesh), temporaries, **options)
    self.known[key, shape] = found
    return found

  def _finish(self, name, what, parts, memory, shape, more='') -> Stage:
    """`parts` are (operations, bytes) of what is done one after the other."""
    seconds = None
    if self.machine.device_flops:
      reached = self.utilisation * self.machine.num_devices
      seconds = sum(
        max(
          operations / (self.machine.device_flops * reached),
          num_bytes / (self.machine.device_bandwidth * reached),
        )
        for operations, num_bytes in parts
      )
    return Stage(
      name,
      what,
      round(sum(operations for operations, _ in parts)),
      round(sum(num_bytes for _, num_bytes in parts)),
      seconds,
      memory,
      ', '.join(filter(None, (str(shape), more))),
    )


def _microbatches(
  tokens: np.ndarray,
  settings,
  microbatch_tokens: int,
  num_parts: int,
  is_fine: bool,
) -> list[tuple[int, int]]:
  """(rows, tokens) of the microbatches of some steps."""
  num = _SAMPLED_STEPS * settings.batch_size
  examples = batches.Examples.collect(
    batches.Example(np.zeros(length, np.int32), np.zeros(2, np.int32), 1, index)
    for index, length in enumerate(np.resize(tokens, num))
  )
  lengths = batches.bucket_lengths(
    settings.max_input_tokens, settings.has_length_buckets, is_fine
  )
  order = np.random.RandomState(settings.seed).permutation(num)
  return [
    microbatch.inputs.shape
    for step in order.reshape(
      _SAMPLED_STEPS, -1, *[settings.list_size] * (settings.list_size > 1)
    )
    for microbatch in batches.split(
      examples,
      step,
      lengths=lengths,
      microbatch_tokens=microbatch_tokens,
      num_parts=num_parts,
      is_fine=is_fine,
    )
  ]
