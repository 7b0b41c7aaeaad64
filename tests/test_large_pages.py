"""Asking for large pages: when, with what, and what the process keeps."""

import subprocess
import sys

import pytest

from inpars_tpu import large_pages, verbs

BEGUN_AGAIN = """
import os, sys
from inpars_tpu import large_pages
first = os.environ.setdefault('FIRST', str(os.getpid()))
large_pages.ask()
print(first == str(os.getpid()), os.environ['GLIBC_TUNABLES'])
print(sys.argv[1:], sys.stdin.read(), sys.flags.utf8_mode)
"""
TRAINS = """
import sys
from inpars_tpu import cli, large_pages
large_pages.ask = lambda: sys.exit(99)
cli.run_and_exit()
"""


@pytest.fixture
def kernel(tmp_path, monkeypatch):
  """A kernel that gives large pages to who asks, and glibc 2.36."""
  file = tmp_path / 'enabled'
  file.write_text('always [madvise] never\n')
  monkeypatch.setattr(large_pages, '_KERNEL', file)
  monkeypatch.setattr('platform.libc_ver', lambda: ('glibc', '2.36'))
  monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
  return file


def test_asks_where_the_kernel_waits_for_it(kernel):
  assert large_pages.environment() == {
    'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'
  }
  for said in ('[always] madvise never\n', 'always madvise [never]\n'):
    kernel.write_text(said)
    assert large_pages.environment() == {}
  kernel.unlink()
  assert large_pages.environment() == {}


@pytest.mark.parametrize(
  ('library', 'asks'),
  [
    (('glibc', '2.9'), False),
    (('glibc', '2.34'), False),
    (('glibc', '2.35'), True),
    (('glibc', '2.100.1'), True),
    (('', ''), False),  # musl.
  ],
)
def test_asks_a_glibc_that_knows_of_it(kernel, monkeypatch, library, asks):
  monkeypatch.setattr('platform.libc_ver', lambda: library)
  assert bool(large_pages.environment()) == asks


def test_what_the_user_says_stays(kernel, monkeypatch):
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=0')
  assert large_pages.environment() == {}
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.arena_max=4')
  assert large_pages.environment() == {
    'GLIBC_TUNABLES': 'glibc.malloc.arena_max=4:glibc.malloc.hugetlb=1'
  }


def test_the_process_begins_again_with_all_it_had(monkeypatch):
  monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
  if not large_pages.environment():
    pytest.skip('this machine has no large pages for the asking')
  done = subprocess.run(
    [sys.executable, '-X', 'utf8', '-c', BEGUN_AGAIN, 'two words', '--x=$1'],
    input='piped',
    capture_output=True,
    text=True,
  )
  assert done.stdout.splitlines() == [
    'True glibc.malloc.hugetlb=1',
    "['two words', '--x=$1'] piped 1",
  ], done.stderr


@pytest.mark.parametrize('verb', [*verbs.VERBS, '--help'])
def test_who_trains_asks(verb):
  asks = verb in ('demo', 'run', 'train')
  done = subprocess.run(
    [sys.executable, '-c', TRAINS, verb, '--help'], capture_output=True
  )
  assert done.returncode == (99 if asks else 0)
