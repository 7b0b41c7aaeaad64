"""How far a long stage is, how fast, and when it will be done.

One moving line on a terminal; elsewhere, where each line stays, few of them.
Speed and time left are of what this call did, not of what it found done.
"""

import logging
import sys
import time
from collections.abc import Callable

import tqdm

_log = logging.getLogger(__name__)

# In a log: the first line after so many seconds, then each time a tenth more
# has passed, at least one in 10 minutes: some 250 lines in 30 hours.
_FIRST_SECONDS = 10
_GROWTH = 0.1
_MOST_SECONDS = 600


class Progress:
  """Counts documents done and tokens written; a context manager."""

  def __init__(
    self,
    name: str,
    total: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    is_terminal: bool | None = None,
  ):
    """Starts the clock.

    Args:
      name: of the stage.
      total: documents that this call has to do.
      clock: seconds.
      is_terminal: None: whether stderr is one.
    """
    self.name, self.total = name, total
    self.num_done = self.num_tokens = 0
    self._clock, self._started = clock, clock()
    self._next_line = self._started + _FIRST_SECONDS
    if is_terminal is None:
      is_terminal = sys.stderr.isatty()
    self._bar = None
    if is_terminal:
      # smoothing=0: the mean over this call, as in the log.
      self._bar = tqdm.tqdm(
        desc=name, total=total, unit='document', smoothing=0
      )

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *_) -> None:
    if self._bar is not None:
      self._bar.close()
    elif self.num_done:
      _log.info('%s', self.describe())

  def add(self, num_documents: int, num_tokens: int = 0) -> None:
    """Counts what was done since the last call."""
    self.num_done += num_documents
    self.num_tokens += num_tokens
    now = self._clock()
    if self._bar is not None:
      rate = self.num_tokens / max(now - self._started, 1e-9)
      self._bar.set_postfix_str(f'{rate:,.0f} tokens/s', refresh=False)
      self._bar.update(num_documents)
    elif now >= self._next_line:
      _log.info('%s', self.describe())
      wait = (now - self._started) * _GROWTH
      self._next_line = now + min(max(wait, _FIRST_SECONDS), _MOST_SECONDS)

  def describe(self) -> str:
    """'generate: 90 of 100 documents, 3.0 documents/s, 51 tokens/s, 3 s left'.

    The speed is left out before anything is done.
    """
    text = f'{self.name}: {self.num_done:,} of {self.total:,} documents'
    seconds = self._clock() - self._started
    if not self.num_done or seconds <= 0:
      return text
    speed = self.num_done / seconds
    return (
      f'{text}, {speed:,.{1 if speed < 100 else 0}f} documents/s, '
      f'{self.num_tokens / seconds:,.0f} tokens/s, '
      f'{_duration((self.total - self.num_done) / speed)} left'
    )


def _duration(seconds: float) -> str:
  """_duration(50) -> '50 s', (600) -> '10 min', (9_000) -> '2.5 h'."""
  if seconds < 100:
    return f'{seconds:.0f} s'
  if seconds < 6_000:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3_600:.1f} h'
