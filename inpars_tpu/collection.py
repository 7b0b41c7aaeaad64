"""A test collection in BEIR's layout: documents, queries, relevance.

`corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`),
`qrels/test.tsv` (header, query-id, corpus-id, score). A corpus is read by
offset, never held: 10 million documents cost 160 MB.
"""

import array
import dataclasses
import hashlib
import logging
import os
import re
import stat
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath

from inpars_tpu import errors, files, stores

_log = logging.getLogger(__name__)

Qrels = dict[str, dict[str, int]]  # query_id -> doc_id -> relevance.

_LONE_SURROGATE = re.compile('[\ud800-\udfff]')
_COMPRESSED = (b'\x1f\x8b', b'\x28\xb5\x2f\xfd')  # gzip, zstd.
_QRELS_HEADER = ('query-id', 'corpus-id', 'score')


@dataclasses.dataclass(frozen=True)
class Document:
  """A document of the corpus, as it stands in the file."""

  doc_id: str
  title: str
  body: str

  @property
  def text(self) -> str:
    """Title, space, body (the body alone without a title), through ftfy.

    What the generator and the reranker read, as in the InPars toolkit; BM25
    indexes the file as it is.
    """
    return clean(self.raw_text)

  @property
  def raw_text(self) -> str:
    """Title, space, body, as they stand in the file."""
    return f'{self.title} {self.body}' if self.title else self.body


def clean(text: str) -> str:
  """Repairs mojibake, odd quotes and lone surrogates, as the toolkit does."""
  import ftfy  # 0.1 s that the command line's help should not pay.

  return ftfy.fix_text(text)


def must_be_corpus(path: files.PathLike) -> epath.Path:
  """A corpus that can be read by offset; a pipe or a zipped one is an error."""
  path = files.must_be_file(path, 'corpus')
  what = None
  if is_pipe(path):
    what = 'a pipe'
  else:
    with stores.local(path).open('rb') as stream:
      if stream.read(4).startswith(_COMPRESSED):
        what = 'compressed'
  if what:
    raise errors.InputError(
      f'{path} is {what}, and documents are read by their place in the file: '
      'inpars-tpu import --format=jsonl --output=DIR makes a plain one of it'
    )
  return path


def is_pipe(path: files.PathLike) -> bool:
  """Whether a local path can be read once only."""
  name = os.fspath(path)
  return os.path.exists(name) and not stat.S_ISREG(os.stat(name).st_mode)


class Corpus:
  """Documents of a corpus.jsonl by position or by id.

  Opening it scans the file once and checks every line.

  Raises:
    InputError: no such file, a line that is not a document, an id that is
      there twice, no document at all.
  """

  def __init__(self, path: files.PathLike):
    self.path = must_be_corpus(path)
    offsets, lengths, keys = (
      array.array('q'),
      array.array('q'),
      array.array('q'),
    )
    offset, file = 0, stores.local(path)
    with file.open('rb') as stream:
      for number, line in enumerate(stream, 1):
        text = files.decode_line(self.path, number, line)
        if text is not None:
          document = _parse_document(self.path, number, text)
          offsets.append(offset)
          lengths.append(len(document.raw_text))
          keys.append(_key(document.doc_id))
        offset += len(line)
    if not offsets:
      raise errors.InputError(f'{self.path}: no documents')
    self._stream = file.open('rb')
    weakref.finalize(self, self._stream.close)
    self._offsets = np.asarray(offsets)  # [N] int64
    self.num_chars = np.asarray(lengths)  # [N] int64, of the raw text.
    keys = np.asarray(keys)  # [N] int64
    self._order = np.argsort(keys, kind='stable')
    self._sorted_keys = keys[self._order]
    self._check_unique()

  def __len__(self) -> int:
    return len(self._offsets)

  def __getitem__(self, index: int) -> Document:
    self._stream.seek(int(self._offsets[index]))
    line = self._stream.readline().removeprefix(b'\xef\xbb\xbf')
    return _parse_document(self.path, index + 1, line.decode())

  def __iter__(self) -> Iterator[Document]:
    for index in range(len(self)):
      yield self[index]

  def find(self, doc_id: str) -> int | None:
    """Position of a document id, or None."""
    low, high = np.searchsorted(
      self._sorted_keys, [_key(doc_id), _key(doc_id) + 1]
    )
    for index in self._order[low:high]:
      if self[index].doc_id == doc_id:
        return int(index)
    return None

  def find_all(self, doc_ids: Sequence[str]) -> np.ndarray:
    """Positions of document ids, [n] int64, -1 where there is none.

    Reads no document: of an id that is not there one in 10^12 is taken for
    another (63 bits of hash, 5 million documents). Whoever reads the document
    sees its id.
    """
    keys = np.fromiter(map(_key, doc_ids), np.int64, len(doc_ids))
    low = np.searchsorted(self._sorted_keys, keys)
    count = np.searchsorted(self._sorted_keys, keys, side='right') - low
    found = self._order[np.minimum(low, len(self) - 1)]
    found = np.where(count > 0, found, -1)
    for place in np.flatnonzero(count > 1):  # Two documents share a hash.
      position = self.find(doc_ids[place])
      found[place] = -1 if position is None else position
    return found

  def text(self, doc_id: str) -> str:
    """A document's text by its id; an unknown id is an InputError."""
    index = self.find(doc_id)
    if index is None:
      raise errors.InputError(f'{self.path} has no document {doc_id!r}')
    return self[index].text

  def _check_unique(self) -> None:
    for place in np.flatnonzero(np.diff(self._sorted_keys) == 0):
      first, second = (self[i] for i in self._order[place : place + 2])
      if first.doc_id == second.doc_id:
        numbers = [
          self._line_number(index) for index in self._order[place : place + 2]
        ]
        raise errors.InputError(
          f'{self.path}:{numbers[1]}: _id {first.doc_id!r} is there twice, '
          f'first in line {numbers[0]}'
        )

  def _line_number(self, index: int) -> int:
    """Counted anew: blank lines hold no document, and only errors ask."""
    self._stream.seek(0)
    before = int(self._offsets[index])
    count = 0
    while before:
      block = self._stream.read(min(before, 1 << 20))
      count += block.count(b'\n')
      before -= len(block)
    return count + 1


def _key(doc_id: str) -> int:
  """63 bits of the id's hash: ids themselves are not kept in memory."""
  digest = hashlib.blake2b(doc_id.encode(), digest_size=8).digest()
  return int.from_bytes(digest) >> 1


def _parse_document(path: epath.Path, number: int, line: str) -> Document:
  record = files.parse_record(path, number, line, ('_id', 'text'))
  title = record.get('title') or ''
  if not isinstance(title, str):
    raise errors.InputError(f"{path}:{number}: field 'title' is not a string")
  check_id(path, number, record['_id'])
  return Document(record['_id'], title, record['text'])


def check_id(path: files.PathLike, number: int, name: str) -> None:
  """An id is one word: runs are columns separated by blanks."""
  if not name or len(name.split()) != 1 or name != name.strip():
    raise errors.InputError(
      f'{path}:{number}: id {name!r} is empty or has white space in it'
    )
  if not name.isprintable():
    raise errors.InputError(
      f'{path}:{number}: id {name!r} has characters that do not print'
    )


def read_queries(path: files.PathLike) -> dict[str, str]:
  """Reads queries.jsonl: query_id -> text as it stands, in file order."""
  queries: dict[str, str] = {}
  for number, record in files.read_jsonl(path, 'queries', ('_id', 'text')):
    check_id(path, number, record['_id'])
    if record['_id'] in queries:
      raise errors.InputError(
        f'{path}:{number}: _id {record["_id"]!r} is there twice'
      )
    queries[record['_id']] = record['text']
  if not queries:
    raise errors.InputError(f'{path}: no queries')
  return queries


def read_qrels(path: files.PathLike) -> Qrels:
  """Reads BEIR's qrels: tab-separated with a header, or TREC's four columns."""
  qrels: Qrels = {}
  for number, line in files.read_lines(path, 'qrels'):
    columns = line.split('\t') if '\t' in line else line.split()
    if number == 1:
      if tuple(columns) == _QRELS_HEADER:
        continue
      if len(columns) != 4:
        raise errors.InputError(
          f'{path}:1: the header must be {"<tab>".join(_QRELS_HEADER)}, '
          f'not {line[:80]!r}'
        )
    if len(columns) == 4:  # TREC: query, iteration, document, relevance.
      columns = [columns[0], columns[2], columns[3]]
    if len(columns) != 3:
      raise errors.InputError(
        f'{path}:{number}: {len(columns)} columns, not query-id, corpus-id, '
        'score'
      )
    query_id, doc_id, relevance = columns
    try:
      qrels.setdefault(query_id, {})[doc_id] = int(relevance)
    except ValueError:
      raise errors.InputError(
        f'{path}:{number}: score {relevance!r} is not an integer'
      ) from None
  if not qrels:
    raise errors.InputError(f'{path}: no judgements')
  return qrels


def check_qrels(
  path: files.PathLike,
  qrels: Qrels,
  queries: Iterable[str],
  corpus: Corpus | None = None,
) -> None:
  """Says in the log which judgements are of no use; they count as they stand.

  Args:
    path: of the qrels, for messages.
    qrels: the judgements.
    queries: ids of the queries that have a text.
    corpus: the documents; None: they are not looked at.

  Raises:
    InputError: none of the queries has a text, or none of the documents is in
      the corpus: these are the qrels of another dataset.
  """
  unknown = missing(qrels, queries)
  doc_ids = list(dict.fromkeys(d for judged in qrels.values() for d in judged))
  absent: list[str] = []
  if corpus is not None:
    places = corpus.find_all(doc_ids)
    absent = [doc_ids[i] for i in np.flatnonzero(places < 0)]
  for ids, all_ids, problem in (
    (unknown, qrels, 'judged queries have no text'),
    (absent, doc_ids, 'judged documents are not in the corpus'),
  ):
    if ids and len(ids) == len(all_ids):
      raise errors.InputError(
        f'{path}: all {len(ids)} {problem} ({errors.some(ids)}): '
        'are these the qrels of this dataset?'
      )
    if ids:
      _log.info(
        '%s: %d of %d %s: %s',
        path, len(ids), len(all_ids), problem, errors.some(ids),
      )  # fmt: skip
  empty = [q for q, judged in qrels.items() if max(judged.values()) <= 0]
  if empty:
    _log.info(
      '%s: %d of %d judged queries have no relevant document, and count 0: %s',
      path, len(empty), len(qrels), errors.some(empty),
    )  # fmt: skip


def read_documents(path: files.PathLike) -> list[dict[str, Any]]:
  """Reads documents.jsonl (`doc_id`, `text`) and checks that ids are unique.

  Lone surrogates of a text, which no tokenizer takes, become U+FFFD.
  """
  documents, seen = [], set()
  for number, record in files.read_jsonl(path, 'documents', ('doc_id', 'text')):
    check_id(path, number, record['doc_id'])
    if record['doc_id'] in seen:
      raise errors.InputError(
        f'{path}:{number}: doc_id {record["doc_id"]!r} is there twice'
      )
    seen.add(record['doc_id'])
    text = _LONE_SURROGATE.sub('\N{REPLACEMENT CHARACTER}', record['text'])
    documents.append({'doc_id': record['doc_id'], 'text': text})
  if not documents:
    raise errors.InputError(f'{path}: no documents')
  return documents


def missing(ids: Iterable[str], known: Iterable[str]) -> list[str]:
  """Ids that are not known, in their order: for an error that names them."""
  known = set(known)
  return [name for name in ids if name not in known]
