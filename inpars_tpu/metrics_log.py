"""What training says of each step: metrics.jsonl, and TensorBoard's events.

metrics.jsonl has one line for each step, in order, also after a kill: a run
that goes on from step k drops the lines after k and writes them again.
"""

import contextlib
import json
import math
import tempfile
from collections.abc import Mapping

from etils import epath

from inpars_tpu import errors, files, stores

VALIDATION = 'validation_'  # Begins the name of what is measured there.


def check_finite(step: int, values: Mapping[str, float]) -> None:
  """Checks the numbers of a step, before they are logged or its state saved.

  Raises:
    InputError: one that is not finite.
  """
  for name, value in values.items():
    if not math.isfinite(value):
      raise errors.InputError(
        f'{name} is {value} at step {step}, and training stops there; '
        'checkpoints of earlier steps are kept. A lower LEARNING_RATE, or '
        "TRAIN_DTYPE = 'float32', may help"
      )


class MetricsLog:
  """Appends steps to metrics.jsonl and to an event file. Use it in a `with`.

  `last` is the newest record, {} before the first.
  """

  def __init__(
    self,
    path: files.PathLike,
    events_dir: files.PathLike | None,
    last_step: int,
  ):
    """Opens the files after `last_step`.

    Args:
      path: metrics.jsonl; made where it is missing.
      events_dir: for TensorBoard; None: no events, and no TensorFlow.
      last_step: lines after it, and a half one, are cut off. 0: all lines.
    """
    path = epath.Path(path)
    self.last = _cut(path, last_step)
    self._stack = contextlib.ExitStack()
    self._copies: dict[epath.Path, epath.Path] = {}  # Local -> in a store.
    self._stream = self._local(path).open('ab')
    self._events = _Events(self._local(events_dir)) if events_dir else None

  def __enter__(self) -> 'MetricsLog':
    return self

  def __exit__(self, *_) -> None:
    self._stream.close()
    if self._events:
      self._events.close()
    self._upload()
    self._stack.close()

  def sync(self) -> None:
    """Brings all that was written where it is to be kept.

    To be called before a checkpoint is written, since a run that goes on from
    that one has to find its steps: nothing can be appended to in a store, so
    they are written there together.
    """
    self._stream.flush()
    if self._events:
      self._events.flush()
    self._upload()

  def write(self, record: Mapping[str, float]) -> None:
    """Appends one step: {'step': 1, 'loss': 0.25, ...}, in full precision."""
    self.last = dict(record)
    self._stream.write(files.to_json_line(record))
    self._stream.flush()  # One write: a kill leaves whole lines.
    if self._events:
      self._events.write(record)

  def _local(self, path: files.PathLike) -> epath.Path:
    """Where to write what shall be at `path`, after what is there."""
    path = epath.Path(path)
    if not stores.is_remote(path):
      return path
    folder = self._stack.enter_context(
      tempfile.TemporaryDirectory(prefix='inpars_tpu-')
    )
    local = epath.Path(folder) / path.name
    if path.exists() and not path.is_dir():
      files.copy(path, local)
    self._copies[local] = path
    return local

  def _upload(self) -> None:
    for local, path in self._copies.items():
      if local.is_dir():
        for file in files.list_files(local):
          files.copy(file, path / file.name)
      elif local.exists():
        files.copy(local, path)


class _Events:
  """Scalars as TensorBoard reads them, without needing TensorBoard."""

  def __init__(self, directory: files.PathLike):
    from inpars_tpu import host_tensorflow  # Training has it already.

    self._tf = tf = host_tensorflow.tf
    self._writer = tf.summary.create_file_writer(str(directory))
    # tf.summary.scalar is in the tensorboard package; it writes this too.
    self._metadata = tf.compat.v1.SummaryMetadata(
      plugin_data={'plugin_name': 'scalars'}
    )

  def write(self, record: Mapping[str, float]) -> None:
    tf = self._tf
    with self._writer.as_default():
      for name, value in record.items():
        if name != 'step':
          is_validation = name.startswith(VALIDATION)
          tf.summary.write(
            f'validation/{name.removeprefix(VALIDATION)}'
            if is_validation
            else f'train/{name}',
            tf.constant(value, tf.float32),
            step=record['step'],
            metadata=self._metadata,
          )

  def flush(self) -> None:
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()


def _cut(path: epath.Path, last_step: int) -> dict[str, float]:
  """Keeps the lines up to `last_step`; a line cut short ends them.

  Returns:
    The record of the last line kept; {} where there is none.
  """
  kept, last = [], {}
  if path.exists():
    for line in path.read_bytes().splitlines(keepends=True):
      if not line.endswith(b'\n'):
        break
      record = json.loads(line)
      if record['step'] > last_step:
        break
      kept.append(line)
      last = record
  with files.atomic_writer(path) as stream:
    stream.write(b''.join(kept))
  return last
