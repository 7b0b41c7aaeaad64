import io
import logging
import sys

import pytest

from inpars_tpu import progress


class Clock:
  def __init__(self):
    self.now = 100.0

  def __call__(self) -> float:
    return self.now


@pytest.fixture
def clock():
  return Clock()


@pytest.fixture
def lines(monkeypatch):
  """Lines of the log."""
  kept = []

  class Handler(logging.Handler):
    def emit(self, record):
      kept.append(record.getMessage())

  logger = logging.getLogger('inpars_tpu.progress')
  handler = Handler()
  logger.addHandler(handler)
  monkeypatch.setattr(logger, 'level', logging.INFO)
  yield kept
  logger.removeHandler(handler)


def test_lines_of_a_log(clock, lines):
  with progress.Progress('generate', 400, clock=clock) as shown:
    clock.now += 9
    shown.add(10, num_tokens=150)
    assert lines == []
    clock.now += 1
    shown.add(10, num_tokens=150)
    clock.now += 9
    shown.add(180, num_tokens=2_700)
    clock.now += 1
    shown.add(0)
  assert lines == [
    'generate: 20 of 400 documents, 2.0 documents/s, 30 tokens/s, 3 min left',
    'generate: 200 of 400 documents, 10.0 documents/s, 150 tokens/s, 20 s left',
    'generate: 200 of 400 documents, 10.0 documents/s, 150 tokens/s, 20 s left',
  ]


def test_thirty_hours_are_few_lines(clock, lines):
  with progress.Progress('generate', 100_000, clock=clock) as shown:
    for _ in range(100_000):
      clock.now += 1.08
      shown.add(1, num_tokens=15)
  assert 200 < len(lines) < 300
  assert lines[-1] == (
    'generate: 100,000 of 100,000 documents, 0.9 documents/s, 14 tokens/s, '
    '0 s left'
  )


def test_nothing_done_has_no_speed(clock, lines):
  with progress.Progress('generate', 400, clock=clock) as shown:
    assert shown.describe() == 'generate: 0 of 400 documents'
  assert lines == []


def test_terminal_has_one_moving_line(clock, lines, monkeypatch):
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  monkeypatch.setattr(sys, 'stderr', terminal)
  with progress.Progress('generate', 400, clock=clock) as shown:
    clock.now += 10
    shown.add(300, num_tokens=1_200)
  written = terminal.getvalue()
  assert written.count('\n') == 1
  assert 'generate:  75%' in written
  assert '120 tokens/s' in written
  assert lines == []


@pytest.mark.parametrize('seconds,text', [
  (0.4, '0 s'), (99, '99 s'), (600, '10 min'), (9_000, '2.5 h'),
])  # fmt: skip
def test_durations(seconds, text):
  assert progress._duration(seconds) == text
