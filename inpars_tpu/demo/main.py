"""`inpars-tpu demo`: the real loop on the invented world, and nothing else.

Writes the world, trains a tokenizer for each model on it, makes random
checkpoints, and calls `run` with gin/demo.gin.
"""

import io
import logging

from etils import epath

from inpars_tpu import files, init, prompts, recipe, run
from inpars_tpu.demo import world

_log = logging.getLogger(__name__)

SEED = 1
_GIN_FILE = 'gin/demo.gin'
_BPE_TOKENS = 1_000
_NUM_PIECES = 600


def main(args) -> None:
  """Runs the demo in args.work_dir."""
  work_dir = epath.Path(args.work_dir)
  settings = recipe.load([_GIN_FILE, *args.gin_files], args.gin_bindings)
  dataset = work_dir / 'data' / 'world'
  _log.info('demo: an invented corpus, random checkpoints, the real loop')
  world.write(dataset, SEED)
  generator, reranker = make_models(work_dir)
  run.run(
    run.Plan(
      dataset=str(dataset),
      data_dir=dataset.parent,
      work_dir=work_dir,
      generator=generator,
      reranker=reranker,
      recipe=settings,
    )
  )


def make_models(folder: epath.Path) -> tuple[epath.Path, epath.Path]:
  """Writes a random generator and a reranker, whose words are the world's.

  Returns:
    Their directories, in `folder`/models.
  """
  texts = [
    f'{document["title"]} {document["text"]}'
    for document in map(world.describe, world.things(SEED))
  ]
  texts.append(prompts.load('gbq').build(''))
  made = []
  for name, config, train in (
    ('gptj', 'gptj_tiny', _train_bpe),
    ('monot5', 't5_tiny', _train_pieces),
  ):
    tokenizer_dir = folder / 'tokenizers' / name
    train(texts, tokenizer_dir)
    made.append(folder / 'models' / name)
    init.init(config, tokenizer_dir, made[-1], seed=SEED)
  return made[0], made[1]


def _train_bpe(texts: list[str], directory: epath.Path) -> None:
  """Writes vocab.json and merges.txt of a byte-level BPE."""
  import tokenizers

  trained = tokenizers.ByteLevelBPETokenizer()
  trained.train_from_iterator(
    texts,
    vocab_size=_BPE_TOKENS,
    special_tokens=['<|endoftext|>'],
    show_progress=False,
  )
  directory.mkdir(parents=True, exist_ok=True)
  trained.save_model(str(directory))


def _train_pieces(texts: list[str], directory: epath.Path) -> None:
  """Writes spiece.model with T5's special ids and monoT5's label words."""
  import sentencepiece

  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(texts),
    model_writer=model,
    vocab_size=_NUM_PIECES,
    hard_vocab_limit=False,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    user_defined_symbols=['▁true', '▁false'],
    num_threads=1,
    minloglevel=2,
  )
  with files.atomic_writer(directory / 'spiece.model') as stream:
    stream.write(model.getvalue())
