"""On a TPU VM: one command in the background, its log, and the idle VM's end.

  python3 worker.py start -- run --dataset=scifact ...
  python3 worker.py follow --after=w0:120,w1:118
  python3 worker.py stop
  python3 worker.py guard --minutes=60 -- gcloud compute tpus tpu-vm delete ...

The command outlives the ssh that started it. Runs with the VM's own Python
(3.10 on Ubuntu 22.04) and nothing else. `follow` writes lines that `job`
reads: `[w3] text` and, once it has ended, `[w3 ended 75]`.
"""

import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

CLONE = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = CLONE / '.venv' / 'bin' / 'inpars-tpu'
JOB = CLONE.parent / 'inpars_tpu_job'
LOG, COMMAND, PROCESS, ENDED = (
  JOB / name for name in ('log', 'command', 'process', 'ended')
)
GUARD = CLONE.parent / 'inpars_tpu_guard'
POLL_SECONDS = 0.2
LOST = 143  # Its supervisor is gone: as if SIGTERM had ended it.
WRONG = 2


def main(argv):
  """Returns the exit code."""
  verb, *rest = argv
  split = rest.index('--') if '--' in rest else len(rest)
  flags = dict(flag.lstrip('-').split('=', 1) for flag in rest[:split])
  words = rest[split + 1 :]
  JOB.mkdir(exist_ok=True)
  if verb == 'start':
    return start(words)
  if verb == 'supervise':
    return supervise(words)
  if verb == 'follow':
    return follow(parse_after(flags.get('after', '')))
  if verb == 'stop':
    return stop()
  if verb == 'guard':
    return guard(float(flags['minutes']) * 60, words)
  raise SystemExit(f'unknown verb {verb}')


def start(words):
  """Starts a command in the background, unless it is running already."""
  if is_running(PROCESS):
    there = COMMAND.read_text()
    if there == shlex.join(words):
      print(f'[{name()}] it is running already')
      return 0
    print(f'inpars-tpu: {name()} is still busy with: {there}')
    return WRONG
  ENDED.unlink(missing_ok=True)
  LOG.write_text('')
  COMMAND.write_text(shlex.join(words))
  detach(PROCESS, ['supervise', '--', *words])
  return 0


def supervise(words):
  """Runs the command to its end, and notes its exit code."""
  with LOG.open('ab') as log:
    try:
      child = subprocess.Popen(
        [str(PROGRAM), *words],
        cwd=CLONE,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
      )
    except OSError as error:
      log.write(f'inpars-tpu: {error}: install it first\n'.encode())
      code = WRONG
    else:
      # A machine that is going down tells every process; a `kill` only us.
      signal.signal(signal.SIGTERM, lambda *_: child.terminate())
      code = child.wait()
  partial = ENDED.with_name('ended.tmp')
  # As a shell has it: 128 and the signal.
  partial.write_text(str(128 - code if code < 0 else code))
  partial.replace(ENDED)
  return 0


def follow(after):
  """Shows the log from a line on until the command has ended."""
  me, number = name(), 0
  if not LOG.exists():
    print(f'inpars-tpu: {me} was given no command')
    return WRONG
  skipped = after.get(me, 0)
  with LOG.open(encoding='utf-8', errors='replace') as log:
    rest = ''
    while True:
      is_over = not is_running(PROCESS)  # Asked first: then all is written.
      for line in log:
        rest += line
        if line.endswith('\n') or is_over:
          number += 1
          if number > skipped:
            say(f'[{me}] {rest.rstrip()}')
          rest = ''
      if is_over:
        break
      time.sleep(POLL_SECONDS)
  if not PROCESS.exists():  # The VM is being deleted, which ends nothing.
    return WRONG
  code = ENDED.read_text() if ENDED.exists() else LOST
  say(f'[{me} ended {code}]')
  return 0


def stop():
  """Lets the command save its work and end, as a preemption does."""
  while is_running(PROCESS):
    os.kill(int(PROCESS.read_text().split()[1]), signal.SIGTERM)
    time.sleep(POLL_SECONDS)
  return 0


def say(line):
  """Writes a line in one piece: other workers' end up in the same pipe."""
  os.write(1, f'{line}\n'.encode())


def guard(seconds, words):
  """Runs `words`, which delete this VM, when it was idle for so long.

  Started again, it takes the place of the one before.
  """
  if os.environ.get('INPARS_TPU_GUARD') != str(GUARD):
    if is_running(GUARD):
      os.kill(int(GUARD.read_text().split()[1]), signal.SIGKILL)
    os.environ['INPARS_TPU_GUARD'] = str(GUARD)
    detach(GUARD, ['guard', f'--minutes={seconds / 60}', '--', *words])
    return 0
  idle_since = time.time()
  while True:
    time.sleep(min(30.0, seconds))
    if is_running(PROCESS):
      idle_since = time.time()
    elif time.time() - idle_since >= seconds:
      print(f'idle for {seconds:.0f} s: {shlex.join(words)}', flush=True)
      # It may lack the right to; whoever gives it need not come back here.
      subprocess.run(words, stdin=subprocess.DEVNULL, check=False)
      idle_since = time.time()


def detach(process_path, argv):
  """Runs this program in the background; notes what `is_running` reads."""
  with process_path.with_name(f'{process_path.name}.out').open('wb') as out:
    child = subprocess.Popen(
      [sys.executable, str(pathlib.Path(__file__).resolve()), *argv],
      stdin=subprocess.DEVNULL,
      stdout=out,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )
  process_path.write_text(f'{boot()} {child.pid} {started(child.pid)}')


def is_running(process_path):
  """Whether a detached process lives: same boot, number and start."""
  try:
    there, pid, when = process_path.read_text().split()
  except (OSError, ValueError):
    return False
  return there == boot() and when != '0' and when == started(pid)


def boot():
  """Of this start of the machine."""
  return pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()


def started(pid):
  """When a process began, in clock ticks; '0': it has ended."""
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return '0'
  fields = stat[stat.rindex(')') + 2 :].split()
  return '0' if fields[0] in 'ZX' else fields[19]


def name():
  """'w3' of a pod's fourth worker, 'w0' of a VM alone.

  Cloud TPU names a host t1v-n-0123abcd-w-3.
  """
  host = os.environ.get('INPARS_TPU_HOST', socket.gethostname())
  found = re.search(r'-w-(\d+)$', host)
  return f'w{found[1] if found else 0}'


def parse_after(text):
  """'w0:120,w1:118' -> {'w0': 120, 'w1': 118}, lines that were seen."""
  pairs = (pair.split(':') for pair in text.split(',') if pair)
  return {worker: int(count) for worker, count in pairs}


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
