"""From nothing to a result on a Cloud TPU VM: one command, or step by step.

  python -m launch.tpu all --env_file=my.env --spot -- \
    download --model=gpt-j-6b -- run --work_dir=gs://B/work ...

Needs Python 3.11, gcloud and this clone, and nothing installed. What follows
`--` is a command line of inpars-tpu, which is run as it stands on every worker;
of several, each after a `--` of its own, the last one is the work.
"""

import argparse
import importlib.util
import pathlib
import sys
from collections.abc import Callable, Sequence

if __name__ == '__main__':  # As a file: its folder is on the path, not ours.
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from inpars_tpu import cli, errors, verbs
from launch import gcloud as gcloud_lib
from launch import job as job_lib
from launch import machine as machine_lib

VERBS = {
  'all': 'create, install, run to the end, copy, delete',
  'create': 'rent the VM',
  'install': 'copy this clone to all workers and install it',
  'run': 'run a command of inpars-tpu on all workers, and follow it',
  'logs': 'follow what runs there, from its first line',
  'stop': 'let what runs there save its work and end',
  'copy': 'copy results to this machine',
  'status': 'what gcloud says of the VM',
  'delete': 'delete the VM',
}
_TAKES_COMMAND = ('all', 'run')
_REQUIRED = ('name', 'zone', 'type')
_TRUTH = {'true': True, 'false': False}


class Parser(argparse.ArgumentParser):
  def error(self, message: str):
    raise errors.InputError(message)


def main(argv: Sequence[str]) -> int:
  """Runs one verb; returns the exit code, which is the command's own."""
  return exit_code(
    'tpu',
    lambda: _run(*parse(argv)),
    'interrupted here; what runs on the VM goes on: `logs` follows it, '
    '`stop` ends it, `delete` deletes the VM',
  )


def exit_code(
  program: str, work: Callable[[], int], if_interrupted: str
) -> int:
  """The exit code of `work`; what is wrong is one line on stderr.

  Args:
    program: which begins that line.
    work: gives its own exit code, or raises.
    if_interrupted: what to say of an interrupt.
  """
  try:
    return work()
  except errors.InputError as error:
    message, code = error, cli.WRONG_INPUT
  except gcloud_lib.Unknown as error:
    message, code = error, cli.FAILED
  except KeyboardInterrupt:
    message, code = if_interrupted, cli.INTERRUPTED
  print(f'{program}: {" ".join(str(message).split())}', file=sys.stderr)
  return code


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[list[str]]]:
  """Flags, with those of --env_file where they are not given, and commands.

  Raises:
    InputError: flags that are unknown, missing, or do not fit the verb.
  """
  own, *commands = split_commands(argv)
  args = _parser().parse_args(own)
  if args.env_file:
    given = vars(args)
    for name, value in read_env_file(args.env_file, given).items():
      if given[name] in (None, [], False):
        given[name] = value
  missing = [f'--{name}' for name in _REQUIRED if not getattr(args, name)]
  if missing:
    raise errors.InputError(
      f'{", ".join(missing)}: give it, or put it into --env_file'
    )
  if args.verb in _TAKES_COMMAND:
    if not commands:
      raise errors.InputError(
        'what is to be run? Give it after --: -- run --dataset=scifact ...'
      )
    for words in commands:
      check_command(words)
  elif commands:
    raise errors.InputError(f'{args.verb} takes no command after --')
  for name, otherwise in (('idle_minutes', 60.0), ('max_retries', 3)):
    setattr(args, name, _number(name, getattr(args, name), otherwise))
  return args, commands


def split_commands(argv: Sequence[str]) -> list[list[str]]:
  """['a', '--', 'b', 'c', '--', 'd'] -> [['a'], ['b', 'c'], ['d']]."""
  parts: list[list[str]] = [[]]
  for word in argv:
    if word == '--':
      parts.append([])
    else:
      parts[-1].append(word)
  return parts


def read_env_file(path: str, names) -> dict[str, object]:
  """NAME=VALUE a line, of flags in capitals; # begins a remark.

  Raises:
    InputError: no such file, or a name that is no flag.
  """
  known = sorted(set(names) - {'verb', 'env_file'})
  try:
    lines = pathlib.Path(path).read_text(encoding='utf-8').splitlines()
  except OSError as error:
    raise errors.InputError(f'--env_file={path}: {error.strerror}') from None
  found: dict[str, object] = {}
  for number, line in enumerate(lines, 1):
    line = line.partition('#')[0].strip()
    if not line:
      continue
    name, equals, value = line.partition('=')
    name, value = name.strip().lower(), value.strip().strip('"\'')
    if name not in known or not equals:
      raise errors.unknown(f'name in {path}:{number}', name, known)
    if isinstance(names[name], bool):
      if value.lower() not in _TRUTH:
        raise errors.InputError(f'{path}:{number}: true or false')
      found[name] = _TRUTH[value.lower()]
    elif isinstance(names[name], list):
      found[name] = value.split()
    else:
      found[name] = value
  return found


def check_command(words: Sequence[str]) -> None:
  """Checks flags and gin of a command before anything is rented.

  Of gin only where gin is installed here.

  Raises:
    InputError: what `inpars-tpu` itself would say.
  """
  if not words or words[0] not in verbs.VERBS:
    raise errors.unknown('verb', ' '.join(words[:1]), verbs.VERBS)
  try:
    cli.parse(words[0], words[1:])
  except AttributeError:  # Without gin-config, our own folder gin/ is `gin`.
    if importlib.util.find_spec('gin.config'):
      raise


def settings_of(args: argparse.Namespace) -> machine_lib.Settings:
  """The VM of the flags."""
  return machine_lib.Settings(
    name=args.name, zone=args.zone, type=args.type, project=args.project,
    version=args.version, spot=args.spot, queued=args.queued,
    bucket=args.bucket, idle_minutes=args.idle_minutes,
    create_flags=args.create_flag, ssh_flags=args.ssh_flag,
  )  # fmt: skip


def _run(args: argparse.Namespace, commands: list[list[str]]) -> int:
  settings = settings_of(args)
  gcloud = gcloud_lib.Gcloud(dry_run=args.dry_run)
  machine = machine_lib.Machine(settings, gcloud)
  job = job_lib.Job(machine, commands)
  if args.verb == 'all':
    return run_all(job, args)
  if args.verb == 'create':
    machine.check_bucket()
    machine.create()
  elif args.verb == 'install':
    machine.install()
  elif args.verb == 'run':
    return job.run()
  elif args.verb == 'logs':
    return job.follow()
  elif args.verb == 'stop':
    job.stop()
  elif args.verb == 'copy':
    source = args.source or settings.bucket
    if not (source and args.to):
      raise errors.InputError('copy needs --source (or --bucket) and --to')
    machine.copy(source, args.to)
  elif args.verb == 'status':
    status = machine.status()
    print(f'{settings.name}: {status.state or "not found"} {status.type}')
  else:
    machine.delete()
  return cli.DONE


def run_all(job: job_lib.Job, args: argparse.Namespace) -> int:
  """Everything; the VM is deleted whatever comes, but for an interrupt here.

  Raises:
    InputError: what the command writes would be deleted with the VM.
  """
  machine, folder = job.machine, job_lib.output_folder(job.commands[-1])
  is_remote = job_lib.remote_folder(job.commands[-1]) is not None
  if folder and not (is_remote or args.to or args.keep):
    raise errors.InputError(
      f'{folder} goes with the VM: give a folder on gs://, --to=DIR to copy '
      'it here, or --keep'
    )
  if args.spot and not is_remote:
    print(
      'nothing of this is written to gs://: a spot VM that is taken away '
      'begins anew',
      file=sys.stderr,
    )
  machine.check_bucket()
  try:
    code = job.run_to_the_end(max_retries=int(args.max_retries))
    if args.to and folder:
      machine.copy(folder, args.to)
  except Exception:
    _end(job, args)
    raise
  _end(job, args)
  return code


def _end(job: job_lib.Job, args: argparse.Namespace) -> None:
  name = job.machine.settings.name
  if not job.is_ours:
    return  # Another's, or none.
  if args.keep:
    print(f'{name} stays, and costs: delete it with `delete`', file=sys.stderr)
  else:
    job.machine.delete()


def _number(name: str, value, otherwise: float) -> float:
  try:
    number = otherwise if value is None else float(value)
  except ValueError:
    number = -1.0
  if not number >= 0:
    raise errors.InputError(f'--{name}={value}: a number, 0 or more')
  return number


def _parser() -> argparse.ArgumentParser:
  listed = '\n'.join(f'  {name:<8} {text}' for name, text in VERBS.items())
  parser = Parser(
    'tpu', allow_abbrev=False, epilog=f'verbs:\n{listed}',
    description='Runs inpars-tpu on a Cloud TPU VM.',
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )  # fmt: skip
  parser.add_argument('verb', choices=VERBS, metavar='VERB')
  add = parser.add_argument
  add('--env_file', help='NAME=VALUE a line, of the flags below in capitals')
  add('--name', help='of the VM')
  add('--zone', help='europe-west4-a, ...')
  add('--type', help='v3-8, v4-32, v5litepod-64, v6e-64, ...')
  add('--project', help="default: gcloud's own")
  add('--version', help='of the image; default: by the type')
  add('--spot', action='store_true', help='cheaper, and may be taken away')
  add('--queued', action='store_true', help='wait in the queue for it')
  add('--bucket', help='gs://NAME: checked before anything is rented')
  add(
    '--create_flag',
    action='append',
    default=[],
    help='another flag of gcloud for create: --create_flag=--network=NET',
  )
  add(
    '--ssh_flag',
    action='append',
    default=[],
    help='another flag of gcloud for ssh and scp: '
    '--ssh_flag=--tunnel-through-iap',
  )
  add(
    '--idle_minutes',
    help='after which an idle VM deletes itself; 0: never; default 60',
  )
  add('--max_retries', help='in a row, without progress; default 3')
  add('--keep', action='store_true', help='all: do not delete the VM')
  add('--source', help='copy: folder of the VM, or gs://; default --bucket')
  add('--to', help='all, copy: local folder for the results')
  add('--dry_run', action='store_true', help='print the commands, run none')
  return parser  # fmt: skip


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
