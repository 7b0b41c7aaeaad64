"""Scores of many pairs, in parts that outlive a kill.

What filter, score and rerank share: a part's pairs are tokenised on another
thread while the device scores the part before; its scores become a file beside
the output; a later call with the same settings goes on after the last of them.
Which pairs make a part is the caller's, and must depend on the input alone.
"""

import collections
import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator, Sequence

import tqdm
from etils import epath

from inpars_tpu import errors, files, manifest, monot5, passages

Pair = tuple[str, str]  # Query, document.

# Of a part: a minute of monoT5-3B on an A100, some of a small T5 on a CPU; and
# enough that few batches are not full.
PART_PAIRS = 2_048


def split(num_pairs: int) -> list[range]:
  """Places of the pairs of each part.

  split(3_000) -> [range(0, 2048), range(2048, 3000)]
  """
  return [
    range(start, min(start + PART_PAIRS, num_pairs))
    for start in range(0, num_pairs, PART_PAIRS)
  ]


def score(
  model: monot5.MonoT5,
  job: manifest.Job,
  sizes: Sequence[int],
  load: Callable[[int], list[Pair]],
  counts: collections.Counter,
) -> Iterator[list[float]]:
  """Yields the scores of each part, with 9 digits, in order.

  Args:
    model: the reranker.
    job: whose output the scores are for.
    sizes: the number of pairs of each part.
    load: the pairs of a part; called on another thread, one part at a time.
    counts: inputs that had to be cut or split are added, as
      `monot5.MonoT5.tokenise_passages` does.

  Raises:
    InputError: parts that were begun with other settings, or a broken one.
  """
  directory = job.parts_dir()
  paths = [directory / f'part-{i:06d}.json' for i in range(len(sizes))]
  missing = [i for i, path in enumerate(paths) if not path.exists()]

  def tokenise(part: int):
    cut: collections.Counter = collections.Counter()
    return *model.tokenise_passages(load(part), cut), cut

  with contextlib.ExitStack() as stack:
    progress = stack.enter_context(
      tqdm.tqdm(total=sum(sizes), unit='pair', desc=job.verb, mininterval=1)
    )
    executor = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
    ahead = executor.submit(tokenise, missing[0]) if missing else None
    for i, path in enumerate(paths):
      if missing and i == missing[0]:
        inputs, num_passages, cut = ahead.result()
        progress.total += len(inputs) - len(num_passages)
        missing.pop(0)
        if missing:
          ahead = executor.submit(tokenise, missing[0])
        scores = model.score_inputs(inputs, progress.update)
        scores = passages.best(scores, num_passages)
        files.write_json(
          path,
          {'scores': [float(f'{s:.9g}') for s in scores], 'counts': dict(cut)},
        )
      else:
        progress.update(sizes[i])
      yield _read(path, sizes[i], counts)


def _read(
  path: epath.Path, size: int, counts: collections.Counter
) -> list[float]:
  part = files.read_json(path, 'scores')
  if len(part['scores']) != size:
    raise errors.InputError(f'{path} is not of these pairs; delete it')
  counts.update(part['counts'])
  return part['scores']
