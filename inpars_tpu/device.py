"""What a device can hold."""

import os

import jax

# Larger batches gain a CPU little; its matrix products take rows five by five.
MAX_ROWS = {'cpu': 20}
_MAX_ROWS_ELSEWHERE = 512
# A step that reads all weights is bound by the memory below so many rows: peak
# FLOP/s over bytes/s is 137 on a TPU v3, 156 on an A100, 184 on an H200.
_ENOUGH_ROWS = 128
_SHARE = 0.75  # Of what the weights leave, for rows; the rest: temporaries.


def memory_bytes() -> int:
  """Memory of one device: its own limit; of a CPU its part of the machine's."""
  stats = jax.local_devices()[0].memory_stats() or {}
  machine = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  return stats.get('bytes_limit', machine // jax.local_device_count())


def fit_rows(row_bytes: float, weight_bytes: float) -> int:
  """Rows that one device holds beside its weights.

  Where not as many as are useful, a power of two, at least 1: the same on equal
  machines.
  """
  room = (memory_bytes() - weight_bytes) * _SHARE
  rows = max(1, int(room / row_bytes))
  return min(_max_rows(), 1 << (rows.bit_length() - 1))


def is_enough(num_rows: int) -> bool:
  """Whether more rows would hardly make a device faster."""
  return num_rows >= min(_ENOUGH_ROWS, _max_rows())


def _max_rows() -> int:
  return MAX_ROWS.get(jax.default_backend(), _MAX_ROWS_ELSEWHERE)
