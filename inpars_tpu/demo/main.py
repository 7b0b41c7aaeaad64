"""`inpars-tpu demo`: the real loop on the invented world, and nothing else.

Writes the world's target domain, copies the checkpoints that ship, and calls
`run` with gin/demo.gin.
"""

import logging

from etils import epath

from inpars_tpu import files, recipe, run
from inpars_tpu.demo import world

_log = logging.getLogger(__name__)

_GIN_FILE = 'gin/demo.gin'
# What `python -m inpars_tpu.demo.pretrain` writes.
CHECKPOINTS = epath.Path(__file__).parent / 'checkpoints'


def main(args) -> None:
  """Runs the demo in args.work_dir."""
  work_dir = epath.Path(args.work_dir)
  settings = recipe.load([_GIN_FILE, *args.gin_files], args.gin_bindings)
  dataset = work_dir / 'data' / 'world'
  _log.info('demo: an invented corpus, small checkpoints, the real loop')
  world.write(dataset, settings.SEED)
  models = work_dir / 'models'
  copy_checkpoints(models)
  run.run(
    run.Plan(
      dataset=str(dataset),
      data_dir=dataset.parent,
      work_dir=work_dir,
      generator=models / 'gptj',
      reranker=models / 'monot5',
      recipe=settings,
    )
  )


def copy_checkpoints(folder: epath.Path) -> None:
  """Copies gptj/ and monot5/ out of the package; equal files stay."""
  for path in files.list_files(CHECKPOINTS):
    copy = folder / path.relative_to(CHECKPOINTS)
    if not copy.exists() or copy.read_bytes() != path.read_bytes():
      with files.atomic_writer(copy) as stream:
        stream.write(path.read_bytes())
