"""Many runs: datasets, numbers and seeds, here or on several TPU VMs.

  python -m launch.sweep --sweep=launch/sweeps/learning_rate.yaml \
    --work_dir=work --data_dir=data --generator=G --reranker=R

Flags of `inpars-tpu run` are the same for all of its runs. What is done is
skipped; what one run has made, another does not make again; what failed is
listed with its log, and the same command tries it again. Ends in one table and
work_dir/sweep.html.
"""

import argparse
import dataclasses
import fcntl
import logging
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import IO

if __name__ == '__main__':  # As a file: its folder is on the path, not ours.
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from etils import epath

from inpars_tpu import cli, errors, files, stores
from launch import gcloud as gcloud_lib
from launch import job as job_lib
from launch import machine as machine_lib
from launch import sweep_plan, sweep_share, sweep_table, tpu

_log = logging.getLogger('inpars_tpu.sweep')

# Runs one command line; its output goes to the file; returns the exit code.
Execute = Callable[[Sequence[str], pathlib.Path], int]
_VM_FLAGS = ('env_file', 'zone', 'type', 'project')


@dataclasses.dataclass
class Sweep:
  """The runs, and what is known of each."""

  runs: Sequence[sweep_plan.Run]
  log_dir: pathlib.Path
  failed: dict[str, str] = dataclasses.field(default_factory=dict)

  def log_path(self, run: sweep_plan.Run) -> pathlib.Path:
    """What a run says."""
    return self.log_dir / f'{run.name}.log'

  def is_done(self, run: sweep_plan.Run) -> bool:
    """Whether it has ended well, with the words of now."""
    record = self._record(run)
    is_same = record.get('words') == list(run.words)
    return is_same and record.get('exit_code') == cli.DONE and (
      run.folder / 'report.html'
    ).exists()  # fmt: skip

  def do(self, run: sweep_plan.Run, execute: Execute) -> None:
    """Runs it, with what others have made; notes how it ended."""
    others = [
      other.folder
      for other in self.runs
      if other.flags == run.flags and self._had(other)
    ]
    sweep_share.borrow(run.folder, run.recipe, others)
    self._note(run, None)
    start = time.time()
    try:
      code = execute(run.words, self.log_path(run))
    except (errors.InputError, gcloud_lib.Unknown) as error:
      self.failed[run.name] = str(error)
      raise
    self._note(run, code, round(time.time() - start, 1))
    if code == cli.DONE:
      _log.info('%s: done in %.0f s', run.name, time.time() - start)
      return
    last = _last_line(self.log_path(run))
    self.failed[run.name] = f'exit code {code}, {self.log_path(run)}: {last}'
    _log.info('%s: failed: %s', run.name, self.failed[run.name])

  def _had(self, run: sweep_plan.Run) -> bool:
    """Whether what is in its folder was made with the flags of now."""
    words = self._record(run).get('words', ())
    return dataclasses.replace(run, words=words).flags == run.flags

  def _record(self, run: sweep_plan.Run) -> dict:
    path = self._record_path(run)
    return files.read_json(path, 'record of the run') if path.exists() else {}

  def _record_path(self, run: sweep_plan.Run) -> pathlib.Path:
    return self.log_dir / f'{run.name}.run.json'

  def _note(self, run, code, seconds=None) -> None:
    record = {'words': list(run.words), 'exit_code': code, 'seconds': seconds}
    files.write_json(self._record_path(run), record)


class Turns:
  """Which run is next, for several that take them at the same time.

  Runs of one dataset and seed share stages, so the first of them goes alone.
  """

  def __init__(self, runs: Iterable[sweep_plan.Run]):
    """All are to be done."""
    self._waiting = list(runs)
    self._alone: set[tuple[str, int]] = set()  # Its first is running.
    self._known: set[tuple[str, int]] = set()  # Its first has ended.
    self._changed = threading.Condition()

  def take(self) -> sweep_plan.Run | None:
    """The next one, as soon as it may begin; None: no more."""
    with self._changed:
      while self._waiting:
        for run in self._waiting:
          key = run.dataset, run.seed
          if key not in self._alone:
            if key not in self._known:
              self._alone.add(key)
            self._waiting.remove(run)
            return run
        self._changed.wait()
      return None

  def end(self, run: sweep_plan.Run) -> None:
    """To be called when it has ended, well or not."""
    with self._changed:
      self._alone.discard((run.dataset, run.seed))
      self._known.add((run.dataset, run.seed))
      self._changed.notify_all()


def main(argv: Sequence[str], execute: Execute | None = None) -> int:
  """Runs a sweep; returns 0, or 1 where a run has failed, or 2.

  Args:
    argv: the command line.
    execute: in place of a process of this machine for each run.
  """
  logging.basicConfig(format='%(message)s')
  _log.setLevel(logging.INFO)
  return tpu.exit_code(
    'sweep',
    lambda: _main(argv, execute or run_here),
    'interrupted; what was finished is saved: give the same command again '
    'to go on (what runs on a VM goes on there)',
  )


def run_here(words: Sequence[str], log_path: pathlib.Path) -> int:
  """A process of this machine; it ends with us."""
  log_path.parent.mkdir(parents=True, exist_ok=True)
  with log_path.open('ab') as log:
    _lock(log, log_path)
    process = subprocess.Popen(
      [sys.executable, '-m', 'inpars_tpu', *words],
      stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
      return process.wait()
    except BaseException:
      process.terminate()
      process.wait()
      raise


def _lock(log: IO[bytes], path: pathlib.Path) -> None:
  """Keeps the log for the process that is given it, as long as that lives.

  One that outlived a sweep that was killed has it still, and is waited for.
  """
  try:
    fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    _log.info('%s: waits for the process that writes it', path)
    fcntl.flock(log, fcntl.LOCK_EX)


def _main(argv: Sequence[str], execute: Execute) -> int:
  own, *setup = tpu.split_commands(argv)
  args, flags = make_parser().parse_known_args(own)
  if not (args.sweep and args.work_dir):
    raise errors.InputError('sweep needs --sweep=FILE and --work_dir=DIR')
  runs = sweep_plan.load(args.sweep, args.work_dir, flags)
  sweep = Sweep(runs, pathlib.Path(args.log_dir or _log_dir(args)))
  waiting = [run for run in runs if not sweep.is_done(run)]
  print(
    f'{args.sweep}: {len(runs)} runs, {len(runs) - len(waiting)} of them done'
  )
  if args.dry_run:
    for run in waiting:
      print(f'inpars-tpu {" ".join(run.words)}')
  elif args.tpus:
    run_there(args, setup, sweep, waiting)
  else:
    if setup:
      raise errors.InputError('commands after -- are for --tpus')
    data_dir = cli.parse('run', runs[0].words[1:]).data_dir
    sweep_plan.check_datasets(waiting, data_dir)
    _take_turns(sweep, Turns(waiting), execute)
  return cli.DONE if args.dry_run else _finish(args, sweep)


def _take_turns(sweep: Sweep, turns: Turns, execute: Execute) -> None:
  while run := turns.take():
    _log.info('%s: runs, see %s', run.name, sweep.log_path(run))
    try:
      sweep.do(run, execute)
    finally:
      turns.end(run)


def run_there(
  args: argparse.Namespace,
  setup: Sequence[Sequence[str]],
  sweep: Sweep,
  waiting: Sequence[sweep_plan.Run],
) -> None:
  """Runs them on --tpus, which are created, and deleted at the end.

  Args:
    args: of `make_parser`.
    setup: command lines that a VM needs before a run.
    sweep: is told how each ends.
    waiting: those that are not done.

  Raises:
    InputError: the bucket is not to be written, no VM could do anything.
  """
  if not stores.is_remote(args.work_dir):
    raise errors.InputError(
      f'--work_dir={args.work_dir}: with --tpus it must be on gs://'
    )
  for words in setup:
    tpu.check_command(words)
  turns, lost = Turns(waiting), []
  gcloud = gcloud_lib.Gcloud()
  machines = [_machine(args, name, gcloud) for name in args.tpus.split(',')]
  machines[0].check_bucket()

  def work(machine: machine_lib.Machine) -> None:
    run_on = _Remote(machine, setup)
    try:
      _take_turns(sweep, turns, run_on)
    except (errors.InputError, gcloud_lib.Unknown) as error:
      lost.append(f'{machine.settings.name}: {error}')
      _log.info('%s', lost[-1])
    finally:
      if run_on.is_ours and not args.keep:
        machine.delete()

  threads = [
    threading.Thread(target=work, args=(machine,), daemon=True)
    for machine in machines
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    while thread.is_alive():  # In pieces, so that an interrupt ends it.
      thread.join(1.0)
  if len(lost) == len(machines):
    raise errors.InputError('; '.join(lost))


class _Remote:
  """Runs command lines on one VM."""

  def __init__(self, machine: machine_lib.Machine, setup):
    self._machine = machine
    self._setup = setup
    self.is_ours = False

  def __call__(self, words: Sequence[str], log_path: pathlib.Path) -> int:
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open('a', encoding='utf-8') as log:

      def show(worker: str, line: str) -> None:
        log.write(f'{worker}: {line}\n')
        log.flush()

      job = job_lib.Job(self._machine, [*self._setup, words], show)
      try:
        return job.run_to_the_end(max_retries=3)
      finally:
        self.is_ours = self.is_ours or job.is_ours


def _machine(args, name: str, gcloud) -> machine_lib.Machine:
  words = [
    f'--{flag}={getattr(args, flag)}'
    for flag in _VM_FLAGS
    if getattr(args, flag)
  ]
  words += [f'--name={name}', f'--bucket={args.work_dir}']
  vm_args, _ = tpu.parse(['create', *words])
  return machine_lib.Machine(tpu.settings_of(vm_args), gcloud)


def _finish(args: argparse.Namespace, sweep: Sweep) -> int:
  folders: dict[str, list[epath.Path]] = {}
  for run in sweep.runs:
    places = folders.setdefault(run.setting, [])
    if sweep.is_done(run):
      places.append(run.folder)
    else:
      sweep.failed.setdefault(run.name, 'not run')
  name = pathlib.PurePath(args.sweep).stem
  table, path = sweep_table.write(
    name, epath.Path(args.work_dir), folders, list(sweep.failed.items())
  )
  print(table)
  for run_name, what in sweep.failed.items():
    print(f'failed: {run_name}: {what}')
  print(path)
  return cli.FAILED if sweep.failed else cli.DONE


def _log_dir(args: argparse.Namespace) -> str:
  if not stores.is_remote(args.work_dir):
    return args.work_dir
  return f'logs/{pathlib.PurePath(args.sweep).stem}'


def _last_line(path: pathlib.Path) -> str:
  lines = path.read_text(errors='replace').splitlines() if path.exists() else []
  return next((line for line in reversed(lines) if line.strip()), 'no output')


def _interrupt(*_) -> None:
  raise KeyboardInterrupt


def make_parser() -> argparse.ArgumentParser:
  """The flags of a sweep that are none of `run`."""
  parser = tpu.Parser(
    'sweep', allow_abbrev=False,
    description='Runs a sweep; all other flags are those of inpars-tpu run.',
  )  # fmt: skip
  add = parser.add_argument
  add('--sweep', help='a YAML file, see launch/sweeps')
  add('--work_dir', help='of all runs: WORK_DIR/SETTING/seedN/DATASET')
  add('--log_dir', help='local folder; default: the work_dir, or logs/SWEEP')
  add('--tpus', help='names of TPU VMs, one,two: runs go there')
  add('--env_file', help='of the VMs, as launch/tpu.py has it')
  for flag in _VM_FLAGS[1:]:
    add(f'--{flag}', help=f'of the VMs, as launch/tpu.py --{flag}')
  add('--keep', action='store_true', help='do not delete the VMs')
  add('--dry_run', action='store_true', help='print what would be run')
  return parser


if __name__ == '__main__':
  signal.signal(signal.SIGTERM, _interrupt)
  sys.exit(main(sys.argv[1:]))
