"""`inpars-tpu demo`: the real loop on the invented world, and nothing else.

Writes the world's target domain, and calls `run` with gin/demo.gin and the
checkpoints that ship.
"""

import logging
import pathlib

from etils import epath

from inpars_tpu import recipe, run
from inpars_tpu.demo import world

_log = logging.getLogger(__name__)

_GIN_FILE = 'gin/demo.gin'
# What `python -m inpars_tpu.demo.pretrain` writes.
CHECKPOINTS = pathlib.Path(__file__).parent / 'checkpoints'


def main(args) -> None:
  """Runs the demo in args.work_dir."""
  work_dir = epath.Path(args.work_dir)
  settings = recipe.load([_GIN_FILE, *args.gin_files], args.gin_bindings)
  dataset = work_dir / 'data' / 'world'
  _log.info('demo: an invented corpus, small checkpoints, the real loop')
  world.write(dataset, settings.SEED)
  run.run(
    run.Plan(
      dataset=str(dataset),
      data_dir=dataset.parent,
      work_dir=work_dir,
      generator=CHECKPOINTS / 'gptj',
      reranker=CHECKPOINTS / 'monot5',
      recipe=settings,
    )
  )
