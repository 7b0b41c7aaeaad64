"""Files that are whole or absent, and JSON lines that say where they are wrong.

Knows no file of the method; `collection`, `trec` and `manifest` do.
Paths may be local or `gs://` (etils.epath); what a store lacks is in `stores`.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from etils import epath

from inpars_tpu import errors, stores

PathLike = str | os.PathLike

_SHARED_TEMPORARY = re.compile(r'(.+)\.[0-9a-f]{32}\.tmp')

_digests: dict[tuple[str, int, int], str] = {}  # (path, size, mtime) -> sha256


def must_exist(path: PathLike, what: str) -> epath.Path:
  """Returns `path`, or raises InputError that names it and what it is for."""
  path = epath.Path(path)
  if not path.exists():
    raise errors.InputError(f'no {what} at {path}')
  return path


def must_be_file(path: PathLike, what: str) -> epath.Path:
  """As `must_exist`; a folder is an error too."""
  path = must_exist(path, what)
  if path.is_dir():
    raise errors.InputError(f'{path} is a folder; {what} is a file')
  return path


@contextlib.contextmanager
def atomic_writer(
  path: PathLike, *, shared: bool = False
) -> Iterator[BinaryIO]:
  """Opens `path.tmp` to write bytes; `path` appears whole or not at all.

  Args:
    path: the file.
    shared: another process may write it at the same moment: the temporary is
      `path.<random>.tmp`, one for each, and the last one to end stays. A killed
      process leaves it behind, for `clear_temporaries`.
  """
  path = epath.Path(path)
  if stores.is_remote(path):
    with tempfile.NamedTemporaryFile(prefix='inpars_tpu-') as stream:
      yield stream
      stream.flush()
      stores.upload(stream.name, path)
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  unique = f'.{uuid.uuid4().hex}' if shared else ''
  temporary = path.parent / f'{path.name}{unique}.tmp'
  try:
    with temporary.open('wb') as stream:
      yield stream
    _rename(temporary, path, shared)
  except BaseException as error:
    temporary.unlink(missing_ok=True)
    if isinstance(error, OSError) and error.filename is None:
      error.filename = str(path)  # A full disk says no name when it is written.
    raise


def _rename(temporary: epath.Path, path: epath.Path, shared: bool) -> None:
  try:
    temporary.replace(path)
  except FileNotFoundError:
    # Another process may have written it too, and cleared what was left.
    if not (shared and path.exists()):
      raise


def clear_temporaries(directory: PathLike, name: str = '') -> None:
  """Removes what killed processes left of files that they shared.

  Args:
    directory: where they are.
    name: of one file; '': of all.
  """
  if stores.is_remote(directory):
    return
  for path in epath.Path(directory).glob('*.tmp'):
    found = _SHARED_TEMPORARY.fullmatch(path.name)
    if found and name in ('', found[1]):
      path.unlink(missing_ok=True)


def write_text(path: PathLike, text: str, *, shared: bool = False) -> None:
  """Writes a whole UTF-8 text file atomically."""
  with atomic_writer(path, shared=shared) as stream:
    stream.write(text.encode())


def write_json(path: PathLike, value: Any, *, shared: bool = False) -> None:
  """Writes one indented JSON value atomically."""
  text = json.dumps(value, indent=1, ensure_ascii=False) + '\n'
  write_text(path, text, shared=shared)


def to_json_line(record: Any) -> bytes:
  """One record as a UTF-8 line with its newline.

  Raises:
    UnicodeEncodeError: a lone surrogate, which UTF-8 has no bytes for.
  """
  return (json.dumps(record, ensure_ascii=False) + '\n').encode()


def write_jsonl(
  path: PathLike, records: Iterable[Any], *, shared: bool = False
) -> int:
  """Writes records as JSON lines, atomically; returns how many."""
  count = 0
  with atomic_writer(path, shared=shared) as stream:
    for record in records:
      stream.write(to_json_line(record))
      count += 1
  return count


def read_json(path: PathLike, what: str) -> Any:
  """Reads one JSON value; a file that is not JSON is an InputError."""
  path = must_be_file(path, what)
  try:
    return json.loads(path.read_bytes())
  except ValueError as error:
    raise errors.InputError(f'{path}: not JSON: {error}') from None


def read_lines(path: PathLike, what: str) -> Iterator[tuple[int, str]]:
  """Yields (line number from 1, line without its end); skips blank lines.

  Lines end at a newline only (a text may hold U+2028 or a carriage return);
  a byte order mark and the carriage return of a CRLF file are taken off.
  """
  path = must_be_file(path, what)
  with stores.local(path).open('rb') as stream:
    for number, line in enumerate(stream, 1):
      text = decode_line(path, number, line)
      if text is not None:
        yield number, text


def decode_line(path: PathLike, number: int, line: bytes) -> str | None:
  """The text of one raw line; None where it is blank."""
  if number == 1:
    line = line.removeprefix(b'\xef\xbb\xbf')
  if not line.strip():
    return None
  try:
    return line.rstrip(b'\r\n').decode()
  except UnicodeDecodeError as error:
    raise errors.InputError(f'{path}:{number}: not UTF-8: {error}') from None


def parse_record(
  path: PathLike, number: int, line: str, fields: Iterable[str]
) -> dict[str, Any]:
  """Parses one JSON line; `fields` must be there as strings."""
  try:
    record = json.loads(line)
  except ValueError as error:
    raise errors.InputError(f'{path}:{number}: not JSON: {error}') from None
  if not isinstance(record, dict):
    raise errors.InputError(f'{path}:{number}: not a JSON object')
  for field in fields:
    if not isinstance(record.get(field), str):
      problem = 'is not a string' if field in record else 'is missing'
      raise errors.InputError(f'{path}:{number}: field {field!r} {problem}')
  return record


def read_jsonl(
  path: PathLike, what: str, fields: Iterable[str] = ()
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (line number, record); `fields` must be there as strings."""
  fields = tuple(fields)
  for number, line in read_lines(path, what):
    yield number, parse_record(path, number, line, fields)


def sha256(path: PathLike) -> str:
  """Hex digest of a file; remembered while its size and time stay."""
  path = stores.local(path)
  stat = os.stat(path)  # epath's counts whole seconds.
  key = (str(path), stat.st_size, stat.st_mtime_ns)
  if key not in _digests:
    with path.open('rb') as stream:
      digest = hashlib.sha256()
      while block := stream.read(1 << 20):
        digest.update(block)
    _digests[key] = digest.hexdigest()
  return _digests[key]


@contextlib.contextmanager
def directory_writer(
  directory: PathLike, last: Sequence[str] = ()
) -> Iterator[epath.Path]:
  """Yields a local folder to fill, which then replaces `directory`.

  A local one appears whole or not at all. In a store, which has no rename, its
  files go up one by one: whoever must know that all are there writes something
  after them, or looks for those that `stores.local_writer` puts `last`.
  """
  directory = epath.Path(directory)
  if stores.is_remote(directory):
    if directory.exists():
      directory.rmtree()
    with stores.local_writer(directory, last) as folder:
      yield folder
    return
  temporary = directory.parent / f'{directory.name}.tmp'
  for left in (temporary, directory):
    if left.exists():
      left.rmtree()
  temporary.mkdir(parents=True)
  yield temporary
  temporary.rename(directory)


def copy(source: PathLike, target: PathLike) -> None:
  """Copies one file, to or from a store too, atomically."""
  with stores.local(source).open('rb') as stream, atomic_writer(target) as out:
    shutil.copyfileobj(stream, out, 1 << 20)


def list_files(directory: PathLike) -> list[epath.Path]:
  """Every file below a folder, in the order of its relative path."""
  directory = epath.Path(directory)
  found = []
  for entry in directory.iterdir():
    found += list_files(entry) if entry.is_dir() else [entry]
  return sorted(found, key=lambda path: path.relative_to(directory).parts)
