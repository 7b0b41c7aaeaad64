"""What t5x says of each step, as the embedded trainer does: metrics.jsonl.

An action of t5x's, called after each step by gin/t5x/engine.gin.
"""

import sys

from t5x import trainer as trainer_lib

from inpars_tpu import files, metrics_log, t5x_model

_TRAIN = 'train'  # t5x's key of the metrics of training.


class MetricsLog(trainer_lib.BaseAction):
  """Appends a line for each step, and says it on stdout.

  The line is there before a checkpoint of its step is.
  """

  def __init__(
    self,
    path: files.PathLike,
    events_dir: files.PathLike | None = None,
    first_step: int = 0,
    loss_normalizing_factor: float | None = None,
    num_targets: int = 1,
  ):
    """Opens nothing yet.

    Args:
      path: metrics.jsonl.
      events_dir: for TensorBoard, as metrics_log.MetricsLog takes it.
      first_step: t5x's number of the step before step 1.
      loss_normalizing_factor: what the model divides its loss by.
      num_targets: target tokens of a batch: the gradient that is told of is
        that of the mean over them.
    """
    self._path, self._events_dir = path, events_dir
    self._first_step = first_step
    self._scale = (loss_normalizing_factor or 1.0) / num_targets
    self._log: metrics_log.MetricsLog | None = None

  def run(self, train_state, metrics_by_task) -> bool:
    """Writes the step; never stops t5x by its return.

    Raises:
      InputError: a number that is not finite.
    """
    step = int(train_state.step) - self._first_step
    values = metrics_by_task[_TRAIN]
    record = {
      name.removeprefix(t5x_model.PREFIX): float(values[name].value)
      for name in (
        t5x_model.LOSS,
        t5x_model.Z_LOSS,
        t5x_model.ACCURACY,
        t5x_model.GRAD_NORM,
        t5x_model.UPDATE_NORM,
      )
    }
    record['grad_norm'] *= self._scale
    metrics_log.check_finite(step, record)
    if self._log is None:
      self._log = metrics_log.MetricsLog(
        self._path, self._events_dir, last_step=step - 1
      )
    self._log.write({'step': step, **record})
    self._log.sync()  # t5x does not say when it writes a checkpoint.
    sys.stdout.buffer.write(files.to_json_line({'step': step, **record}))
    sys.stdout.buffer.flush()
    return False
