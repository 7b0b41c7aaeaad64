"""Processes that run one program: they wait for each other, and end together.

JAX's runtime ends a process soon after another is lost, by an abort in words
of its own, or leaves it waiting in a collective. Here each tells the others
that it is there, or how it ended, through that runtime's store of keys and
values, and one that misses another ends with one line.
"""

import atexit
import contextlib
import itertools
import logging
import os
import sys
import threading
import time

import jax

from inpars_tpu import errors, interrupts

_log = logging.getLogger(__name__)

_BEAT_SECONDS = 2.0
# Without a beat: shorter than the runtime's patience, `processes` has that.
_LOST_SECONDS = 40.0
_POLL_SECONDS = 0.1
_LEAVE_SECONDS = 10.0
_LEFT = 'left'
_ENDED = 'ended '  # Then the code it exits with.
_INTERRUPTED = 75  # Start all again.
_STOP = 'inpars_tpu/stop'
_GONE = 'inpars_tpu/gone/'

_meetings = itertools.count()


def meet() -> None:
  """Waits until every process is at the same call; at once for one alone.

  All make the same calls in the same order. No collective of the devices, which
  could not be interrupted, and which gives up after minutes. To be called
  within a `Watch`, or a lost process is waited for without end.
  """
  count = jax.process_count()
  if count == 1:
    return
  folder = f'inpars_tpu/meeting/{next(_meetings)}/'
  client = _client()
  client.key_value_set(f'{folder}{jax.process_index()}', '')
  while len(client.key_value_dir_get(folder)) < count:
    time.sleep(_POLL_SECONDS)


class Watch:
  """Ends this process where another is lost, or failed. Use it in a `with`.

  An error that leaves the `with` is told to the others, and this process then
  exits without waiting for them to be done.
  """

  def __init__(self):
    """Watches nothing yet."""
    self._is_done = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def __enter__(self) -> 'Watch':
    if jax.process_count() > 1:
      self._thread.start()
    return self

  def __exit__(self, error_type, *_) -> None:
    if not self._thread.is_alive():
      return
    self._is_done.set()
    self._thread.join()
    code = _exit_code(error_type)
    _tell(f'{_ENDED}{code}' if code else _LEFT)
    if code:
      # After the error's own line, and before the runtime waits for all.
      atexit.register(_leave, code)

  def _watch(self) -> None:
    own, count = jax.process_index(), jax.process_count()
    seen = {i: ('', time.monotonic()) for i in range(count) if i != own}
    number = 0
    try:
      while not self._is_done.wait(_BEAT_SECONDS):
        number += 1
        _tell(str(number))
        for i, (before, since) in seen.items():
          beat = _hear(i)
          if beat.startswith(_ENDED):
            code = int(beat.removeprefix(_ENDED))
            _end(
              f'process {i} of {count} has ended, its own line says why', code
            )
          if beat != before:
            seen[i] = beat, time.monotonic()
          elif beat != _LEFT and time.monotonic() - since > _LOST_SECONDS:
            _end(f'process {i} of {count} was lost', _INTERRUPTED)
    except jax.errors.JaxRuntimeError as error:  # Process 0 has the store.
      reason = ' '.join(str(error).split())[:80]
      _end(
        f'process 0 of {count}, or the way to it, was lost ({reason})',
        _INTERRUPTED,
      )


class Agreed(interrupts.Deferred):
  """`interrupts.Deferred`, of processes that must stop after the same step.

  A SIGTERM of any of them stops all. Whoever caught it after step n names n + 2
  as the last: none can be further than n + 1, whose gradients need everybody,
  and each has seen the name by the end of n + 2.
  """

  def __init__(self, what: str):
    """Needs `processes.Processes.join`, which starts the runtime."""
    super().__init__(what)
    self._is_last = False

  def is_caught(self, step: int) -> bool:
    """Whether `step` is the last one; all processes ask after each step."""
    if super().is_caught(step):
      try:
        _client().key_value_set(_STOP, str(step + 2))
      except jax.errors.JaxRuntimeError as error:
        if 'ALREADY_EXISTS' not in str(error):
          raise  # Or else another was first, and is right.
    self._is_last = step >= int(_get(_STOP) or sys.maxsize)
    return self._is_last

  def __exit__(self, error_type, *rest) -> None:
    super().__exit__(error_type, *rest)
    if self._is_last and error_type is None:
      raise KeyboardInterrupt  # To those who caught nothing themselves.


def _exit_code(error_type: type[BaseException] | None) -> int:
  """As `cli` has it."""
  if error_type is None:
    return 0
  if issubclass(
    error_type, errors.InputError | FileNotFoundError | PermissionError
  ):
    return 2
  return 1 if issubclass(error_type, Exception) else _INTERRUPTED


def _end(reason: str, code: int) -> None:
  """At once: an orderly end would wait for the lost one too."""
  again = (
    ': start all processes again to go on with what is saved'
    if code == _INTERRUPTED
    else ''
  )
  print(
    f'inpars-tpu: {reason}, and this one stops{again}',
    file=sys.stderr,
    flush=True,
  )
  with contextlib.suppress(jax.errors.JaxRuntimeError):  # Nobody is left.
    _tell(f'{_ENDED}{code}')
  _leave(code)


def _leave(code: int) -> None:
  """Ends this process; the first one, which has the store, after the others.

  Where the store goes first, the runtime aborts whoever is still there.
  """
  own, count = jax.process_index(), jax.process_count()
  until = time.monotonic() + _LEAVE_SECONDS
  with contextlib.suppress(jax.errors.JaxRuntimeError):
    if own:
      _client().key_value_set(f'{_GONE}{own}', '', allow_overwrite=True)
    while not own and time.monotonic() < until:
      if len(_client().key_value_dir_get(_GONE)) == count - 1:
        break
      time.sleep(_POLL_SECONDS)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _tell(beat: str) -> None:
  key = _key(jax.process_index())
  _client().key_value_set(key, beat, allow_overwrite=True)


def _hear(index: int) -> str:
  """'' before the first beat."""
  return _get(_key(index)) or ''


def _get(key: str) -> str | None:
  try:
    return _client().key_value_try_get(key)
  except jax.errors.JaxRuntimeError as error:
    if 'NOT_FOUND' not in str(error):
      raise
    return None


def _key(index: int) -> str:
  return f'inpars_tpu/beat/{index}'


def _client():
  """The runtime's store of keys and values, which has no public name.

  What is public (jax.experimental.multihost_utils) goes through collectives of
  the devices: they hang where a process is lost, which is what is asked here.
  """
  from jax._src import distributed

  return distributed.global_state.client
