"""A world, a random generator, and a reranker that compiles fast."""

import pathlib
import shutil

from inpars_tpu import files, init
from inpars_tpu.demo import world
from tests import world_models


def write(folder: pathlib.Path, num_things: int) -> None:
  """data/world, models/gptj and models/monot5, as the demo lays them out.

  The reranker has one layer; a generator of one would write nothing that is to
  be found.
  """
  world.write(
    folder / 'data' / 'world', 1, num_things=num_things, num_questions=6
  )
  world_models.make(folder)
  reranker = folder / 'models' / 'monot5'
  config = files.read_json(reranker / 'config.json', 'config')
  config |= {'num_layers': 1, 'num_decoder_layers': 1}
  files.write_json(folder / 'monot5.json', config)
  shutil.rmtree(reranker)
  tokenizer = folder / 'tokenizers' / 'monot5'
  init.init(folder / 'monot5.json', tokenizer, reranker, seed=1)
