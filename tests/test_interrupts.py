import signal
import subprocess
import sys
import threading

import pytest

from inpars_tpu import interrupts


class Stopped(Exception):
  pass


@pytest.fixture(autouse=True)
def handler():
  def stop(*_):
    raise Stopped

  before = signal.signal(signal.SIGTERM, stop)
  yield stop
  assert signal.signal(signal.SIGTERM, before) is stop


def test_the_first_waits_and_comes_at_the_end():
  done = []
  with pytest.raises(Stopped):
    with interrupts.Deferred('train') as interrupted:
      assert not interrupted.is_caught(1)
      signal.raise_signal(signal.SIGTERM)
      assert interrupted.is_caught(2)
      done.append('saved')
  assert done == ['saved']


def test_the_second_comes_at_once():
  with pytest.raises(Stopped):
    with interrupts.Deferred('train'):
      signal.raise_signal(signal.SIGTERM)
      signal.raise_signal(signal.SIGTERM)
      raise AssertionError('not here')


def test_an_error_of_the_work_goes_first():
  with pytest.raises(ZeroDivisionError):
    with interrupts.Deferred('train'):
      signal.raise_signal(signal.SIGTERM)
      raise ZeroDivisionError


def test_on_another_thread_nothing_is_held_back():
  found = []

  def work():
    with interrupts.Deferred('train') as interrupted:
      found.append(interrupted.is_caught(1))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert found == [False]


def test_a_long_step_of_c_is_not_waited_for():
  program = f"""
import hashlib, signal
from inpars_tpu import interrupts
signal.signal(signal.SIGTERM, lambda *_: None)
interrupts.limit(75, 'at last', seconds=0.2)
print('ready', flush=True)
hashlib.pbkdf2_hmac('sha256', b'', b'', {2**31 - 1})
"""
  process = subprocess.Popen(
    [sys.executable, '-c', program],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'ready\n'
  process.terminate()
  _, stderr = process.communicate(timeout=30)
  assert (process.returncode, stderr) == (75, 'at last\n')
