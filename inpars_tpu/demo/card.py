"""The model cards of the demo's checkpoints."""

import os
import platform
import time
from collections.abc import Sequence

import jax


class Clock:
  """Minutes since it was made."""

  def __init__(self):
    self._wall, self._cpu = time.monotonic(), time.process_time()

  def __str__(self) -> str:
    wall = (time.monotonic() - self._wall) / 60
    cpu = (time.process_time() - self._cpu) / 60
    return f'{wall:.0f} minutes ({cpu:.0f} of CPU time)'


def write(
  *,
  title: str,
  task: str,
  name: str,
  num_params: int,
  clock: Clock,
  stages: Sequence[str],
) -> str:
  """Says what a model is, on what, how long and where it was trained.

  Args:
    title: 'GPT-J that writes questions'.
    task: the hub's pipeline tag.
    name: that `pretrain --only` takes.
    num_params: of the model.
    clock: was made when the training began.
    stages: of the training, in order; neither capitals nor full stops.
  """
  device = jax.devices()[0]
  machine = (
    f'{os.cpu_count()} CPU cores ({platform.machine()})'
    if device.platform == 'cpu'
    else device.device_kind
  )
  listed = '\n'.join(f'{i}. {stage}.' for i, stage in enumerate(stages, 1))
  return f"""---
library_name: transformers
pipeline_tag: {task}
tags: [inpars, demo]
---
# A small {title}

For `inpars-tpu demo`, and for nothing else: {num_params:,} parameters that
know an invented world and no English beyond it. Trained from nothing by

    python -m inpars_tpu.demo.pretrain --only={name} --output=DIR

on text that `inpars_tpu.demo` writes from a seed:

{listed}

It took {clock} on {machine}. No question of the target domain was read.
"""
