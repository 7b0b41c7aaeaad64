"""Large pages of memory for a process whose CPU trains.

XLA asks for the memory of each call anew, and gives it back: hundreds of
megabytes a microbatch, which the kernel hands out in pages of 4 KiB, a fault
for each. In pages of 2 MiB a step of a T5 of 16M parameters takes a tenth
less of CPU time. glibc asks for them where GLIBC_TUNABLES says so, and reads
that only when a process begins.
"""

import os
import pathlib
import platform
import sys
from collections.abc import Mapping

_VARIABLE = 'GLIBC_TUNABLES'
_TUNABLE = 'glibc.malloc.hugetlb'
_SINCE = (2, 35)  # Of glibc; older ones know no such tunable.
_KERNEL = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')


def ask() -> None:
  """Begins this process's program again with large pages, where it has none.

  To be called before anything worth keeping is done. The process keeps its
  number, streams and arguments.
  """
  more = environment()
  if more and sys.executable:
    os.environ.update(more)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def environment() -> Mapping[str, str]:
  """What a process that trains is begun with beside os.environ.

  Nothing where the kernel has no large pages to ask for, or gives them to all;
  where the C library is another; where the user has said what to do.
  """
  said = os.environ.get(_VARIABLE, '')
  if _TUNABLE in said or not (_is_for_the_asking() and _is_glibc()):
    return {}
  return {_VARIABLE: ':'.join(filter(None, (said, f'{_TUNABLE}=1')))}


def _is_for_the_asking() -> bool:
  try:
    return '[madvise]' in _KERNEL.read_text()
  except OSError:  # Not Linux, or one without them.
    return False


def _is_glibc() -> bool:
  name, version = platform.libc_ver()
  if name != 'glibc':
    return False
  return tuple(int(n) for n in version.split('.')[:2]) >= _SINCE
