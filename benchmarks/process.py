"""Commands, and the time and memory of one."""

import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

# Another process in between: one begins with the peak of memory of the one that
# it was forked from, and this one is small.
_WATCH = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.call(sys.argv[2:])
seconds = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], 'w') as stream:
  json.dump({
    'seconds': seconds,
    'cpu_seconds': used.ru_utime + used.ru_stime,
    'peak_rss_mb': used.ru_maxrss / 1024,  # Linux counts in KiB.
  }, stream)
sys.exit(code)
"""


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
  with tempfile.TemporaryDirectory() as temporary:
    found, messages = pathlib.Path(temporary, 'f'), pathlib.Path(temporary, 'm')
    with messages.open('wb') as stream:
      code = subprocess.call(
        [sys.executable, '-S', '-c', _WATCH, found, *map(str, command)],
        stdout=stream, stderr=stream, cwd=folder, env=environment,
      )  # fmt: skip
    if code:
      words = messages.read_text(errors='replace')[-3000:]
      sys.exit(f'{" ".join(map(str, command))}\n{words}')
    return json.loads(found.read_text())


def inpars_tpu(verb: str, **flags: object) -> list[str]:
  """The command line of a verb."""
  return [
    sys.executable, '-m', 'inpars_tpu', verb,
    *(f'--{name}={value}' for name, value in flags.items()),
  ]  # fmt: skip
