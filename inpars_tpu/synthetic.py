"""Synthetic queries, as generate writes them and as others published theirs.

A line: `doc_id`, `query` (or `question`, in files of InPars-v1), `log_probs`
(natural log, one per token of the query). Files of the InPars toolkit bring
the text of the document along, as `doc_text`.
"""

import dataclasses
import math
import re
from typing import Any

from etils import epath

from inpars_tpu import collection, errors, files, manifest

_SHARD = re.compile(r'queries-(\d{5})-of-(\d{5})\.jsonl')


@dataclasses.dataclass(frozen=True)
class Query:
  """A query that was written for a document."""

  record: dict[str, Any]  # The line's fields: `query`, `text`, whatever else.
  order: int  # Place of its document in documents.jsonl.

  @property
  def text(self) -> str:
    return self.record['query']

  @property
  def log_probs(self) -> list[float]:
    """[number of tokens], natural log."""
    return self.record['log_probs']


def read(path: files.PathLike, documents_path: files.PathLike) -> list[Query]:
  """Reads the queries of a directory or a file, in their order.

  The text of a document is that of documents.jsonl. A line with `doc_text`
  needs none there; its place is then after all that are.

  Raises:
    InputError: a directory whose generate did not finish, a malformed line, a
      document that is not there.
  """
  documents = {
    document['doc_id']: (order, document['text'])
    for order, document in enumerate(collection.read_documents(documents_path))
  }
  queries = []
  for file in _files(epath.Path(path)):
    for number, record in files.read_jsonl(file, 'queries', ('doc_id',)):
      record = _normalise(file, number, record)
      own_text = record.pop('doc_text', None)
      place = documents.get(record['doc_id'])
      if place is None and own_text is None:
        raise errors.InputError(
          f'{file}:{number}: document {record["doc_id"]!r} is not in '
          f'{documents_path}'
        )
      order, text = place or (len(documents), own_text)
      queries.append(Query(record | {'text': text}, order))
  if not queries:
    raise errors.InputError(f'{path}: no queries')
  return queries


def _files(path: epath.Path) -> list[epath.Path]:
  """The files of complete queries."""
  if not path.is_dir():
    return [path]
  if manifest.read(path) is None:
    raise errors.InputError(
      f'{path} has no {manifest.COMPLETE_NAME}: its generate did not finish; '
      'give the same generate command again to go on'
    )
  found = sorted(
    (match[1], match[2], file)
    for file in path.iterdir()
    if (match := _SHARD.fullmatch(file.name))
  )
  if not found:
    raise errors.InputError(f'{path} holds no queries-?????-of-?????.jsonl')
  totals = {int(total) for _, total, _ in found}
  numbers = [int(number) for number, _, _ in found]
  if len(totals) > 1 or numbers != list(range(max(totals))):
    raise errors.InputError(
      f'{path} has {len(found)} shards and not '
      f'{" or ".join(map(str, sorted(totals)))}: some are missing, or of '
      'another run'
    )
  return [file for _, _, file in found]


def _normalise(
  path: epath.Path, number: int, record: dict[str, Any]
) -> dict[str, Any]:
  """Checks a line, and gives v1's field the name of today."""
  if 'query' not in record and 'question' in record:
    record = {
      'query' if name == 'question' else name: value
      for name, value in record.items()
    }

  def problem(what: str) -> errors.InputError:
    return errors.InputError(f'{path}:{number}: {what}')

  for name, otherwise in (('query', None), ('doc_text', '')):
    if not isinstance(record.get(name, otherwise), str):
      raise problem(f'field {name!r} is missing or not a string')
  log_probs = record.get('log_probs')
  if not isinstance(log_probs, list):
    raise problem("field 'log_probs' is missing or not a list")
  for value in log_probs:
    if type(value) not in (int, float) or not math.isfinite(value):
      raise problem(f'log_probs holds {value!r}, which is no log-probability')
  try:
    files.to_json_line(record)
  except UnicodeEncodeError:  # Half of a surrogate pair, escaped in JSON.
    raise problem('has text that is no Unicode') from None
  return record
