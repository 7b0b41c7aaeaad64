"""`--engine=embedded`: the fine-tuning of `train`, by our own trainer.

The files around `trainer`: goes on from the newest checkpoint, writes
checkpoints and the log of the steps, and ends early where it is interrupted.
"""

import contextlib
import logging

import jax
import tqdm
from etils import epath

from inpars_tpu import (
  batches,
  checkpoints,
  files,
  interrupts,
  losses,
  metrics_log,
  together,
  trainer,
  training_loop,
  validation,
)
from inpars_tpu.t5 import convert

_log = logging.getLogger(__name__)


def run(
  model_trainer: trainer.Trainer,
  examples: batches.Examples,
  held_out: batches.Examples | None,
  model_path: files.PathLike,
  *,
  checkpoint_steps: int,
  checkpoint_dir: epath.Path,
  metrics: epath.Path,
  events: epath.Path,
) -> tuple[trainer.Params, dict[str, float]]:
  """Trains to the end, from the newest checkpoint where there is one.

  Args:
    model_trainer: of the model.
    examples: the training split.
    held_out: the validation split, measured with every checkpoint.
    model_path: a model directory, read where there is no checkpoint.
    checkpoint_steps: how often one is written.
    checkpoint_dir: folder of the checkpoints.
    metrics: metrics.jsonl.
    events: folder of TensorBoard's events.

  Returns:
    The 'params' of `network.Transformer` after the last step, and what
    `measure` found at it, {} where nothing is held out.

  Raises:
    InputError: a loss or a gradient that is no finite number, a checkpoint of
      another model.
  """
  _log.info('train: %s', model_trainer.layout)

  def evaluate(params: trainer.Params) -> dict[str, float]:
    found = measure(model_trainer, params, held_out)
    return {metrics_log.VALIDATION + k: v for k, v in found.items()}

  num_steps = model_trainer.settings.num_steps
  is_first = jax.process_index() == 0
  with (
    together.Agreed('train')
    if jax.process_count() > 1
    else interrupts.Deferred('train') as interrupted,
    checkpoints.Checkpoints(checkpoint_dir) as kept,
  ):
    last_step, state = _begin(model_trainer, kept, model_path)
    with (
      metrics_log.MetricsLog(metrics, events, last_step)
      if is_first
      else contextlib.nullcontext() as log,
      tqdm.tqdm(
        desc='train',
        initial=last_step,
        total=num_steps,
        unit='step',
        disable=not is_first,
      ) as progress,
    ):

      def log_step(record: dict[str, float]) -> None:
        if log:
          log.write(record)
        progress.set_postfix(loss=f'{record["loss"]:.4f}', refresh=False)
        progress.update()

      def save(step: int, state: trainer.TrainState) -> None:
        if log:
          log.sync()
        kept.save(step, state)

      state = training_loop.run(
        model_trainer,
        state,
        examples,
        last_step=last_step,
        checkpoint_steps=checkpoint_steps,
        evaluate=evaluate if held_out else None,
        log=log_step,
        save=save,
        is_stopping=interrupted.is_caught,
      )
  return model_trainer.export(state), _scores(log.last) if log else {}


def measure(
  model_trainer: trainer.Trainer,
  params: trainer.Params,
  held_out: batches.Examples,
) -> dict[str, float]:
  """`validation.measure` of parameters that lie as the steps take them."""
  return validation.measure(
    model_trainer.score(params, held_out),
    held_out.labels,
    held_out.groups,
    is_listwise=model_trainer.settings.loss == losses.RANKT5,
  )


def _begin(
  model_trainer: trainer.Trainer,
  kept: checkpoints.Checkpoints,
  model_path: files.PathLike,
) -> tuple[int, trainer.TrainState]:
  """The newest checkpoint, or the model: a step, and the state after it."""
  restored = kept.restore(model_trainer.abstract_state())
  if restored:
    _log.info('train: goes on after step %d', restored[0])
    return restored
  where = model_trainer.layout
  _, params = convert.load(model_path, mesh=where.mesh, rules=where.rules)
  return 0, model_trainer.init(params)


def _scores(record: dict[str, float]) -> dict[str, float]:
  """What was measured on the held-out pairs, of a step's line."""
  return {
    name.removeprefix(metrics_log.VALIDATION): value
    for name, value in record.items()
    if name.startswith(metrics_log.VALIDATION)
  }
