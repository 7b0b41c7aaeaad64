"""A signal to stop that waits until the work at hand can be saved."""

import logging
import signal
import threading

_log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Deferred:
  """Holds back SIGTERM and SIGINT. Use it in a `with`.

  The first one is noted, and comes at the end of the `with`, to whoever had it
  before; the second one comes at once. On another thread than the main one,
  which Python gives no signals, nothing is held back.
  """

  def __init__(self, what: str):
    """Holds nothing back yet.

    Args:
      what: names the work, for the log.
    """
    self._what = what
    self._caught: int | None = None
    self._before: dict[int, object] = {}

  def is_caught(self, step: int) -> bool:
    """Whether one has come; `step` is for those who must agree on it."""
    del step
    return self._caught is not None

  def __enter__(self) -> 'Deferred':
    if threading.current_thread() is threading.main_thread():
      self._before = {n: signal.signal(n, self._note) for n in _SIGNALS}
    return self

  def __exit__(self, error_type, *_) -> None:
    self._restore()
    if self._caught is not None and error_type is None:
      signal.raise_signal(self._caught)

  def _note(self, number: int, _) -> None:
    if self._caught is not None:
      self._restore()
      signal.raise_signal(number)
      return
    self._caught = number
    name = signal.Signals(number).name
    _log.info(
      '%s: %s: saves after this step; a second one stops at once',
      self._what,
      name,
    )

  def _restore(self) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
