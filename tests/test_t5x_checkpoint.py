import json

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore

from inpars_tpu import errors, t5x_checkpoint

ARRAYS = {
  'state/step': np.array(7, np.int32),
  'state/param_states/a/kernel/v': np.full((2, 3), 0.5, np.float32),
  'state/param_states/a/kernel/v_row': np.zeros(1, np.float32),
  'target/a/kernel': np.arange(6, dtype=np.float32).reshape(2, 3),
  'target/b/scale': np.array([1, 2], ml_dtypes.bfloat16),
  'target/c/scale': np.array([3, 4], np.float16),
}


def write(directory, arrays=ARRAYS):
  writer = t5x_checkpoint.Writer(directory, step=7)
  for name, array in arrays.items():
    writer.add(name, array)
  writer.close()
  return directory / 'checkpoint_7'


def write_orbax(directory, arrays=ARRAYS):
  """As t5x has Orbax write it: a database of arrays below state/."""
  tree = {}
  for name, array in arrays.items():
    *parents, leaf = name.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = array
  manager = ocp.CheckpointManager(
    directory,
    item_handlers={'state': ocp.PyTreeCheckpointHandler(use_ocdbt=True)},
    options=ocp.CheckpointManagerOptions(step_prefix='checkpoint'),
  )
  manager.save(7, args=ocp.args.Composite(state=ocp.args.PyTreeSave(tree)))
  manager.close()
  return directory / 'checkpoint_7'


FORMS = {'zarr': write, 'orbax': write_orbax}


@pytest.mark.parametrize('form', FORMS)
def test_reads_both_forms(tmp_path, form):
  checkpoint = FORMS[form](tmp_path)
  assert t5x_checkpoint.find(tmp_path) == checkpoint
  assert t5x_checkpoint.find(checkpoint) == checkpoint
  reader = t5x_checkpoint.Reader(checkpoint)
  assert reader.shapes == {name: a.shape for name, a in ARRAYS.items()}
  for name, array in ARRAYS.items():
    assert reader.read(name).dtype == array.dtype
    np.testing.assert_array_equal(reader.read(name), array)


def test_files_are_those_of_t5x(tmp_path):
  checkpoint = write(tmp_path)
  assert sorted(path.name for path in checkpoint.iterdir()) == [
    'checkpoint',
    'state.param_states.a.kernel.v',
    'target.a.kernel',
    'target.b.scale',
    'target.c.scale',
  ]
  record = json.loads((checkpoint / 'target.b.scale' / '.zarray').read_text())
  assert record['dtype'] == 'bfloat16'


def test_a_large_array_has_chunks(tmp_path, monkeypatch):
  monkeypatch.setattr(t5x_checkpoint, '_CHUNK_BYTES', 30)
  array = np.arange(15, dtype=np.float32).reshape(5, 3)
  checkpoint = write(tmp_path, {'target/a': array})
  chunks = {path.name for path in (checkpoint / 'target.a').iterdir()}
  assert chunks == {'.zarray', '0.0', '1.0', '2.0'}
  reader = t5x_checkpoint.Reader(checkpoint)
  np.testing.assert_array_equal(reader.read('target/a'), array)


def test_reads_bfloat16_of_before_zarr_had_it(tmp_path):
  checkpoint = write(tmp_path)
  bits = ARRAYS['target/b/scale'].view(np.uint16)
  folder = checkpoint / 'target.b.scale'
  for file in folder.iterdir():
    file.unlink()
  tensorstore.open(
    {'driver': 'zarr', 'kvstore': f'file://{folder}/', 'dtype': 'uint16',
     'metadata': {'shape': [2]}},
    create=True,
  ).result().write(bits).result()  # fmt: skip
  found = t5x_checkpoint.Reader(checkpoint).read('target/b/scale')
  assert found.dtype == ml_dtypes.bfloat16
  assert found.tolist() == [1, 2]


@pytest.mark.parametrize(
  ('path', 'named'),
  [
    ('checkpoint', 'checkpoint_7 has no checkpoint, which is written last'),
    ('target.a.kernel/0.0', r'not whole: target.a.kernel/0.0 is missing'),
    ('target.a.kernel/.zarray', r'not whole: target.a.kernel is missing'),
  ],
)
def test_says_what_a_half_written_one_lacks(tmp_path, path, named):
  checkpoint = write(tmp_path)
  (checkpoint / path).unlink()
  with pytest.raises(errors.InputError, match=named):
    t5x_checkpoint.Reader(checkpoint)


def test_says_what_a_half_written_one_of_orbax_lacks(tmp_path):
  checkpoint = write_orbax(tmp_path)
  data = max(
    (checkpoint / 'state').glob('**/d/*'), key=lambda p: p.stat().st_size
  )
  data.rename(tmp_path / 'kept')
  with pytest.raises(errors.InputError, match='is not whole, or damaged'):
    t5x_checkpoint.Reader(checkpoint)
  (checkpoint / 'commit_success.txt').unlink()
  with pytest.raises(errors.InputError, match='has no commit_success.txt'):
    t5x_checkpoint.Reader(checkpoint)


def test_damaged_bytes_are_named(tmp_path):
  checkpoint = write(tmp_path)
  (checkpoint / 'target.a.kernel' / '0.0').write_bytes(b'xx')
  with pytest.raises(errors.InputError, match='target/a/kernel is damaged'):
    t5x_checkpoint.Reader(checkpoint).read('target/a/kernel')


@pytest.mark.parametrize(
  'name', ['checkpoint_9.tmp-1700000', 'checkpoint_9.orbax-checkpoint-tmp-3']
)
def test_a_temporary_name_is_an_unfinished_checkpoint(tmp_path, name):
  (tmp_path / name).mkdir()
  for path in (tmp_path, tmp_path / name):
    with pytest.raises(errors.InputError, match='whose writing was cut off'):
      t5x_checkpoint.find(path)
  write(tmp_path)  # Beside a finished one it does not count.
  assert t5x_checkpoint.find(tmp_path) == tmp_path / 'checkpoint_7'


def test_which_of_several_is_not_guessed(tmp_path):
  write(tmp_path)
  (tmp_path / 'checkpoint_8').mkdir()
  with pytest.raises(errors.InputError, match='checkpoint_7, checkpoint_8'):
    t5x_checkpoint.find(tmp_path)


def test_finds_nothing_in_other_directories(tmp_path):
  assert t5x_checkpoint.find(tmp_path) is None
  (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-1"')
  assert t5x_checkpoint.find(tmp_path) is None


def test_a_name_like_t5x_makes_no_checkpoint_of_hugging_face(tmp_path):
  folder = tmp_path / 'checkpoint_500'
  folder.mkdir()
  assert t5x_checkpoint.find(folder) == folder  # A half-written one.
  (folder / 'model.safetensors').write_bytes(b'')
  assert t5x_checkpoint.find(folder) is None


def test_a_killed_writer_leaves_no_checkpoint(tmp_path):
  writer = t5x_checkpoint.Writer(tmp_path, step=7)
  writer.add('target/a/kernel', ARRAYS['target/a/kernel'])
  with pytest.raises(errors.InputError, match='cut off'):
    t5x_checkpoint.find(tmp_path)
  checkpoint = write(tmp_path)
  assert list(tmp_path.iterdir()) == [checkpoint]


def test_empty_slots_are_those_of_adafactor():
  def sizes(shape):
    return {k: v.shape for k, v in t5x_checkpoint.empty_slots(shape).items()}

  one = (1,)
  assert sizes((5,)) == {'m': one, 'v': (5,), 'v_col': one, 'v_row': one}
  assert sizes((127, 500)) == {
    'm': one, 'v': (127, 500), 'v_col': one, 'v_row': one,
  }  # fmt: skip
  assert sizes((500, 128)) == {
    'm': one, 'v': one, 'v_col': (500,), 'v_row': (128,),
  }  # fmt: skip
