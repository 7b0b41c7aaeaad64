"""Trains the two kinds of tokenizer, on texts of the world."""

import io
from collections.abc import Sequence

from etils import epath

from inpars_tpu import files


def train_bpe(texts: Sequence[str], num_pieces: int, folder: epath.Path):
  """Writes vocab.json and merges.txt of a byte-level BPE."""
  import tokenizers

  trained = tokenizers.ByteLevelBPETokenizer()
  trained.train_from_iterator(
    texts,
    vocab_size=num_pieces,
    special_tokens=['<|endoftext|>'],
    show_progress=False,
  )
  folder.mkdir(parents=True, exist_ok=True)
  trained.save_model(str(folder))


def train_pieces(texts: Sequence[str], num_pieces: int, folder: epath.Path):
  """Writes spiece.model with T5's special ids and monoT5's label words."""
  import sentencepiece

  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(texts),
    model_writer=model,
    model_type='bpe',
    vocab_size=num_pieces,
    hard_vocab_limit=False,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    user_defined_symbols=['▁true', '▁false'],
    num_threads=1,
    minloglevel=2,
  )
  with files.atomic_writer(folder / 'spiece.model') as stream:
    stream.write(model.getvalue())
