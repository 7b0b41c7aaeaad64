"""A stand-in for gcloud on the PATH: TPU VMs are folders, and ssh is bash.

In the folder FAKE_GCLOUD: `calls` (one command a line), `fails` (lines "words
<tab> times <tab> exit code <tab> text"), `vms/NAME/` with `vm.json` and each
worker's home, `queue/NAME` (states, one a line, the last one stays) and
`buckets/`. The texts are gcloud's own.
"""

import contextlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys

HERE = pathlib.Path(os.environ['FAKE_GCLOUD'])
VERB = 'gcloud'


def main():
  global VERB
  words = [word for word in sys.argv[1:] if not word.startswith('--')]
  flags = dict(
    word[2:].split('=', 1) if '=' in word else (word[2:], 'true')
    for word in sys.argv[1:]
    if word.startswith('--')
  )
  with (HERE / 'calls').open('a') as calls:
    calls.write(shlex.join(sys.argv[1:]) + '\n')
  fail_as_asked(' '.join(sys.argv[1:]))
  group = words[:2] if words[0] == 'storage' else words[2:4]
  VERB = '.'.join(['gcloud', *words[: len(words) - len(words[4:])]])
  names = words[2:] if words[0] == 'storage' else words[4:]
  ACTIONS[tuple(group)](names, flags)


def fail_as_asked(command):
  path = HERE / 'fails'
  lines = path.read_text().splitlines() if path.exists() else []
  for number, line in enumerate(lines):
    wanted, times, code, text = line.split('\t')
    if wanted in command and int(times):
      lines[number] = '\t'.join([wanted, str(int(times) - 1), code, text])
      path.write_text('\n'.join([*lines, '']))
      print(text.replace('\\n', '\n'), file=sys.stderr)
      sys.exit(int(code))


def die(text):
  print(f'ERROR: ({VERB}) {text}', file=sys.stderr)
  sys.exit(1)


def load(name, flags):
  path = HERE / 'vms' / name / 'vm.json'
  if not path.exists():
    where = f'projects/p/locations/{flags["zone"]}/nodes/{name}'
    die(f"NOT_FOUND: Resource '{where}' was not found")
  return json.loads(path.read_text())


def create(names, flags, kind=None):
  (name,) = names
  kind = kind or flags['accelerator-type']
  folder = HERE / 'vms' / name
  if (folder / 'vm.json').exists():
    where = f'projects/p/locations/{flags["zone"]}/nodes/{name}'
    die(f"ALREADY_EXISTS: Resource '{where}' already exists")
  num_workers = max(1, int(kind.split('-')[1]) // 8)
  for worker in range(num_workers):
    (folder / f'w{worker}').mkdir(parents=True)
  vm = {
    'state': 'READY', 'acceleratorType': f'projects/p/{kind}',
    'networkEndpoints': [{}] * num_workers,
  }  # fmt: skip
  (folder / 'vm.json').write_text(json.dumps(vm))


def describe(names, flags):
  print(json.dumps(load(names[0], flags)))


def delete(names, flags):
  load(names[0], flags)
  remove(HERE / 'vms' / names[0])


def remove(folder):
  """With what runs there, as `worker` has noted it, ourselves last."""
  shutil.move(folder, folder.with_name(f'.{folder.name}'))
  folder = folder.with_name(f'.{folder.name}')
  notes = [*folder.glob('w*/*/process'), *folder.glob('w*/inpars_tpu_guard')]
  numbers = [int(note.read_text().split()[1]) for note in notes]
  shutil.rmtree(folder)
  for number in sorted(numbers, key=lambda number: number == os.getpgrp()):
    with contextlib.suppress(ProcessLookupError):
      os.killpg(number, signal.SIGKILL)


def ssh(names, flags):
  vm = load(names[0], flags)
  if vm['state'] != 'READY':
    die(
      f'This TPU has terminal state "{vm["state"]}", so it cannot be used '
      'anymore.'
    )
  count = len(vm['networkEndpoints'])
  workers = range(count) if flags['worker'] == 'all' else [int(flags['worker'])]
  running = []
  for worker in workers:
    print(f'SSH: Attempting to connect to worker {worker}...', file=sys.stderr)
    home = HERE / 'vms' / names[0] / f'w{worker}'
    env = os.environ | {
      'HOME': str(home), 'INPARS_TPU_HOST': f't1v-n-0123abcd-w-{worker}',
    }  # fmt: skip
    running.append(
      subprocess.Popen(['bash', '-c', flags['command']], cwd=home, env=env)
    )
  codes = [process.wait() for process in running]
  sys.exit(next((code for code in codes if code), 0))


def scp(names, flags):
  source, to = names
  if ':' in to:
    name, path = to.split(':')
    for endpoint in range(len(load(name, flags)['networkEndpoints'])):
      home = HERE / 'vms' / name / f'w{endpoint}'
      shutil.copy(source, home / (path or pathlib.Path(source).name))
    return
  name, path = source.split(':')
  load(name, flags)
  place = HERE / 'vms' / name / 'w0' / path
  if not place.exists():
    die(f'scp: {path}: No such file or directory')
  target = pathlib.Path(to) / place.name
  if place.is_dir():
    shutil.copytree(place, target, dirs_exist_ok=True)
  else:
    shutil.copy(place, target)


def queue_create(names, flags):
  path = HERE / 'queue' / names[0]
  if not path.exists():
    path.parent.mkdir(exist_ok=True)
    path.write_text('WAITING_FOR_RESOURCES\nPROVISIONING\nACTIVE')
  (HERE / 'queue' / f'{names[0]}.type').write_text(flags['accelerator-type'])


def queue_describe(names, flags):
  path = HERE / 'queue' / names[0]
  if not path.with_suffix('.type').exists():
    die(f"NOT_FOUND: Resource 'queuedResources/{names[0]}' was not found")
  state, *rest = path.read_text().split('\n')
  path.write_text('\n'.join(rest or [state]))
  if state == 'ACTIVE' and not (HERE / 'vms' / names[0]).exists():
    create(names, flags, path.with_suffix('.type').read_text())
  print(json.dumps({'state': {'state': state}}))


def queue_delete(names, flags):
  path = (HERE / 'queue' / names[0]).with_suffix('.type')
  if not path.exists():
    die(f"NOT_FOUND: Resource 'queuedResources/{names[0]}' was not found")
  path.unlink()
  if (HERE / 'vms' / names[0]).exists():
    remove(HERE / 'vms' / names[0])


def local(path):
  return HERE / 'buckets' / path.removeprefix('gs://')


def storage_cp(names, flags):
  source, to = names
  local(to).parent.mkdir(parents=True, exist_ok=True)
  shutil.copy(source, local(to))


def storage_rsync(names, flags):
  shutil.copytree(local(names[0]), names[1], dirs_exist_ok=True)


def storage_ls(names, flags):
  paths = sorted(p for p in local(names[0]).rglob('*') if p.is_file())
  if not paths:
    die('One or more URLs matched no objects.')
  for path in paths:
    name = path.relative_to(HERE / 'buckets')
    print(f'  {path.stat().st_size}  {path.stat().st_mtime}  gs://{name}')


ACTIONS = {
  ('tpu-vm', 'create'): create,
  ('tpu-vm', 'describe'): describe,
  ('tpu-vm', 'delete'): delete,
  ('tpu-vm', 'ssh'): ssh,
  ('tpu-vm', 'scp'): scp,
  ('queued-resources', 'create'): queue_create,
  ('queued-resources', 'describe'): queue_describe,
  ('queued-resources', 'delete'): queue_delete,
  ('storage', 'cp'): storage_cp,
  ('storage', 'rsync'): storage_rsync,
  ('storage', 'ls'): storage_ls,
}


if __name__ == '__main__':
  main()
