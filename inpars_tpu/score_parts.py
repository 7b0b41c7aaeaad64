"""Scores of many pairs, in parts that outlive a kill and that processes share.

What filter, score and rerank share: a part's pairs are tokenised on another
thread while the device scores the part before; its scores become a file beside
the output; a later call with the same settings goes on with what is missing.
Which pairs make a part is the caller's, and must depend on the input alone.
"""

import collections
import concurrent.futures
import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence

import tqdm
from etils import epath

from inpars_tpu import errors, files, manifest, passages, processes
from inpars_tpu import reranker as reranker_lib

Pair = tuple[str, str]  # Query, document.

# Of a part: a minute of monoT5-3B on an A100, some of a small T5 on a CPU; and
# enough that few batches are not full.
PART_PAIRS = 2_048

_log = logging.getLogger(__name__)


def split(num_pairs: int) -> list[range]:
  """Places of the pairs of each part.

  split(3_000) -> [range(0, 2048), range(2048, 3000)]
  """
  return [
    range(start, min(start + PART_PAIRS, num_pairs))
    for start in range(0, num_pairs, PART_PAIRS)
  ]


class Parts:
  """The parts of one output: which are missing, and what all of them say."""

  def __init__(
    self,
    job: manifest.Job,
    sizes: Sequence[int],
    others: processes.Processes = processes.ALONE,
  ):
    """Deals the missing parts out.

    Args:
      job: whose output the scores are for.
      sizes: the number of pairs of each part.
      others: which of several processes this is; all make the same parts.

    Raises:
      InputError: parts that were begun with other settings; other processes
        that do not come.
    """
    directory = job.parts_dir()
    self._job, self._sizes, self._others = job, sizes, others
    self._paths = [directory / f'part-{i:06d}.json' for i in range(len(sizes))]
    self._shares = others.share(len(sizes), self._is_missing)
    self.own = self._shares.own  # Numbers of those that this process makes.
    self.is_shared = len(self._shares.numbers) > 1

  def make(
    self, model: reranker_lib.MonoT5, load: Callable[[int], list[Pair]]
  ) -> None:
    """Scores the own parts, in order; each becomes a file, with 9 digits.

    Args:
      model: the reranker.
      load: the pairs of a part; called on another thread, one at a time.
    """

    def tokenise(part: int):
      cut: collections.Counter = collections.Counter()
      return *model.tokenise_passages(load(part), cut), cut

    with contextlib.ExitStack() as stack:
      shown = stack.enter_context(
        tqdm.tqdm(
          total=sum(self._sizes[i] for i in self.own),
          unit='pair',
          desc=f'{self._job.verb}{self._shares.name}',
          mininterval=1,
        )
      )
      executor = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
      missing = list(self.own)
      ahead = executor.submit(tokenise, missing[0]) if missing else None
      while missing:
        inputs, num_passages, cut = ahead.result()
        shown.total += len(inputs) - len(num_passages)
        path = self._paths[missing.pop(0)]
        if missing:
          ahead = executor.submit(tokenise, missing[0])
        scores = model.score_inputs(inputs, shown.update)
        scores = passages.best(scores, num_passages)
        files.write_json(
          path,
          {'scores': [float(f'{s:.9g}') for s in scores], 'counts': dict(cut)},
          shared=self.is_shared,
        )

  @contextlib.contextmanager
  def ending(self) -> Iterator[bool]:
    """Whether this process is to write the output, of all the parts.

    Of several it is whoever finds them all there, which may be two at once, who
    write the same; of those that stay together it is the first one.
    """
    self._others.meet()
    left = [i for i in range(len(self._sizes)) if self._is_missing(i)]
    is_complete = manifest.read(self._job.output) is not None
    if left and not is_complete:
      _log.info(
        '%s%s: done; of %d parts these are left: %s. Whoever makes the last '
        'one writes the output. If a process was lost, start any number of '
        'them again: they go on with what is left',
        self._job.verb, self._shares.name, len(self._sizes),
        self._shares.describe(left),
      )  # fmt: skip
    try:
      yield not left and not is_complete and self._others.is_first
    except FileNotFoundError:
      if manifest.read(self._job.output) is None:
        raise
      _log.info('%s: another process has written the output', self._job.verb)

  def read(self, counts: collections.Counter) -> Iterator[list[float]]:
    """Yields the scores of each part, in order.

    Args:
      counts: inputs that had to be cut or split are added, as
        `reranker.MonoT5.tokenise_passages` does.

    Raises:
      InputError: a part that is not of these pairs.
    """
    for path, size in zip(self._paths, self._sizes, strict=True):
      part = _read(path)
      if len(part['scores']) != size:
        raise errors.InputError(f'{path} is not of these pairs; delete it')
      counts.update(part['counts'])
      yield part['scores']

  def _is_missing(self, number: int) -> bool:
    return not self._paths[number].exists()


def _read(path: epath.Path):
  """FileNotFoundError where another process has cleared it away."""
  try:
    return json.loads(path.read_bytes())
  except ValueError as error:
    raise errors.InputError(f'{path}: not JSON: {error}') from None
