"""Tokenizers of model directories: GPT-2's byte-level BPE and T5's pieces.

One owner for which files a tokenizer is read from. Adds no end-of-text token:
callers do.
"""

import re
from collections.abc import Sequence

from etils import epath

from inpars_tpu import errors, files, stores

_END_OF_TEXT = '<|endoftext|>'
_LONE_NEWLINE = re.compile(r'(?<=[!-~])\n(?=[!-~])')


class GPT2Tokenizer:
  """Byte-level BPE from tokenizer.json, or vocab.json and merges.txt."""

  def __init__(self, directory: files.PathLike):
    import tokenizers

    self.directory = files.must_exist(directory, 'tokenizer directory')
    whole = self.directory / 'tokenizer.json'
    vocab, merges = self.directory / 'vocab.json', self.directory / 'merges.txt'
    if whole.exists():
      self._tokenizer = _load(tokenizers.Tokenizer.from_file, whole)
      self._tokenizer.no_truncation()
      self._tokenizer.no_padding()
    elif vocab.exists() and merges.exists():
      self._tokenizer = _load(
        lambda path: tokenizers.ByteLevelBPETokenizer.from_file(
          path, str(stores.local(merges))
        ),
        vocab,
      )
      if self._tokenizer.token_to_id(_END_OF_TEXT) is not None:
        self._tokenizer.add_special_tokens([_END_OF_TEXT])
    else:
      raise errors.InputError(
        f'{self.directory} has neither tokenizer.json nor vocab.json with '
        'merges.txt'
      )
    self.num_tokens = 1 + max(self._tokenizer.get_vocab().values())

  def encode(self, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text."""
    encodings = self._tokenizer.encode_batch(
      list(texts), add_special_tokens=False
    )
    return [encoding.ids for encoding in encodings]

  def cut(self, texts: Sequence[str], max_tokens: int) -> list[str]:
    """Each text up to the character where its `max_tokens`-th token ends."""
    encodings = self._tokenizer.encode_batch(
      list(texts), add_special_tokens=False
    )
    return [
      text
      if len(encoding) <= max_tokens
      else text[: encoding.offsets[max_tokens - 1][1]]
      for text, encoding in zip(texts, encodings, strict=True)
    ]

  def split(self, text: str) -> tuple[str, str]:
    """Cuts a text where no token can cross, as late as one is known.

    After a newline between two characters that print: GPT-2's pattern makes
    such a newline a word of its own. The tokens of the whole are those of the
    two parts, whatever is added at the end.

    split('a b\nc d') -> ('a b\n', 'c d'); split('a b') -> ('', 'a b')
    """
    place = max((m.end() for m in _LONE_NEWLINE.finditer(text)), default=0)
    return text[:place], text[place:]

  def decode(self, ids: Sequence[int]) -> str:
    """Text of token ids, without <|endoftext|>, as the toolkit has it."""
    return self._tokenizer.decode(list(ids), skip_special_tokens=True)

  def ids_with_newline(self) -> list[int]:
    """Every token whose text holds a newline: any of them ends a query."""
    # Byte-level BPE writes the byte 0x0A as the character below.
    vocabulary = self._tokenizer.get_vocab()
    return sorted(i for token, i in vocabulary.items() if 'Ċ' in token)


class T5Tokenizer:
  """SentencePiece from spiece.model, or tokenizer.json of a T5."""

  def __init__(self, directory: files.PathLike):
    self.directory = files.must_exist(directory, 'tokenizer directory')
    pieces = self.directory / 'spiece.model'
    whole = self.directory / 'tokenizer.json'
    self._sentencepiece = self._tokenizer = None
    if pieces.exists():
      import sentencepiece

      self._sentencepiece = _load(
        lambda path: sentencepiece.SentencePieceProcessor(model_file=path),
        pieces,
      )
      self.num_tokens = self._sentencepiece.vocab_size()
      self.eos_id = self._sentencepiece.eos_id()
    elif whole.exists():
      import tokenizers

      self._tokenizer = _load(tokenizers.Tokenizer.from_file, whole)
      self._tokenizer.no_truncation()
      self._tokenizer.no_padding()
      self.num_tokens = 1 + max(self._tokenizer.get_vocab().values())
      self.eos_id = self._tokenizer.token_to_id('</s>')
    else:
      raise errors.InputError(
        f'{self.directory} has neither spiece.model nor tokenizer.json'
      )
    if self.eos_id is None or self.eos_id < 0:
      raise errors.InputError(f'{self.directory}: the tokenizer has no </s>')

  def encode(self, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without </s>."""
    if self._sentencepiece:
      return self._sentencepiece.encode(list(texts))
    encodings = self._tokenizer.encode_batch(
      list(texts), add_special_tokens=False
    )
    return [encoding.ids for encoding in encodings]

  def sentinel_id(self, number: int) -> int:
    """Id of <extra_id_NUMBER>: T5's 100 follow the pieces, the last first.

    Of <extra_id_10>: 32,000 pieces -> 32,089
    """
    found = self.piece_id(f'<extra_id_{number}>')
    return self.num_tokens + 99 - number if found is None else found

  def piece_id(self, piece: str) -> int | None:
    """Id of a piece such as '▁true'; None where there is none."""
    if not self._sentencepiece:
      return self._tokenizer.token_to_id(piece)
    found = self._sentencepiece.piece_to_id(piece)
    return None if found == self._sentencepiece.unk_id() else found


def _load(load, path: epath.Path):
  file = str(stores.local(path))
  try:
    return load(file)
  except Exception as error:  # tokenizers raises plain Exception.
    reason = ' '.join(str(error).split())
    raise errors.InputError(f'{path}: not a tokenizer: {reason}') from None
