"""Processes that run one program: they stop together, and end together.

JAX's runtime ends a process soon after another is lost, by an abort in words
of its own, or leaves it waiting in a collective. Here each tells the others
that it is there, through that runtime's store of keys and values, and one that
misses another ends with one line.
"""

import logging
import os
import sys
import threading
import time

import jax
from jax._src import distributed  # The store has no public name.
from jax.experimental import multihost_utils

_log = logging.getLogger(__name__)

_BEAT_SECONDS = 2.0
# Without a beat: shorter than the runtime's patience, `processes` has that.
_LOST_SECONDS = 40.0
_LEFT = 'left'
_EXIT_CODE = 75  # Interrupted: start all again.


class Watch:
  """Ends this process where another is lost. Use it in a `with`."""

  def __init__(self):
    """Watches nothing yet."""
    self._is_done = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def __enter__(self) -> 'Watch':
    if jax.process_count() > 1:
      self._thread.start()
    return self

  def __exit__(self, *_) -> None:
    if self._thread.is_alive():
      self._is_done.set()
      self._thread.join()

  def _watch(self) -> None:
    own, count = jax.process_index(), jax.process_count()
    seen = {i: ('', time.monotonic()) for i in range(count) if i != own}
    number = 0
    try:
      while not self._is_done.wait(_BEAT_SECONDS):
        number += 1
        _tell(own, str(number))
        for i, (before, since) in seen.items():
          beat = _hear(i)
          if beat != before:
            seen[i] = beat, time.monotonic()
          elif beat != _LEFT and time.monotonic() - since > _LOST_SECONDS:
            _end(f'process {i} of {count} was lost')
      _tell(own, _LEFT)
    except jax.errors.JaxRuntimeError as error:  # Process 0 has the store.
      reason = ' '.join(str(error).split())[:80]
      _end(f'process 0 of {count}, or the way to it, was lost ({reason})')


class Agreed:
  """What `interrupts.Deferred` is for one process. Use it in a `with`.

  A SIGTERM of any of them is caught by JAX's runtime, which finds a step that
  none has passed, for all to save and to stop after.
  """

  def __init__(self):
    """Needs `processes.Processes.join`, which starts the runtime."""
    self._is_caught = False

  def is_caught(self, step: int) -> bool:
    """Whether `step` is that step; all processes ask after each step."""
    self._is_caught = multihost_utils.reached_preemption_sync_point(step)
    return self._is_caught

  def __enter__(self) -> 'Agreed':
    return self

  def __exit__(self, error_type, *_) -> None:
    if self._is_caught and error_type is None:
      raise KeyboardInterrupt


def _tell(index: int, beat: str) -> None:
  client = distributed.global_state.client
  client.key_value_set(_key(index), beat, allow_overwrite=True)


def _hear(index: int) -> str:
  """'' before the first beat."""
  try:
    return distributed.global_state.client.key_value_try_get(_key(index))
  except jax.errors.JaxRuntimeError as error:
    if 'NOT_FOUND' not in str(error):
      raise
    return ''


def _key(index: int) -> str:
  return f'inpars_tpu/beat/{index}'


def _end(reason: str) -> None:
  """At once: an orderly end would wait for the lost one too."""
  print(
    f'inpars-tpu: {reason}, and training stops: start all processes again to '
    'go on from the last checkpoint',
    file=sys.stderr,
    flush=True,
  )
  os._exit(_EXIT_CODE)
