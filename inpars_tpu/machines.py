"""Machines that can be rented: what they hold, how fast they are, their price.

Figures are of one chip, from where `Chip.source` says. Memory of a TPU is what
its compiler (libtpu 0.0.42.1) leaves a program, in the message of one that is
too large. What has no source that could be read is None, and is not guessed.

Prices are on demand, for an hour, the host with it, in us-central1 (v4:
us-central2), as Google's billing catalogue has them in SkyPilot's copy (commit
006059e0 of github.com/skypilot-org/skypilot-catalog, catalogs/v8/gcp/vms.csv).
Its rows of the GPUs with 80 GB contradict each other, so those have no price.
"""

import dataclasses
import math

from inpars_tpu import device, errors

PRICES_READ = '2026-11-24'  # The day that the catalogue was read.
THIS_CPU = 'cpu'

_GIB = 2**30
_TPU_DOCS = 'docs.cloud.google.com/tpu/docs'


@dataclasses.dataclass(frozen=True)
class Chip:
  """One chip. A device is what JAX sees as one."""

  backend: str  # As jax calls it: 'tpu', 'gpu' or 'cpu'.
  devices: int
  memory_bytes: int  # Of a device, for programs and their data.
  flops: float | None  # Per second, bfloat16, of a chip at its peak.
  bandwidth: float | None  # Bytes per second of a chip's memory.
  price: float | None  # US dollars for an hour.
  source: str


CHIPS = {
  'v3': Chip('tpu', 2, int(15.48 * _GIB), 123e12, 900e9, 2.0,
             f'{_TPU_DOCS}/v3'),
  'v4': Chip('tpu', 1, int(30.75 * _GIB), 275e12, 1_200e9, 3.22,
             f'{_TPU_DOCS}/v4'),
  'v5litepod': Chip('tpu', 1, int(15.75 * _GIB), 197e12, 819e9, 1.2,
                    f'{_TPU_DOCS}/v5e'),
  'v6e': Chip('tpu', 1, int(31.25 * _GIB), 918e12, 1_638e9, 2.7,
              f'{_TPU_DOCS}/v6e'),
  # A quarter of the memory is what jax leaves alone, unless told otherwise.
  'a100-40gb': Chip('gpu', 1, int(0.75 * 40 * _GIB), 312e12, 1_555e9, 3.67,
                    "NVIDIA's data sheet of the A100 (SXM4)"),
  'a100-80gb': Chip('gpu', 1, int(0.75 * 80 * _GIB), 312e12, 2_039e9, None,
                    "NVIDIA's data sheet of the A100 (SXM4)"),
  'h100': Chip('gpu', 1, int(0.75 * 80 * _GIB), 989e12, 3_350e9, None,
               "NVIDIA's data sheet of the H100 (SXM5)"),
}  # fmt: skip
# Chips -> how they lie, by the type's family; v3 and v4 count cores, 2 a chip.
_SQUARES = {
  4: '2x2', 16: '4x4', 32: '4x8', 64: '8x8', 128: '8x16', 256: '16x16',
}  # fmt: skip
_TOPOLOGIES = {
  'v3': {**_SQUARES, 512: '16x32', 1_024: '32x32'},
  'v4': {4: '2x2x1', 8: '2x2x2', 16: '2x2x4', 32: '2x4x4', 64: '4x4x4',
         128: '4x4x8', 256: '4x8x8', 512: '8x8x8'},
  'v5litepod': {1: '1x1', 8: '2x4', **_SQUARES},
  'v6e': {1: '1x1', 8: '2x4', **_SQUARES},
}  # fmt: skip
_CORES_PER_CHIP = {'v3': 2, 'v4': 2}
_GPUS = (1, 2, 4, 8)
_COMPILERS_NAMES = {'v5litepod': 'v5e'}
_KINDS = {  # What jax calls a device.
  'TPU v3': 'v3',
  'TPU v4': 'v4',
  'TPU v5 lite': 'v5litepod',
  'TPU v6 lite': 'v6e',
  'NVIDIA A100-SXM4-40GB': 'a100-40gb',
  'NVIDIA A100-SXM4-80GB': 'a100-80gb',
  'NVIDIA H100 80GB HBM3': 'h100',
}
_CHIPS_PER_HOST = 4  # Of a TPU; of v5e and v6e up to 8, where they are all.


@dataclasses.dataclass(frozen=True)
class Machine:
  """A number of chips, as a cloud calls them: 'v3-8', 'a100-80gb-1'."""

  name: str
  chip: Chip
  num_chips: int
  num_hosts: int = 1
  topology: str | None = None  # As a TPU's compiler calls it: 'v3:2x2'.
  host_topology: str | None = None  # Of one host.

  @property
  def num_devices(self) -> int:
    """Of all hosts together."""
    return self.num_chips * self.chip.devices

  @property
  def devices_per_host(self) -> int:
    return self.num_devices // self.num_hosts

  @property
  def device(self) -> device.Device:
    """What the programs' choices ask of a device."""
    return device.Device(self.chip.backend, self.chip.memory_bytes)

  @property
  def device_flops(self) -> float | None:
    """Of a device, per second."""
    return self.chip.flops and self.chip.flops / self.chip.devices

  @property
  def device_bandwidth(self) -> float | None:
    """Of a device, bytes per second."""
    return self.chip.bandwidth and self.chip.bandwidth / self.chip.devices

  @property
  def price(self) -> float | None:
    """US dollars for an hour of all of it."""
    return self.chip.price and self.chip.price * self.num_chips


def names() -> list[str]:
  """Every machine that `find` knows."""
  found = [
    f'{family}-{chips * _CORES_PER_CHIP.get(family, 1)}'
    for family, topologies in _TOPOLOGIES.items()
    for chips in sorted(topologies)
  ]
  gpus = [name for name, chip in CHIPS.items() if chip.backend == 'gpu']
  return [*found, *(f'{name}-{n}' for name in gpus for n in _GPUS), THIS_CPU]


def find(name: str) -> Machine:
  """The machine of a name; 'cpu' is the one that this runs on.

  Raises:
    InputError: an unknown name, with the nearest known ones.
  """
  if name == THIS_CPU:
    memory = device.machine_bytes()
    chip = Chip('cpu', 1, memory, None, None, None, 'this machine')
    return Machine(name, chip, num_chips=1)
  if name not in names():
    raise errors.unknown('machine', name, names())
  family, _, count = name.rpartition('-')
  num_chips = int(count) // _CORES_PER_CHIP.get(family, 1)
  topologies = _TOPOLOGIES.get(family)
  if topologies is None:
    return Machine(name, CHIPS[family], num_chips)
  has_large_host = family not in _CORES_PER_CHIP and num_chips == 8
  hosts = 1 if has_large_host else math.ceil(num_chips / _CHIPS_PER_HOST)
  prefix = _COMPILERS_NAMES.get(family, family)
  return Machine(
    name,
    CHIPS[family],
    num_chips,
    hosts,
    f'{prefix}:{topologies[num_chips]}',
    f'{prefix}:{topologies[num_chips // hosts]}',
  )


def here() -> Machine:
  """What this process runs on. Starts its devices."""
  import jax

  devices = jax.devices()
  kind, on = devices[0].device_kind, device.here()
  chip = CHIPS.get(_KINDS.get(kind))
  if chip is None:
    chip = Chip(on.backend, 1, on.memory_bytes, None, None, None, 'itself')
  chip = dataclasses.replace(chip, memory_bytes=on.memory_bytes)
  return Machine(
    f'{len(devices)} {kind}',
    chip,
    max(len(devices) // chip.devices, 1),
    jax.process_count(),
  )
