"""Command lines of inpars-tpu on all workers of a TPU VM, to their end.

Exit code 75, and a VM that was taken away, mean "again": the same commands go
on with what is in the bucket.
"""

import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from inpars_tpu import cli, processes, verbs
from launch import gcloud as gcloud_lib
from launch import machine as machine_lib

_WORKER = f'python3 {machine_lib.CLONE}/launch/worker.py'
# `worker` writes them: '[w3] text' and '[w3 ended 75]'; gcloud's own words may
# stand before, since all write to one pipe. What that garbles is asked for
# again when the connection ends.
_LINE = re.compile(r'\[(w\d+)(?: ended (\d+))?\] ?(.*)')
_SIGNALS = (130, 137, 143)  # 128 + SIGINT, SIGKILL, SIGTERM.
# So that a VM that vanishes ends the ssh: three are missed, 90 s.
_KEEP_ALIVE = '--ssh-flag=-oServerAliveInterval=30'
RECONNECT_SECONDS = 10.0
RETRY_SECONDS = 60.0
CAPACITY_SECONDS = 900.0  # What is all taken stays so for a while.
MAX_RECONNECTS = 6
# What may befall a VM that has worked before, and that nobody has deleted.
_AGAIN = (gcloud_lib.GONE, gcloud_lib.UNREACHABLE, gcloud_lib.CAPACITY)

Show = Callable[[str, str], None]  # Worker, line.


class Job:
  """Command lines of inpars-tpu, one after another, on one VM."""

  def __init__(
    self,
    machine: machine_lib.Machine,
    commands: Sequence[Sequence[str]] = (),
    show: Show | None = None,
  ):
    """Does nothing yet.

    Args:
      machine: the VM.
      commands: of each what follows `inpars-tpu`. The last one is the work; the
        others bring what it needs, and are repeated with it.
      show: is given each line of each worker's log; None prints them.
    """
    self.machine = machine
    self.commands = [list(words) for words in commands]
    self.show = show or _print
    self.is_ours = False  # Whether the VM may be deleted for it.
    self.has_started = False

  def run(self) -> int:
    """Runs them on all workers, up to the first that fails.

    Returns:
      One exit code.

    Raises:
      gcloud.Failed: the VM is busy with another command, or gone.
    """
    code = cli.DONE
    for words in self.commands:
      self.start(words)
      code = self.follow()
      if code != cli.DONE:
        break
    return code

  def start(self, words: Sequence[str]) -> None:
    """Starts one of them, where it is not running already."""
    if self.machine.settings.is_pod:
      words = meeting(words)
    self.machine.ssh(f'{_WORKER} start -- {shlex.join(words)}')
    self.is_ours = self.has_started = True

  def stop(self) -> None:
    """Lets whatever runs save its work and end."""
    self.machine.ssh(f'{_WORKER} stop')

  def follow(self) -> int:
    """Shows all workers' logs to their end; returns one exit code.

    Raises:
      gcloud.Failed: the VM is gone, or a worker not to be reached.
    """
    seen: dict[str, int] = {}
    ended: dict[str, int] = {}

    def take(line: str) -> bool:
      found = _LINE.search(line)
      if not found:
        return False
      worker, code, text = found.groups()
      if code is not None:
        ended[worker] = int(code)
      else:
        seen[worker] = seen.get(worker, 0) + 1
        self.show(worker, text)
      return True

    num_workers = max(1, self.machine.status().num_workers)
    num_failures = 0
    while True:
      before = dict(seen)
      self._follow_once(seen, take)
      if self.machine.gcloud.dry_run:
        return cli.DONE
      if len(ended) >= num_workers:
        return verdict(ended)
      status = self.machine.status()
      if status.is_gone:
        raise gcloud_lib.Failed(
          f'{self.machine.settings.name} was taken away '
          f'({status.state or "not found"})',
          gcloud_lib.GONE if status.state else gcloud_lib.NOT_FOUND,
        )
      num_failures = 0 if seen != before else num_failures + 1
      if num_failures >= MAX_RECONNECTS:
        missing = num_workers - len(ended)
        raise gcloud_lib.Failed(
          f'{missing} of {num_workers} workers of '
          f'{self.machine.settings.name} are not to be reached by ssh; '
          '`logs` tries again, `delete` ends it',
          gcloud_lib.UNREACHABLE,
        )
      time.sleep(RECONNECT_SECONDS)

  def run_to_the_end(self, *, max_retries: int) -> int:
    """Creates the VM, installs, runs; again where that is what it takes.

    Args:
      max_retries: how often in a row without progress; what is written below
        the bucket, or below the last command's gs:// folder, is progress.

    Returns:
      The command's exit code, never 75.

    Raises:
      InputError, gcloud.Unknown: no VM, or too many retries.
    """
    progress, num_tries, has_run = self._progress(), 0, False
    while True:
      try:
        code = self._run_once(is_first=not has_run)
        reason = 'the command was interrupted'
        has_run = True
      except gcloud_lib.Failed as error:
        if not (self.has_started and self._may_come_back(error.kind)):
          raise
        if error.kind == gcloud_lib.UNREACHABLE:
          self.machine.delete()
        has_run, code, reason = False, cli.INTERRUPTED, str(error)
        if error.kind == gcloud_lib.CAPACITY:
          time.sleep(CAPACITY_SECONDS)
      if code != cli.INTERRUPTED:
        return code
      before, progress = progress, self._progress()
      num_tries = 1 if progress != before else num_tries + 1
      if num_tries > max_retries:
        raise gcloud_lib.Failed(
          f'{reason}; {max_retries} retries brought nothing new, so this is '
          'the end; the same command goes on from what is in the bucket',
          gcloud_lib.OTHER,
        )
      print(f'{reason}: again ({num_tries} of {max_retries})', file=sys.stderr)
      time.sleep(RETRY_SECONDS)

  def _may_come_back(self, kind: str) -> bool:
    """A spot VM may vanish without a trace; another one was deleted."""
    is_spot = self.machine.settings.spot
    return kind in _AGAIN or (is_spot and kind == gcloud_lib.NOT_FOUND)

  def _run_once(self, *, is_first: bool) -> int:
    is_new = self.machine.ensure()
    self.is_ours = self.is_ours or is_new
    if is_new or is_first:
      self.machine.install()
    return self.run()

  def _follow_once(self, seen: Mapping[str, int], take) -> None:
    after = ','.join(f'{worker}:{count}' for worker, count in seen.items())
    try:
      self.machine.ssh(
        f'{_WORKER} follow --after={after}', flags=[_KEEP_ALIVE], on_line=take
      )
    except gcloud_lib.Failed as error:
      if error.kind != gcloud_lib.UNREACHABLE:
        raise
    except gcloud_lib.Unknown as error:  # Whatever broke the connection.
      print(error, file=sys.stderr)

  def _progress(self) -> str:
    folder = remote_folder(self.commands[-1]) or self.machine.settings.bucket
    return self.machine.list_files(folder) if folder else ''


def verdict(codes: Mapping[str, int]) -> int:
  """One exit code of all workers': wrong input, failed, again, done.

  Those that end because another was lost say 75, so a failure counts more.
  """
  found = set(codes.values())
  if cli.WRONG_INPUT in found:
    return cli.WRONG_INPUT
  if found - {cli.DONE, cli.INTERRUPTED, *_SIGNALS}:
    return cli.FAILED
  return cli.INTERRUPTED if found - {cli.DONE} else cli.DONE


def meeting(words: Sequence[str]) -> list[str]:
  """A command whose processes find each other, where it says nothing of them.

  ['generate', '--output=q'] ->
    ['generate', '--output=q', '--coordinator_address=auto']
  """
  taken = {flag.name for flag in verbs.VERBS[words[0]].flags}
  told = {flag.name for flag in verbs.PROCESSES}
  given = {word.lstrip('-').partition('=')[0] for word in words[1:]}
  if 'coordinator_address' not in taken or given & told:
    return list(words)
  return [*words, f'--coordinator_address={processes.AUTO}']


def output_folder(words: Sequence[str]) -> str | None:
  """Where a command writes: its --work_dir, or its --output."""
  for flag in ('--work_dir', '--output'):
    for place, word in enumerate(words):
      if word.startswith(f'{flag}='):
        return word.partition('=')[2]
      if word == flag and place + 1 < len(words):
        return words[place + 1]
  return None


def remote_folder(words: Sequence[str]) -> str | None:
  """`output_folder` where that is in a bucket."""
  folder = output_folder(words)
  return folder if folder and folder.startswith('gs://') else None


def _print(worker: str, line: str) -> None:
  print(f'{worker}: {line}', flush=True)
