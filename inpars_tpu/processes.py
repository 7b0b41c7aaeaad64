"""Which of several processes this is, and which files of the work are its own.

Processes share nothing but the output: each makes whole files, and a file that
is there is done. So one that dies takes nothing from the others, and another
number of them goes on where they were.

They are told apart in one of two ways. Plain numbers (`--shard_index`,
`--num_shards`) need no network: each takes its places among all the files. In
JAX's own runtime (`--coordinator_address`) they meet once and deal out what is
missing, evenly. Then they part, because that runtime ends every process as
soon as one is lost. What a process computes is on its own local devices.

`train`, whose step is one program of all devices, and `run` with it, stay
`together` to the end instead.
"""

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator, Sequence

from inpars_tpu import errors

_log = logging.getLogger(__name__)

AUTO = 'auto'  # As an address: JAX finds it, and who is who.
_END_SECONDS = 3_600  # What the first process alone has to write at the end.
_MEET_SECONDS = 600  # Hosts that hash and read the same input are this close.


@dataclasses.dataclass(frozen=True)
class Shares:
  """Which numbers (of files, say) each process makes."""

  index: int  # This process.
  numbers: list[list[int]]  # Of each process.

  @property
  def own(self) -> list[int]:
    """What this process makes."""
    return self.numbers[self.index]

  @property
  def name(self) -> str:
    """' (process 1 of 4)', for what is shown; '' where there is one."""
    count = len(self.numbers)
    return f' (process {self.index} of {count})' if count > 1 else ''

  def describe(self, left: Sequence[int]) -> str:
    """Who has yet to make what is left.

    Shares(0, [[0, 2], [1, 3]]).describe([1, 3]) -> '2 to process 1 (1, 3)'
    """
    parts = []
    for index, numbers in enumerate(self.numbers):
      theirs = [number for number in numbers if number in left]
      if theirs:
        shown = ', '.join(map(str, theirs[:5])) + ', ...' * (len(theirs) > 5)
        parts.append(f'{len(theirs)} to process {index} ({shown})')
    return ', '.join(parts)


@dataclasses.dataclass(frozen=True)
class Processes:
  """How this process is told from the others.

  One of plain numbers; with an address, one of JAX's runtime; with neither,
  what the devices say, which on a TPU pod know their hosts.
  """

  index: int | None = None
  count: int | None = None
  coordinator_address: str | None = None  # host:port of process 0, or AUTO.
  is_joined: bool = False  # They have met, and stay one program.

  @property
  def is_first(self) -> bool:
    """Whether this one does what is done once, where they are together."""
    if not self.is_joined:
      return True
    import jax

    return jax.process_index() == 0

  def meet(self) -> None:
    """Waits for all, where they are together."""
    if self.is_joined:
      from inpars_tpu import together

      together.meet()

  def known_mesh(self, mesh: str | None) -> str | None:
    """--mesh, where the devices may be asked whether it fits them.

    In JAX's runtime no device may be asked for before the processes meet.
    """
    return None if self.coordinator_address else mesh

  def share(self, total: int, is_missing: Callable[[int], bool]) -> Shares:
    """Deals the missing of `total` numbers out.

    To be called before this process makes any: in JAX's runtime it waits until
    every process has looked at what is missing, so that all deal out the same.

    Raises:
      InputError: the other processes do not come.
    """
    missing = [number for number in range(total) if is_missing(number)]
    if self.index is not None and self.coordinator_address is None:
      # Others may have looked at another moment: places among all, then.
      looked = set(missing)
      places = [range(i, total, self.count) for i in range(self.count)]
      return Shares(
        self.index, [[n for n in place if n in looked] for place in places]
      )
    if self.is_joined:
      self.meet()
    elif self.coordinator_address is not None:
      _meet(self, is_parting=True)
    elif not missing:
      return Shares(0, [[]])  # Without starting an accelerator.
    import jax

    index, count = jax.process_index(), jax.process_count()
    return Shares(index, [missing[i::count] for i in range(count)])

  @contextlib.contextmanager
  def together(self) -> Iterator['Processes']:
    """Makes one program of all processes, whose devices are one mesh.

    To be entered before any device is asked for. The loss of one ends all; see
    the module `together`.

    Yields:
      What the same processes are in it.

    Raises:
      InputError: the other processes do not come.
    """
    if self.is_joined or self.coordinator_address is None:
      yield self
      return
    _meet(self, is_parting=False)
    from inpars_tpu import together

    with together.Watch():
      yield dataclasses.replace(self, is_joined=True)


ALONE = Processes(0, 1)


def from_flags(args) -> Processes:
  """Reads the flags `verbs.PROCESSES`.

  Raises:
    InputError: numbers that are none, or that do not fit each other.
  """
  plain = ('shard_index', 'num_shards')
  jax_runtime = ('process_id', 'num_processes', 'coordinator_address')
  given = [
    name
    for name in (*plain, *jax_runtime)
    if getattr(args, name, None) is not None
  ]
  if not given:
    return Processes()
  if given == ['coordinator_address'] and args.coordinator_address == AUTO:
    return Processes(coordinator_address=AUTO)
  wanted = plain if given[0] in plain else jax_runtime
  if sorted(given) != sorted(wanted):
    raise errors.InputError(
      f'{_flags(given)}: give {_flags(plain)}, or {_flags(jax_runtime)}, or '
      f'--coordinator_address={AUTO} alone, or none of them'
    )
  index, count = (_number(args, name) for name in wanted[:2])
  if index >= count:
    raise errors.InputError(
      f'--{wanted[0]}={index} must be below --{wanted[1]}={count}'
    )
  address = args.coordinator_address
  if address is not None:
    host, _, port = address.rpartition(':')
    if not host or not port.isdecimal():
      raise errors.InputError(
        f'--coordinator_address={address} is not HOST:PORT'
      )
  return Processes(index, count, address)


def _flags(names: Sequence[str]) -> str:
  return ' '.join(f'--{name}' for name in names)


def _number(args, name: str) -> int:
  value = getattr(args, name)
  if not (value.isascii() and value.isdecimal()):
    raise errors.InputError(f'--{name}={value} is no number')
  return int(value)


def _meet(processes: Processes, is_parting: bool) -> None:
  """Waits for all processes, and learns their devices; may let go of them."""
  import jax

  # Its handler would take the place of ours, and SIGTERM no longer end us.
  jax.config.update('jax_enable_preemption_service', False)
  failures: list[Exception] = []
  address = processes.coordinator_address
  known = () if address == AUTO else (address, processes.count, processes.index)

  def initialize() -> None:
    try:
      jax.distributed.initialize(
        *known,
        cluster_detection_method='deactivate' if known else None,
        # Its own end of patience aborts the process, so ours is earlier.
        initialization_timeout=_MEET_SECONDS + 60,
        shutdown_timeout_seconds=_END_SECONDS,
      )
    except Exception as error:
      failures.append(error)

  _log.info('waiting for all processes, --coordinator_address=%s', address)
  # On another thread, so that an interrupt ends the wait.
  thread = threading.Thread(target=initialize, daemon=True)
  thread.start()
  thread.join(_MEET_SECONDS)
  if thread.is_alive() or failures:
    reason = failures[0] if failures else f'waited {_MEET_SECONDS} s'
    raise errors.InputError(
      f'--coordinator_address={address}: the processes did not meet '
      f'({reason}): start them all, with an address of process 0 and a free '
      'port, or give --shard_index and --num_shards'
    )
  jax.local_devices()  # Exchanges what devices there are.
  if is_parting:
    jax.distributed.shutdown()
