"""Object stores (`gs://`): read by a local copy, written whole.

A store has names and no folders, no append and no rename: an object appears
whole when its upload ends, or not at all. So what is read by offset, mapped,
or handed to a library that wants files is copied to this machine first, once
for each version that the store has; and what is written is whole here before
it goes up. Paths are `epath.Path`s, local or not; a local one is its own copy.

epath reaches `gs://` by gcsfs, and by TensorFlow where that is installed, whose
answers may be five seconds old and which no emulator can stand in for: here it
is always gcsfs.
"""

import contextlib
import fcntl
import functools
import json
import os
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

os.environ.setdefault('EPATH_USE_TF', 'false')  # Read at the first use.
# Asks the bucket for its kind by another protocol, with a minute's patience.
os.environ.setdefault('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')

from etils import epath
from fsspec import config

from inpars_tpu import errors

PathLike = str | os.PathLike

# Other processes write there too, and what they wrote must be seen.
config.conf.setdefault('gcs', {}).setdefault('use_listings_cache', False)

_SCHEME = 'gs://'
CACHE = 'INPARS_TPU_CACHE'  # Variable: where the copies are.


def is_remote(path: PathLike) -> bool:
  """Whether a path is in a store."""
  return os.fspath(path).startswith(_SCHEME)


def absolute(path: PathLike) -> epath.Path:
  """The path from the root; one in a store has no other."""
  return epath.Path(path if is_remote(path) else os.path.abspath(path))


def check(path: PathLike) -> None:
  """Checks that a store can be reached; a local path is not looked at.

  Raises:
    InputError: its package is not installed, no such bucket, no permission.
  """
  if not is_remote(path):
    return
  bucket = os.fspath(path).removeprefix(_SCHEME).partition('/')[0]
  system = _file_system()
  try:  # Needs no more permission than the work itself.
    system.call('GET', 'b/{}/o', bucket, maxResults=1)
  except FileNotFoundError:
    raise errors.InputError(f'gs://{bucket}: no such bucket') from None
  except Exception as error:  # gcsfs has its own kinds, aiohttp has others.
    raise errors.InputError(
      f'gs://{bucket} cannot be read: {" ".join(str(error).split())[:300]}; '
      'gcloud auth application-default login, or a service account of the '
      'machine, gives access'
    ) from None


def local(path: PathLike) -> epath.Path:
  """A local path with what is at `path` now: a file, or a folder with all.

  Of a path in a store it is a copy, as new as the store's; it is kept, and
  only what has changed is fetched the next time.

  Raises:
    FileNotFoundError: nothing is there.
    OSError: the disk has no room for it.
  """
  if not is_remote(path):
    return epath.Path(path)
  name = os.fspath(path).rstrip('/')
  system = _file_system()
  objects = {
    found.removeprefix(name.removeprefix(_SCHEME)).lstrip('/'): info
    for found, info in system.find(name, detail=True).items()
    if not found.endswith('/')  # What stands for an empty folder.
  }
  if not objects:
    raise FileNotFoundError(2, os.strerror(2), name)
  target = _cache_dir() / 'copies' / name.removeprefix(_SCHEME)
  versions = _cache_dir() / 'versions' / name.removeprefix(_SCHEME)
  with _locked(versions):
    _update(system, name, objects, target, versions)
  return epath.Path(target)


def upload(source: PathLike, target: PathLike) -> None:
  """Copies a local file into a store, where it appears whole."""
  _file_system().put_file(os.fspath(source), os.fspath(target))


@contextlib.contextmanager
def local_writer(
  directory: PathLike, last: Sequence[str] = ()
) -> Iterator[epath.Path]:
  """Yields a local folder to fill; its files end up in `directory`.

  Of a local directory it is that one. Of one in a store it is an empty one;
  what is in it goes up at the end, unless that is an error's.

  Args:
    directory: others may keep files there too.
    last: names of files to upload after all others, in their order: without
      them readers take the rest for nothing.
  """
  if not is_remote(directory):
    yield epath.Path(directory)
    return
  with tempfile.TemporaryDirectory(prefix='inpars_tpu-') as folder:
    yield epath.Path(folder)
    names = sorted(
      os.path.relpath(os.path.join(parent, name), folder)
      for parent, _, found in os.walk(folder)
      for name in found
    )
    for name in sorted(
      names, key=lambda name: last.index(name) + 1 if name in last else 0
    ):
      upload(os.path.join(folder, name), f'{os.fspath(directory)}/{name}')


def _update(
  system: Any,
  name: str,
  objects: Mapping[str, Mapping[str, Any]],
  target: pathlib.Path,
  versions: pathlib.Path,
) -> None:
  """Makes the copy what the store has; `objects` by name below `name`."""
  is_folder = '' not in objects
  if target.exists() and target.is_dir() != is_folder:
    target.unlink() if is_folder else shutil.rmtree(target)
  if is_folder and target.exists():
    for path in target.rglob('*'):
      known = '/'.join(path.relative_to(target).parts)
      if path.is_file() and known not in objects and path.suffix != '.part':
        path.unlink()
  for below, info in objects.items():
    path = target / below if below else target
    seen = versions / below / '.version' if below else versions / '.version'
    version = _version(info)
    if path.is_file() and seen.exists() and seen.read_text() == version:
      continue
    seen.unlink(missing_ok=True)
    _download(system, f'{name}/{below}' if below else name, info, path)
    seen.parent.mkdir(parents=True, exist_ok=True)
    seen.write_text(version)


def _download(
  system: Any, name: str, info: Mapping[str, Any], path: pathlib.Path
) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  if shutil.disk_usage(path.parent).free < info['size']:
    raise OSError(28, os.strerror(28), f'{path}, a copy of {name}')
  part = path.parent / f'{path.name}.{uuid.uuid4().hex}.part'
  try:
    system.get_file(name, str(part))
    os.replace(part, path)  # Whoever has the old one open keeps it.
  finally:
    part.unlink(missing_ok=True)


def _version(info: Mapping[str, Any]) -> str:
  """Differs for each upload of an object."""
  fields = ('generation', 'etag', 'md5Hash', 'size', 'updated')
  return json.dumps([str(info.get(field)) for field in fields])


def _cache_dir() -> pathlib.Path:
  folder = os.environ.get(CACHE) or '~/.cache/inpars_tpu/store'
  return pathlib.Path(folder).expanduser()


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
  """Processes of one machine share the copies; one at a time updates one."""
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / '.lock', 'wb') as stream:
    fcntl.flock(stream, fcntl.LOCK_EX)
    yield


@functools.cache
def _file_system():
  import fsspec

  try:
    return fsspec.filesystem('gcs')
  except ImportError:
    raise errors.InputError(
      'gs:// needs gcsfs, which is not installed: pip install gcsfs'
    ) from None
