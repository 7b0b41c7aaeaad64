import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inpars_tpu import checkpoints, errors


def make_state(step):
  return {
    'params': {'w': jnp.full((3, 2), step, jnp.float32)},
    'n': jnp.ones(2),
  }


def like():
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
    make_state(0),
  )


@pytest.fixture
def saved(tmp_path):
  """Steps 2, 4 and 6 were saved."""
  directory = tmp_path / 'checkpoints'
  with checkpoints.Checkpoints(directory) as kept:
    assert kept.restore(like()) is None
    for step in (2, 4, 6):
      kept.save(step, make_state(step))
  return directory


def restore(directory):
  with checkpoints.Checkpoints(directory) as kept:
    return kept.restore(like())


def test_restores_the_newest(saved):
  step, state = restore(saved)
  assert step == 6
  np.testing.assert_array_equal(state['params']['w'], [[6, 6]] * 3)
  np.testing.assert_array_equal(state['n'], [1, 1])


def test_keeps_two(saved):
  assert sorted(path.name for path in saved.iterdir()) == ['4', '6']


def test_does_not_see_a_half_written_one(saved):
  half = saved / '8.orbax-checkpoint-tmp'
  half.mkdir()
  (half / 'data').write_bytes(b'half')
  assert restore(saved)[0] == 6
  assert not half.exists()


# Orbax closes its event loop at the first array that cannot be read; another
# one's read that ends after it then complains, on a thread, to nobody.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_puts_aside_what_cannot_be_read(saved, caplog):
  for path in (saved / '6').rglob('*'):
    if path.is_file() and path.parent.name == 'd':
      path.write_bytes(path.read_bytes()[:10])
  with caplog.at_level(logging.INFO, 'inpars_tpu'):
    step, state = restore(saved)
  assert step == 4
  np.testing.assert_array_equal(state['params']['w'], [[4, 4]] * 3)
  assert 'checkpoint 6 cannot be read' in caplog.text
  with checkpoints.Checkpoints(saved) as kept:
    kept.save(6, make_state(60))
  assert restore(saved)[1]['params']['w'][0, 0] == 60


@pytest.mark.parametrize('change', [
  lambda state: state | {'n': state['params']['w']},
  lambda state: state | {'more': state['n']},
])  # fmt: skip
def test_a_checkpoint_of_another_size(saved, change):
  with checkpoints.Checkpoints(saved) as kept:
    with pytest.raises(errors.InputError, match='/6 is a checkpoint of anoth'):
      kept.restore(change(like()))
  assert sorted(path.name for path in saved.iterdir()) == ['4', '6']


def test_nothing_left_that_can_be_read(saved):
  for step in ('4', '6'):
    for path in (saved / step).rglob('*'):
      if path.is_file():
        path.unlink()
  assert restore(saved) is None


def test_no_room_on_the_disk(saved, monkeypatch):
  usage = shutil.disk_usage(saved)._replace(free=31)  # 8 float32 are 32.
  monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
  with checkpoints.Checkpoints(saved) as kept:
    with pytest.raises(OSError, match='No space left') as raised:
      kept.save(8, make_state(8))
  assert raised.value.filename == str(saved)
  assert restore(saved)[0] == 6
