"""`python -m inpars_tpu.t5x_run train|eval|infer ...`: one of t5x's programs.

The same as `python -m t5x.train` and so on, with three differences: gin files
named gin/... are found where the package is installed too; wrong input is one
line and exit code 2; and with --stdin_is_parent it ends when its stdin does,
so that nothing is left of it when the process that started it was killed.
"""

import os
import runpy
import sys
import threading
from collections.abc import Sequence

import gin

from inpars_tpu import errors, recipe

PROGRAMS = ('train', 'eval', 'infer')
STDIN_IS_PARENT = '--stdin_is_parent'
WRONG_INPUT, INTERRUPTED = 2, 75


def main(argv: Sequence[str]) -> int:
  """Runs a program; argv leaves out the name of this one."""
  argv = list(argv)
  if STDIN_IS_PARENT in argv:
    argv.remove(STDIN_IS_PARENT)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
  try:
    if not argv or argv[0] not in PROGRAMS:
      name = argv[0] if argv else ''
      raise errors.unknown('program of t5x', name, PROGRAMS)
    gin.config.register_file_reader(recipe.open_gin_file, recipe.is_gin_file)
    sys.argv = argv  # runpy puts the program's file in the first place.
    runpy.run_module(f't5x.{argv[0]}', run_name='__main__', alter_sys=True)
  except Exception as error:
    wrong = _find_input_error(error)
    if wrong is None:
      raise
    print(f'inpars-tpu: {wrong}', file=sys.stderr)
    return WRONG_INPUT
  return 0


def _find_input_error(error: BaseException | None) -> errors.InputError | None:
  """gin raises errors of other types, with those that they come from."""
  while error is not None and not isinstance(error, errors.InputError):
    error = error.__cause__ or error.__context__
  return error


def _end_with_stdin() -> None:
  while os.read(sys.stdin.fileno(), 1):  # Python's own would hold its lock.
    pass
  os._exit(INTERRUPTED)


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
