"""What the device can hold."""

import os

import jax

MAX_ROWS = {'cpu': 16}  # A CPU's caches: larger batches are slower.
_MAX_ROWS_ELSEWHERE = 512
_SHARE = 0.5  # Of the memory, for rows; the rest is weights and temporaries.


def memory_bytes() -> int:
  """Memory of one device: its own limit, or the machine's for a CPU."""
  stats = jax.local_devices()[0].memory_stats() or {}
  machine = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  return stats.get('bytes_limit', machine)


def fit_rows(row_bytes: int) -> int:
  """Rows of a batch that fit: a power of two, the same on equal machines."""
  limit = MAX_ROWS.get(jax.default_backend(), _MAX_ROWS_ELSEWHERE)
  rows = min(limit, int(memory_bytes() * _SHARE / row_bytes))
  return 1 << (max(rows, 1).bit_length() - 1)
