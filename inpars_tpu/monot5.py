"""monoT5: its input text and its label words.

The one owner of both for training, filter and rerank alike. What a directory
was trained to read and to say is its `reranker.json`, the known name of a
published checkpoint, or said by the user; never guessed.
"""

import collections
import dataclasses
import re
from collections.abc import Sequence

from etils import epath

from inpars_tpu import errors, files
from inpars_tpu import tokenizer as tokenizer_lib
from inpars_tpu.t5 import truncate

SPEC_NAME = 'reranker.json'
DOCUMENTS_CUT, QUERIES_CUT = 'documents cut', 'queries cut'  # Counted.

_QUERY, _DOCUMENT = '{query}', '{document}'
# (owner, names, false and true word) of published checkpoints, all with
# monoT5's text: github.com/castorini/pygaggle, pygaggle/rerank/base.py.
_PUBLISHED = (
  (
    'castorini',
    r'monot5-((small-msmarco-10k|small-msmarco-100k)'
    r'|(base|large|3b)-msmarco(-10k)?|(base|3b)-med-msmarco)',
    ('false', 'true'),
  ),
  (
    'unicamp-dl',
    r'mt5-base-(en-msmarco|mmarco-v[12]|en-pt-msmarco-v[12])',
    ('no', 'yes'),
  ),
)


@dataclasses.dataclass(frozen=True)
class RerankerSpec:
  """What a reranker reads and says.

  RerankerSpec().text('q', 'd') -> 'Query: q Document: d Relevant:'
  """

  template: str = f'Query: {_QUERY} Document: {_DOCUMENT} Relevant:'
  label_words: tuple[str, str] | None = ('false', 'true')  # For no, for yes.
  logit_id: int | None = None  # RankT5: the score is this token's logit.

  def __post_init__(self):
    for placeholder in (_QUERY, _DOCUMENT):
      if self.template.count(placeholder) != 1:
        raise errors.InputError(
          f'the template {self.template!r} must hold {placeholder} once'
        )
    if (self.label_words is None) == (self.logit_id is None):
      raise errors.InputError('a reranker has either label_words or a logit_id')
    if self.label_words and self.label_words[0] == self.label_words[1]:
      raise errors.InputError(
        f'both label_words are {self.label_words[0]!r}: one for irrelevant, '
        'one for relevant'
      )

  @property
  def field(self) -> str:
    """What its score is called in files."""
    return 'logit' if self.label_words is None else 'log_prob_true'

  def text(self, query: str, document: str) -> str:
    """The input text; braces in the query or the document mean nothing."""
    return ''.join(self.around_document(query, document))

  def around_document(self, query: str, document: str) -> truncate.Parts:
    """The input text; of its three parts the document is the second."""
    before, after = self.template.split(_DOCUMENT)
    return (
      before.replace(_QUERY, query),
      document,
      after.replace(_QUERY, query),
    )

  def around_query(self, query: str, document: str) -> truncate.Parts:
    """The input text; of its three parts the query is the second."""
    before, after = self.template.split(_QUERY)
    return (
      before.replace(_DOCUMENT, document),
      query,
      after.replace(_DOCUMENT, document),
    )


MONOT5 = RerankerSpec()
# RankT5's (arXiv:2210.10634): monoT5's text without ' Relevant:', and the logit
# of <extra_id_10>, which is 32089 in T5's vocabulary.
RANKT5_TEMPLATE = f'Query: {_QUERY} Document: {_DOCUMENT}'
_RANKT5_SENTINEL = 10


def read_spec(
  directory: files.PathLike, label_words: str | None = None
) -> RerankerSpec:
  """Finds out what a model directory reads and says.

  Args:
    directory: of a model, with or without reranker.json.
    label_words: 'false,true', from the user, for a directory that has none.

  Raises:
    InputError: nothing says it, a malformed reranker.json, or `label_words`
      that contradict it.
  """
  directory = files.must_exist(directory, 'model directory')
  given = None if label_words is None else _parse_words(label_words)
  if (directory / SPEC_NAME).exists():
    spec = _read_json(directory / SPEC_NAME)
    if given and given != spec.label_words:
      said = spec.label_words or f'logit_id {spec.logit_id}'
      raise errors.InputError(
        f'--label_words={label_words}, but {directory / SPEC_NAME} says {said}'
      )
    return spec
  if given:
    return dataclasses.replace(MONOT5, label_words=given)
  published = _published_words(directory)
  if published:
    return dataclasses.replace(MONOT5, label_words=published)
  raise errors.InputError(
    f'{directory} does not say which words it was trained to say: give '
    '--label_words=false,true (the word for irrelevant, the word for '
    f'relevant), or put a {SPEC_NAME} there such as '
    '{"template": "Query: {query} Document: {document} Relevant:", '
    '"label_words": ["false", "true"]}; RankT5 has "logit_id": 32089 in place '
    'of the words'
  )


def rankt5_spec(
  directory: files.PathLike, tokenizer: tokenizer_lib.T5Tokenizer
) -> RerankerSpec:
  """What a T5 will read and say once it is trained with RankT5's loss.

  A directory that says a logit keeps what it says. To any other, a monoT5 or a
  T5 that is no reranker yet, RankT5's own text and logit are taught.
  """
  path = epath.Path(directory) / SPEC_NAME
  if path.exists():
    spec = _read_json(path)
    if spec.logit_id is not None:
      return spec
  return RerankerSpec(
    RANKT5_TEMPLATE, None, tokenizer.sentinel_id(_RANKT5_SENTINEL)
  )


def write_spec(directory: files.PathLike, spec: RerankerSpec) -> None:
  """Writes reranker.json, as every model directory of ours has it."""
  record = {k: v for k, v in vars(spec).items() if v is not None}
  files.write_json(epath.Path(directory) / SPEC_NAME, record)


def label_ids(
  spec: RerankerSpec, tokenizer: tokenizer_lib.T5Tokenizer
) -> list[int]:
  """Ids of [false word, true word], or [logit_id].

  Raises:
    InputError: a word that is not one piece of the vocabulary.
  """
  if spec.label_words is None:
    return [spec.logit_id]
  ids = []
  for word in spec.label_words:
    tokens = tokenizer.encode([word])[0]
    if len(tokens) != 1:
      raise errors.InputError(
        f'label word {word!r} is {len(tokens)} pieces of the vocabulary of '
        f'{tokenizer.directory}; the score is read from one: give words that '
        'are one piece each'
      )
    if tokenizer.piece_id(f'▁{word}') != tokens[0]:
      raise errors.InputError(
        f'label word {word!r} is not in the vocabulary of {tokenizer.directory}'
      )
    ids += tokens
  return ids


def build_inputs(
  spec: RerankerSpec,
  tokenizer: tokenizer_lib.T5Tokenizer,
  queries: Sequence[str],
  documents: Sequence[str],
  max_tokens: int,
  counts: collections.Counter | None = None,
) -> list[list[int]]:
  """Tokenises (query, document) pairs for the encoder.

  The input is the whole text in one piece, then </s>. Where that is too long,
  the document keeps as many of its tokens as there is room for; a query that
  leaves no room for any is cut too. What follows the document in the template
  always stays: published code cuts it off.

  Args:
    spec: the template.
    tokenizer: the model's.
    queries: one for each document.
    documents: texts.
    max_tokens: the most that an input may have, </s> included.
    counts: if given, DOCUMENTS_CUT and QUERIES_CUT (apart: a pair counts once)
      are added to it.

  Returns:
    Token ids of each pair, ending in </s>, not padded.

  Raises:
    InputError: the template alone does not fit.
  """
  room = max_tokens - 1  # For </s>.
  pairs = list(zip(queries, documents, strict=True))
  inputs, num_long = truncate.fit(
    tokenizer.encode, [spec.around_document(*pair) for pair in pairs], room
  )
  full = [i for i, tokens in enumerate(inputs) if tokens is None]
  again, _ = truncate.fit(
    tokenizer.encode, [spec.around_query(pairs[i][0], '') for i in full], room
  )
  if None in again:
    raise errors.InputError(
      f'max_tokens {max_tokens} has no room for the template {spec.template!r}'
    )
  for i, tokens in zip(full, again, strict=True):
    inputs[i] = tokens
  for reason, count in (
    (DOCUMENTS_CUT, num_long - len(full)),
    (QUERIES_CUT, len(full)),
  ):
    if counts is not None and count:
      counts[reason] += count
  return [[*tokens, tokenizer.eos_id] for tokens in inputs]


def _parse_words(label_words: str) -> tuple[str, str]:
  words = label_words.split(',')
  if len(words) != 2 or not all(word.strip() == word != '' for word in words):
    raise errors.InputError(
      f'--label_words={label_words} is not two words such as false,true'
    )
  return words[0], words[1]


def _read_json(path: epath.Path) -> RerankerSpec:
  record = files.read_json(path, SPEC_NAME)
  types = {'template': str, 'label_words': list, 'logit_id': int}
  if not isinstance(record, dict) or 'template' not in record:
    raise errors.InputError(f'{path}: needs a template')
  for name, value in record.items():
    if name not in types:
      raise errors.unknown(f'field in {path}:', name, types)
    if type(value) is not types[name]:
      raise errors.InputError(f'{path}: {name} is no {types[name].__name__}')
  words = record.get('label_words')
  if words is not None and list(map(type, words)) != [str, str]:
    raise errors.InputError(f'{path}: label_words: [false word, true word]')
  try:
    return RerankerSpec(
      record['template'], words and tuple(words), record.get('logit_id')
    )
  except errors.InputError as error:
    raise errors.InputError(f'{path}: {error}') from None


def _published_words(directory: epath.Path) -> tuple[str, str] | None:
  """Of a published name, downloaded or in Hugging Face's cache."""
  for owner, names, words in _PUBLISHED:
    cached = [
      part.partition(f'models--{owner}--')[2] for part in directory.parts
    ]
    if any(re.fullmatch(names, name) for name in (directory.name, *cached)):
      return words
  return None
