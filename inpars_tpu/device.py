"""What a device can hold: this process's, or one that is only planned for."""

import os
from typing import NamedTuple

# Larger batches gain a CPU little; its matrix products take rows five by five.
MAX_ROWS = {'cpu': 40}
_MAX_ROWS_ELSEWHERE = 512
# A step that reads all weights is bound by the memory below so many rows: peak
# FLOP/s over bytes/s is 137 on a TPU v3, 156 on an A100, 184 on an H200.
_ENOUGH_ROWS = 128
_SHARE = 0.75  # Of what the weights leave, for rows; the rest: temporaries.


class Device(NamedTuple):
  """All that is asked of a device to fit the work to it."""

  backend: str  # As jax calls it: 'cpu', 'gpu', 'tpu'.
  memory_bytes: int


def here() -> Device:
  """One of this process's devices."""
  import jax  # Here: what is planned for another machine starts no device.

  return Device(jax.default_backend(), memory_bytes())


def memory_bytes() -> int:
  """Memory of one device: its own limit; of a CPU its part of the machine's."""
  import jax

  stats = jax.local_devices()[0].memory_stats() or {}
  return stats.get('bytes_limit', machine_bytes() // jax.local_device_count())


def machine_bytes() -> int:
  """Memory of this machine."""
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def fit_rows(
  row_bytes: float, weight_bytes: float, on: Device | None = None
) -> int:
  """Rows that one device holds beside its weights.

  Where not as many as are useful, a power of two, at least 1: the same on equal
  machines.

  Args:
    row_bytes: of one row.
    weight_bytes: of the device's weights.
    on: the device; None: this process's.
  """
  on = on or here()
  room = (on.memory_bytes - weight_bytes) * _SHARE
  rows = max(1, int(room / row_bytes))
  return min(_max_rows(on), 1 << (rows.bit_length() - 1))


def is_enough(num_rows: int, on: Device | None = None) -> bool:
  """Whether more rows would hardly make a device faster."""
  return num_rows >= min(_ENOUGH_ROWS, _max_rows(on or here()))


def _max_rows(on: Device) -> int:
  return MAX_ROWS.get(on.backend, _MAX_ROWS_ELSEWHERE)
