"""Commands, and the time and memory of one."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence


def measure(
  command: Sequence[object],
  *,
  folder: pathlib.Path | None = None,
  environment: Mapping[str, str] | None = None,
) -> dict[str, float]:
  """Runs a command; ends this program with its last words if it fails.

  Args:
    command: and its arguments.
    folder: to run it in; None: this one.
    environment: in place of this process's.

  Returns:
    {'seconds': .., 'cpu_seconds': of it and of all that it started,
    'peak_rss_mb': of the largest of these processes}.
  """
  started = time.perf_counter()
  with tempfile.TemporaryFile() as messages:
    # A shell in between: a process begins with the peak of memory of the one
    # that it was forked from.
    process = subprocess.Popen(
      ['sh', '-c', '"$@"; exit $?', 'sh', *map(str, command)],
      stdout=messages, stderr=messages, cwd=folder, env=environment,
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
      messages.seek(0)
      words = messages.read().decode(errors='replace')[-3000:]
      sys.exit(f'{" ".join(map(str, command))}\n{words}')
  return {
    'seconds': time.perf_counter() - started,
    'cpu_seconds': used.ru_utime + used.ru_stime,
    'peak_rss_mb': used.ru_maxrss / 1024,  # Linux counts in KiB.
  }


def inpars_tpu(verb: str, **flags: object) -> list[str]:
  """The command line of a verb."""
  return [
    sys.executable, '-m', 'inpars_tpu', verb,
    *(f'--{name}={value}' for name, value in flags.items()),
  ]  # fmt: skip
