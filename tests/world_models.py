"""A random generator and a random reranker, whose words are the world's."""

from etils import epath

from inpars_tpu import init, prompts
from inpars_tpu.demo import pieces, words, world

_SEED = 1
_NUM_TEXTS = 240
_NUM_PIECES = 800


def make(folder: epath.Path) -> None:
  """Writes `folder`/models/gptj and `folder`/models/monot5."""
  things = world.draw_things(words.TARGET, _SEED, _NUM_TEXTS)
  texts = [*map(world.describe, things), prompts.load('gbq').build('')]
  for name, config, train in (
    ('gptj', 'gptj_tiny', pieces.train_bpe),
    ('monot5', 't5_tiny', pieces.train_pieces),
  ):
    tokenizer_dir = folder / 'tokenizers' / name
    train(texts, _NUM_PIECES, tokenizer_dir)
    init.init(config, tokenizer_dir, folder / 'models' / name, seed=_SEED)
