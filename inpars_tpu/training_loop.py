"""The steps of a fine-tuning, one after the other, to the last.

What to do with a step's numbers and with a state worth keeping is passed in:
knows no file.
"""

from collections.abc import Callable

import jax

from inpars_tpu import batches, metrics_log, trainer


def run(
  model_trainer: trainer.Trainer,
  state: trainer.TrainState,
  examples: batches.Examples,
  *,
  last_step: int,
  checkpoint_steps: int,
  evaluate: Callable[[trainer.Params], dict[str, float]] | None = None,
  log: Callable[[dict[str, float]], None],
  save: Callable[[int, trainer.TrainState], None],
  is_stopping: Callable[[int], bool] = lambda step: False,
) -> trainer.TrainState:
  """Runs the steps after `last_step`, to the last one.

  Args:
    model_trainer: of the model.
    state: after `last_step`; is given away.
    examples: the training split.
    last_step: the step that `state` comes from; 0 at the start.
    checkpoint_steps: how often `save` is called; it is at the end too.
    evaluate: takes the parameters whenever `save` is to be called; what it
      says is logged with that step.
    log: takes {'step': ., 'loss': ., ...} of every step, in order.
    save: takes a step and the state after it, of which every number is finite.
    is_stopping: asked after each step, which is the last where it is true.

  Returns:
    The state after the last step.

  Raises:
    InputError: a loss or a gradient that is not a finite number.
  """
  num_steps = model_trainer.settings.num_steps
  waiting: tuple[int, trainer.StepMetrics] | None = None
  for step in range(last_step + 1, num_steps + 1):
    state, metrics = model_trainer.step(state, examples, step)
    if waiting:  # One step late, so that the device always has work.
      log(_to_record(*waiting))
    waiting = (step, metrics)
    is_last = is_stopping(step) or step == num_steps
    if step % checkpoint_steps == 0 or is_last:
      record = _to_record(*waiting)
      # Not where it was interrupted, or its log would differ for ever.
      is_due = step % checkpoint_steps == 0 or step == num_steps
      log(record | (evaluate(state.params) if evaluate and is_due else {}))
      waiting = None
      save(step, state)
    if is_last:
      break
  return state


def _to_record(step: int, metrics: trainer.StepMetrics) -> dict[str, float]:
  values = {
    name: float(value)
    for name, value in jax.device_get(metrics)._asdict().items()
  }
  metrics_log.check_finite(step, values)
  return {'step': step, **values}
