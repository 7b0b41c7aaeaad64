import pytest

from inpars_tpu import tiles


@pytest.mark.parametrize(
  ('shape', 'itemsize', 'as_rows', 'as_it_lies'),
  [
    ((32_128, 1_024), 4, 32_128 * 1_024 * 4, 32_128 * 1_024 * 4),
    # 128 lanes for 4 numbers; turned, 4 sublanes of 262,144.
    ((262_144, 4), 4, 262_144 * 128 * 4, 4 * 262_144 * 4),
    ((50_400, 32), 2, 50_400 * 128 * 2, 32 * 50_432 * 2),
    ((4, 64, 320, 8), 2, 4 * 64 * 320 * 128 * 2, 4 * 64 * 8 * 384 * 2),
    ((32, 32), 2, 32 * 128 * 2, 32 * 128 * 2),
    ((3, 128), 4, 4 * 128 * 4, 4 * 128 * 4),
    ((8, 2), 4, 8 * 128 * 4, 2 * 128 * 4),
    ((32,), 4, 1_024, 1_024),
    ((), 4, 1_024, 1_024),
    ((4, 0, 8), 2, 0, 0),
  ],
)
def test_bytes_of_arrays(shape, itemsize, as_rows, as_it_lies):
  assert tiles.as_rows(shape, itemsize) == as_rows
  assert tiles.as_it_lies(shape, itemsize) == as_it_lies
  copy = as_rows if as_rows > as_it_lies else 0
  assert tiles.padded_copy(shape, itemsize) == copy
