"""`inpars-tpu demo`: the real loop on the invented world, and nothing else.

Writes the world, trains a tokenizer for each model on it, makes random
checkpoints, and calls `run` with gin/demo.gin.
"""

import logging

from etils import epath

from inpars_tpu import init, prompts, recipe, run
from inpars_tpu.demo import pieces, words, world

_log = logging.getLogger(__name__)

SEED = 1
_GIN_FILE = 'gin/demo.gin'
_NUM_TEXTS = 240
_NUM_PIECES = 800


def main(args) -> None:
  """Runs the demo in args.work_dir."""
  work_dir = epath.Path(args.work_dir)
  settings = recipe.load([_GIN_FILE, *args.gin_files], args.gin_bindings)
  dataset = work_dir / 'data' / 'world'
  _log.info('demo: an invented corpus, random checkpoints, the real loop')
  world.write(dataset, SEED, num_things=240, num_questions=40)
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
  things = world.draw_things(words.TARGET, SEED, _NUM_TEXTS)
  texts = [*map(world.describe, things), prompts.load('gbq').build('')]
  made = []
  for name, config, train in (
    ('gptj', 'gptj_tiny', pieces.train_bpe),
    ('monot5', 't5_tiny', pieces.train_pieces),
  ):
    tokenizer_dir = folder / 'tokenizers' / name
    train(texts, _NUM_PIECES, tokenizer_dir)
    made.append(folder / 'models' / name)
    init.init(config, tokenizer_dir, made[-1], seed=SEED)
  return made[0], made[1]
