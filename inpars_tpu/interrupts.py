"""Signals to stop: held back while work can be saved, but not for long.

A machine that is taken away says so by a SIGTERM, and is gone 30 s later.
"""

import logging
import os
import signal
import sys
import threading
import time

_log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LIMIT_SECONDS = 20.0


def limit(code: int, message: str, seconds: float = _LIMIT_SECONDS) -> None:
  """Ends the process so long after a SIGTERM, whatever it is doing then.

  Python calls a handler between two of its own steps, and a compilation or a
  wait for the device is one step that may take minutes. To be called on the
  main thread, once.

  Args:
    code: to exit with.
    message: a line for stderr.
    seconds: in which the work may end by itself.
  """
  arrived, sent = os.pipe()
  os.set_blocking(sent, False)
  signal.set_wakeup_fd(sent, warn_on_full_buffer=False)

  def wait() -> None:
    while signal.SIGTERM not in os.read(arrived, 256):
      pass
    time.sleep(seconds)
    print(message, file=sys.stderr, flush=True)
    os._exit(code)

  threading.Thread(target=wait, daemon=True).start()


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
