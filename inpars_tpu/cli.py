"""The command line: `inpars-tpu VERB --flag=value --gin.NAME=VALUE`.

Parses, calls one verb's main(args), and turns what went wrong into one line
and an exit code: 0 done, 2 wrong input, 75 interrupted with its work saved,
1 anything else.
"""

import argparse
import atexit
import errno
import importlib
import logging
import os
import platform
import signal
import sys
import textwrap
import threading
from collections.abc import Sequence

import inpars_tpu
from inpars_tpu import errors, interrupts, large_pages, verbs

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 75

_INTERRUPTED = (
  'interrupted; what was finished is saved: give the same command again to go '
  'on'
)
_TRUTH = {'true': True, 'false': False}


def main(argv: Sequence[str]) -> int:
  """Runs one command; returns its exit code. argv leaves out the program."""
  try:
    if not argv or argv[0] in ('--help', '-h', '-help', 'help'):
      print(_describe_program())
      return DONE
    if argv[0] == '--version':
      print(inpars_tpu.__version__)
      return DONE
    if argv[0] not in verbs.VERBS:
      raise errors.unknown('verb', argv[0], verbs.VERBS)
    return _run_verb(argv[0], argv[1:])
  except errors.InputError as error:
    return _fail(error, WRONG_INPUT)
  except (KeyboardInterrupt, _Terminated):
    return _fail(_INTERRUPTED, INTERRUPTED)
  except OSError as error:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
      return _fail(f'no space left on the disk: {error.filename}', FAILED)
    if error.errno is None:  # gcsfs's.
      return _fail(error, FAILED)
    if isinstance(error, FileNotFoundError | PermissionError):
      return _fail(f'{error.strerror}: {error.filename}', WRONG_INPUT)
    raise
  except MemoryError as error:
    return _fail(f'out of memory: {error}', FAILED)
  except RuntimeError as error:  # XLA's, whose type need not be imported.
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return _fail(
      f'out of device memory: {str(error).splitlines()[0]}; lower '
      'GENERATOR_BATCH_SIZE, SCORE_BATCH_TOKENS or TRAIN_BATCH_SIZE',
      FAILED,
    )


def run_and_exit() -> None:
  """Entry point of the `inpars-tpu` script."""
  argv = sys.argv[1:]
  if argv and argv[0] in verbs.VERBS and verbs.VERBS[argv[0]].trains:
    large_pages.ask()
  signal.signal(signal.SIGTERM, _raise_terminated)
  # Last of all at exit: Python would put the default back, which is no code 75.
  atexit.register(signal.signal, signal.SIGTERM, signal.SIG_IGN)
  sys.unraisablehook = _deliver_again
  interrupts.limit(INTERRUPTED, f'inpars-tpu: {_INTERRUPTED}')
  sys.exit(main(argv))


class _Terminated(BaseException):
  """SIGTERM, as a preempted machine sends it."""


def _raise_terminated(*_) -> None:
  raise _Terminated


def _deliver_again(unraisable) -> None:
  """Repeats a signal whose exception Python has dropped.

  Nothing can be raised out of a callback of the garbage collector, and jax has
  one: a signal that came there would be lost.
  """
  signals = {_Terminated: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}
  lost = signals.get(unraisable.exc_type)
  if lost is None:
    sys.__unraisablehook__(unraisable)
  else:  # From outside of this hook, which drops exceptions too.
    threading.Timer(0.01, os.kill, (os.getpid(), lost)).start()


def _fail(message: object, code: int) -> int:
  print(f'inpars-tpu: {" ".join(str(message).split())}', file=sys.stderr)
  return code


def _run_verb(name: str, argv: Sequence[str]) -> int:
  verb = verbs.VERBS[name]
  if any(word in ('--help', '-h', '-help') for word in argv):
    print(_describe_verb(name))
    return DONE
  if verb.module is None:
    raise errors.InputError(f'{name} is not in this version yet')
  args = parse(name, argv)
  _log_to_stderr()
  _keep_compiled_programs()
  _check_stores(args)
  importlib.import_module(verb.module).main(args)
  return DONE


def _check_stores(args: argparse.Namespace) -> None:
  """That a gs:// flag can be reached at all, before anything else is."""
  values = [v for v in vars(args).values() if isinstance(v, str)]
  for value in values:
    if value.startswith('gs://'):
      from inpars_tpu import stores  # epath, which help need not wait for.

      stores.check(value)


def _log_to_stderr() -> None:
  """Our own messages as plain lines; libraries keep their own ways."""
  logger = logging.getLogger('inpars_tpu')
  logger.setLevel(logging.INFO)
  logger.propagate = False
  handler = logging.StreamHandler(sys.stderr)
  handler.setFormatter(logging.Formatter('%(message)s'))
  logger.handlers = [handler]


def _keep_compiled_programs() -> None:
  """Gives jax, before it is imported, a folder for what it compiles.

  One for each machine: programs for one CPU need not run on another that has
  the same home.
  """
  folder = os.path.expanduser(
    os.path.join('~', '.cache', 'inpars_tpu', 'xla', platform.node())
  )
  try:
    os.makedirs(folder, exist_ok=True)
  except OSError:
    return  # No home to write to: everything is compiled anew.
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', folder)
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')


def parse(name: str, argv: Sequence[str]) -> argparse.Namespace:
  """Flags of one verb as attributes, and `recipe`, the resolved gin macros.

  `gin_files` and `gin_bindings` are what it was resolved from, for a verb with
  a recipe of its own to start from.

  Raises:
    InputError: unknown, missing, repeated or malformed flags; anything that
      `recipe.load` raises.
  """
  flags = {flag.name: flag for flag in verbs.VERBS[name].flags}
  values: dict[str, object] = {
    flag.name: False if flag.boolean else flag.default
    for flag in flags.values()
  }
  gin_files, bindings, given = [], {}, set()
  for key, value in _split_words(argv, flags):
    if key == 'gin_file':
      gin_files.append(value)
    elif key.startswith('gin.'):
      bindings[key.removeprefix('gin.')] = value
    elif flags[key].repeated:
      values[key] = [*(values[key] or []), value]
    elif key in given:
      raise errors.InputError(f'--{key} is given twice')
    else:
      values[key] = _convert(flags[key], value)
    given.add(key)
  missing = [f'--{f.name}' for f in flags.values() if f.required
             and f.name not in given]  # fmt: skip
  if missing:
    raise errors.InputError(
      f'{name} needs {", ".join(missing)}; see inpars-tpu {name} --help'
    )
  # Only here: gin is not needed to say that a flag is wrong.
  from inpars_tpu import recipe

  return argparse.Namespace(
    **values,
    recipe=recipe.load(gin_files, bindings),
    gin_files=gin_files,
    gin_bindings=bindings,
  )


def _split_words(argv, flags):
  """Yields (flag, value) of `--flag=value`, `--flag value` and `--switch`."""
  words = list(argv)
  while words:
    word = words.pop(0)
    if not word.startswith('--'):
      raise errors.InputError(f'{word!r} is not a flag; use --flag=value')
    key, equals, value = word[2:].partition('=')
    is_gin = key == 'gin_file' or key.startswith('gin.')
    if not is_gin and key not in flags:
      raise errors.unknown('flag', key, [*flags, 'gin_file'])
    if not equals:
      if not is_gin and flags[key].boolean:
        value = 'true'
      elif not words or words[0].startswith('--'):
        raise errors.InputError(f'--{key} needs a value: --{key}=...')
      else:
        value = words.pop(0)
    yield key, value


def _convert(flag: verbs.Flag, value: str) -> str | bool:
  if flag.boolean:
    if value not in _TRUTH:
      raise errors.InputError(f'--{flag.name}={value}: true or false')
    return _TRUTH[value]
  if flag.choices and value not in flag.choices:
    raise errors.unknown(f'--{flag.name}', value, flag.choices)
  if not value:
    raise errors.InputError(f'--{flag.name} is empty')
  return value


def _describe_program() -> str:
  lines = [
    'inpars-tpu VERB --flag=value ...: from an unlabelled corpus to a reranker',
    '',
  ]
  for name, verb in verbs.VERBS.items():
    later = '' if verb.module else ' (not in this version yet)'
    lines.append(f'  {name:<10} {verb.summary}{later}')
  lines += ['', *textwrap.wrap(verbs.GIN_HELP, 78)]
  lines += ['inpars-tpu VERB --help lists the flags of a verb.']
  return '\n'.join(lines)


def _describe_verb(name: str) -> str:
  verb = verbs.VERBS[name]
  lines = [f'inpars-tpu {name}: {verb.summary}', '']
  for flag in verb.flags:
    note = ' (required)' if flag.required else ''
    if flag.default:
      note = f' (default {flag.default})'
    if flag.choices:
      note += f' [{"|".join(flag.choices)}]'
    lines += textwrap.wrap(
      f'{flag.help}{note}', 79,
      initial_indent=f'  --{flag.name:<16} ', subsequent_indent=' ' * 21,
    )  # fmt: skip
  return '\n'.join([*lines, '', *textwrap.wrap(verbs.GIN_HELP, 78)])
