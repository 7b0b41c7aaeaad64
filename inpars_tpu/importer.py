"""Corpora of other forms, made into BEIR's layout.

The stages read a corpus by offset, so it must be a plain file of JSON lines;
this reads what is not: TSV, JSON lines with other field names, gz and zst, a
pipe. One document is held at a time.
"""

import contextlib
import csv
import dataclasses
import gzip
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from etils import epath

from inpars_tpu import collection, errors, files, manifest, stores

# A field of a TSV file: the csv module's own limit is 128 kB.
_MAX_FIELD = 1 << 28
_FORMATS = {'.jsonl': 'jsonl', '.json': 'jsonl', '.ndjson': 'jsonl',
            '.tsv': 'tsv', '.txt': 'tsv'}  # fmt: skip
_BLOCK = 1 << 16
_GZIP, _ZSTD = b'\x1f\x8b', b'\x28\xb5\x2f\xfd'


@dataclasses.dataclass(frozen=True)
class Form:
  """How the records of a file are to be read.

  Attributes:
    format: 'jsonl' or 'tsv'; None: what the file's name says.
    columns: names of a TSV file's columns; None: its first line has them.
    id_field, title_field, text_field: names of what is read; a title may be
      missing.
    quoted: fields of a TSV file may stand in quotes, with tabs, newlines and
      doubled quotes in them; else a quote is a character like another.
  """

  format: str | None = None
  columns: tuple[str, ...] | None = None
  id_field: str = '_id'
  title_field: str = 'title'
  text_field: str = 'text'
  quoted: bool = False


def main(args) -> None:
  """`inpars-tpu import`."""
  form = Form(
    args.format, _names(args.columns), args.id_field, args.title_field,
    args.text_field, args.quoted,
  )  # fmt: skip
  import_corpus(
    args.corpus, args.output, form,
    queries=args.queries, query_columns=_names(args.query_columns),
    qrels=args.qrels,
  )  # fmt: skip


def import_corpus(
  corpus: files.PathLike,
  output: files.PathLike,
  form: Form,
  *,
  queries: files.PathLike | None = None,
  query_columns: tuple[str, ...] | None = None,
  qrels: files.PathLike | None = None,
) -> None:
  """Writes a directory in BEIR's layout.

  Args:
    corpus: documents; may be a pipe, or '-' for stdin.
    output: the directory.
    form: of `corpus`, and but for the columns of `queries`.
    queries: queries, without titles; None: none.
    query_columns: as `form.columns`.
    qrels: BEIR's or TREC's; None: none.

  Raises:
    InputError: with its line number, what cannot be read; nothing is written
      then.
  """
  if qrels is not None and queries is None:
    raise errors.InputError(
      '--qrels needs --queries: the texts of what it asks'
    )
  query_form = dataclasses.replace(form, columns=query_columns)
  sources = {'corpus': corpus, 'queries': queries, 'qrels': qrels}
  given = {name: path for name, path in sources.items() if path is not None}
  plain = {name: p for name, p in given.items() if not _is_pipe(p)}
  job = manifest.begin_directory(
    'import', output,
    settings={
      **dataclasses.asdict(form), 'columns': _list(form.columns),
      'query_columns': _list(query_columns),
      'pipes': sorted(given.keys() - plain.keys()),
    },
    inputs={name: files.must_be_file(p, name) for name, p in plain.items()},
  )  # fmt: skip
  if job.is_complete:
    return
  try:
    counts = {'documents': _write(job.output, 'corpus', corpus, form)}
    opened = collection.Corpus(job.output / 'corpus.jsonl')
    if queries is not None:
      counts['queries'] = _write(job.output, 'queries', queries, query_form)
      texts = collection.read_queries(job.output / 'queries.jsonl')
    if qrels is not None:
      judged = collection.read_qrels(qrels)
      collection.check_qrels(qrels, judged, texts, opened)
      counts['judgements'] = _write_qrels(job.output, judged)
  except errors.InputError:
    job.output.rmtree()  # Ours alone: begin_directory takes no other.
    raise
  job.finish(counts=counts)


def read(
  path: files.PathLike, what: str, form: Form
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (line number, {'_id', 'title', 'text'}) of every record."""
  name = os.fspath(path)
  format_ = form.format or _guess_format(name)
  try:
    with _open(path, what) as stream:
      if format_ == 'jsonl':
        records = _json_records(name, stream)
      else:
        records = _tsv_records(name, stream, form)
      for number, record in records:
        yield number, _normalise(name, number, record, form)
  except (EOFError, OSError, csv.Error, UnicodeDecodeError) as error:
    if isinstance(error, OSError) and error.errno is not None:
      raise
    raise errors.InputError(f'{name}: cannot be read: {error}') from None


def _write(directory, name: str, path, form: Form) -> int:
  def records():
    for _, record in read(path, name, form):
      if name == 'queries':
        del record['title']
      yield record

  try:
    return files.write_jsonl(directory / f'{name}.jsonl', records())
  except UnicodeEncodeError:  # Half of a surrogate pair, escaped in JSON.
    raise errors.InputError(f'{path}: has text that is no Unicode') from None


def _write_qrels(directory: epath.Path, qrels: collection.Qrels) -> int:
  lines = [
    f'{query_id}\t{doc_id}\t{relevance}\n'
    for query_id, judged in qrels.items()
    for doc_id, relevance in judged.items()
  ]
  files.write_text(
    directory / 'qrels' / 'test.tsv',
    'query-id\tcorpus-id\tscore\n' + ''.join(lines),
  )
  return len(lines)


@contextlib.contextmanager
def _open(path: files.PathLike, what: str) -> Iterator[BinaryIO]:
  """Opens a plain file or a compressed one; its first bytes say which."""
  with contextlib.ExitStack() as stack:
    if os.fspath(path) == '-':
      stream = sys.stdin.buffer
    else:
      source = files.must_be_file(path, what)
      stream = stack.enter_context(stores.local(source).open('rb'))
    if not hasattr(stream, 'peek'):
      stream = io.BufferedReader(stream)
    head = stream.peek(4)[:4]
    if head.startswith(_GZIP):
      stream = stack.enter_context(gzip.open(stream))
    elif head == _ZSTD:
      stream = io.BufferedReader(_Zstd(stream), _BLOCK)
    yield stream


class _Zstd(io.RawIOBase):
  """The content of zst frames; zstandard's own reader takes a cut one as it is.

  Raises EOFError where the last frame is not whole.
  """

  def __init__(self, stream: BinaryIO):
    import zstandard  # Only for files of this kind.

    self._error = zstandard.ZstdError
    self._new = lambda: zstandard.ZstdDecompressor().decompressobj()
    self._stream, self._frame = stream, None
    self._packed = self._content = b''

  def readable(self) -> bool:
    return True

  def readinto(self, buffer) -> int:
    while not self._content:
      self._packed = self._packed or self._stream.read(_BLOCK)
      if not self._packed:
        if self._frame is not None:
          raise EOFError('it was cut off')
        return 0
      self._frame = self._frame or self._new()
      try:
        self._content = self._frame.decompress(self._packed)
      except self._error as error:
        raise EOFError(error) from None
      self._packed = self._frame.unused_data
      if self._frame.eof:
        self._frame = None
    size = min(len(buffer), len(self._content))
    buffer[:size] = self._content[:size]
    self._content = self._content[size:]
    return size


def _json_records(name, stream) -> Iterator[tuple[int, dict[str, Any]]]:
  for number, line in enumerate(stream, 1):
    text = files.decode_line(name, number, line)
    if text is not None:
      yield number, files.parse_record(name, number, text, ())


def _tsv_records(
  name: str, stream: BinaryIO, form: Form
) -> Iterator[tuple[int, dict[str, Any]]]:
  columns = form.columns
  for number, cells in _tsv_rows(name, stream, form.quoted):
    if columns is None:
      columns = tuple(cells)
      for field in (form.id_field, form.text_field):
        if field not in columns:
          raise errors.InputError(
            f'{name}: its first line has no column {field!r}: '
            f'{", ".join(columns)[:200]}; name the columns: --columns=_id,text'
          )
      continue
    if len(cells) != len(columns):
      raise errors.InputError(
        f'{name}:{number}: {len(cells)} columns, not {len(columns)}: '
        f'{", ".join(columns)}'
        + ('' if form.quoted else '; --quoted, if quotes stand around tabs')
      )
    yield number, dict(zip(columns, cells, strict=True))


def _tsv_rows(name, stream, quoted: bool) -> Iterator[tuple[int, list[str]]]:
  if not quoted:
    for number, line in enumerate(stream, 1):
      text = files.decode_line(name, number, line)
      if text is not None:
        yield number, text.split('\t')
    return
  csv.field_size_limit(_MAX_FIELD)
  text = io.TextIOWrapper(stream, encoding='utf-8-sig', newline='')
  reader = csv.reader(text, 'excel-tab', strict=True)
  try:
    for cells in reader:
      if cells:
        yield reader.line_num, cells
  finally:
    text.detach()  # Who opened the stream closes it.


def _normalise(
  name: str, number: int, record: dict[str, Any], form: Form
) -> dict[str, str]:
  found = {}
  for ours, theirs in (
    ('_id', form.id_field),
    ('title', form.title_field),
    ('text', form.text_field),
  ):
    value = record.get(theirs)
    if value is None and ours == 'title':
      value = ''
    if type(value) is int and ours == '_id':
      value = str(value)  # 7 and "7" are one id; 007 is no JSON.
    if not isinstance(value, str):
      problem = 'is missing' if value is None else 'is not a string'
      raise errors.InputError(f'{name}:{number}: field {theirs!r} {problem}')
    found[ours] = value
  collection.check_id(name, number, found['_id'])
  return found


def _guess_format(name: str) -> str:
  stem = name.removesuffix('.gz').removesuffix('.zst')
  suffix = os.path.splitext(stem)[1].lower()
  if suffix not in _FORMATS:
    raise errors.InputError(
      f'{name}: its name does not say what it is: give --format=jsonl or tsv'
    )
  return _FORMATS[suffix]


def _is_pipe(path: files.PathLike) -> bool:
  name = os.fspath(path)
  return name == '-' or collection.is_pipe(name)


def _names(flag: str | None) -> tuple[str, ...] | None:
  return None if flag is None else tuple(flag.split(','))


def _list(names: tuple[str, ...] | None) -> list[str] | None:
  return None if names is None else list(names)  # As JSON gives it back.
