import ml_dtypes
import numpy as np
import pytest

from inpars_tpu import errors, mesh_checkpoint
from tests import mesh_checkpoints

VALUES = {
  'global_step': np.array(7, np.int64),
  'shared/embedding': np.arange(6, dtype=np.float32).reshape(2, 3),
  'shared/embedding_slot_v': np.ones((2, 3), np.float32),
  'encoder/final_layer_norm/scale': np.array([1, 2], ml_dtypes.bfloat16),
  'encoder/final_layer_norm/scale_slot_v': np.zeros(2, np.float32),
  'square': np.zeros((200, 200), np.float32),
  'square_slot_vr': np.full(200, 1, np.float32),
  'square_slot_vc': np.full(200, 2, np.float32),
  'wide': np.zeros((200, 300), np.float32),
  'wide_slot_vr': np.full(200, 3, np.float32),
  'wide_slot_vc': np.full(300, 4, np.float32),
}


@pytest.fixture(scope='module')
def prefix(tmp_path_factory):
  return mesh_checkpoints.write(tmp_path_factory.mktemp('mesh'), VALUES)


@pytest.mark.parametrize(
  ('hf_name', 'variable'),
  [
    ('shared.weight', 'shared/embedding'),
    ('lm_head.weight', 'decoder/logits/kernel'),
    (
      'encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight',
      'encoder/block_000/layer_000/SelfAttention/relative_attention_bias',
    ),
    (
      'decoder.block.11.layer.1.EncDecAttention.o.weight',
      'decoder/block_011/layer_001/EncDecAttention/o',
    ),
    (
      'decoder.block.2.layer.2.DenseReluDense.wi_0.weight',
      'decoder/block_002/layer_002/DenseReluDense/wi_0/kernel',
    ),
    (
      'encoder.block.1.layer.1.layer_norm.weight',
      'encoder/block_001/layer_001/layer_norm/scale',
    ),
    (
      'decoder.final_layer_norm.weight',
      'decoder/final_layer_norm/scale',
    ),
  ],
)
def test_names_of_variables(hf_name, variable):
  assert mesh_checkpoint.variable_name(hf_name) == variable


def test_reads_variables_and_slots(prefix):
  reader = mesh_checkpoint.Reader(mesh_checkpoint.find(prefix))
  assert reader.shapes == {
    'shared/embedding': (2, 3),
    'encoder/final_layer_norm/scale': (2,),
    'square': (200, 200),
    'wide': (200, 300),
  }
  assert reader.has_slots and reader.step() == 7
  for name in reader.shapes:
    np.testing.assert_array_equal(reader.read(name), VALUES[name])
    assert reader.read(name).dtype == VALUES[name].dtype
  slots = reader.read_slots('shared/embedding')
  assert list(slots) == ['v'] and slots['v'].shape == (2, 3)


def test_slots_are_over_the_axes_that_t5x_has_them_over(prefix):
  reader = mesh_checkpoint.Reader(prefix)
  wide, square = reader.read_slots('wide'), reader.read_slots('square')
  assert (wide['v_row'][0], wide['v_col'][0]) == (3, 4)
  assert (square['v_row'][0], square['v_col'][0]) == (2, 1)


def test_reads_the_names_of_newer_checkpoints(tmp_path):
  prefix = mesh_checkpoints.write(
    tmp_path,
    {
      'encoder/final_layer_norm/scale': np.ones(2, np.float32),
      'encoder/block_000/layer_000/layer_norm/scale': np.ones(2, np.float32),
    },
    has_rms_norms=True,
  )
  reader = mesh_checkpoint.Reader(prefix)
  assert set(reader.shapes) == {
    'encoder/final_layer_norm/scale',
    'encoder/block_000/layer_000/layer_norm/scale',
  }
  assert reader.read('encoder/final_layer_norm/scale').tolist() == [1, 1]
  assert not reader.has_slots


def test_finds_a_prefix_an_index_and_the_one_of_a_folder(prefix):
  for path in (prefix, f'{prefix}.index', prefix.parent):
    assert mesh_checkpoint.find(path) == prefix


def test_says_what_is_missing(tmp_path):
  with pytest.raises(errors.InputError, match='holds none'):
    mesh_checkpoint.find(tmp_path)
  with pytest.raises(errors.InputError, match=r'ckpt-1\.index'):
    mesh_checkpoint.find(tmp_path / 'model.ckpt-1')
  prefix = mesh_checkpoints.write(tmp_path, VALUES)
  (tmp_path / 'model.ckpt-2.index').write_bytes(b'')
  with pytest.raises(errors.InputError, match=r'model.ckpt-1010000, model.ck'):
    mesh_checkpoint.find(tmp_path)
  shards = sorted(tmp_path.glob('*.data-*'))
  assert len(shards) == 2
  shards[1].unlink()
  with pytest.raises(errors.InputError, match='data-00001-of-00002 is missing'):
    mesh_checkpoint.find(prefix)
  shards[0].unlink()
  with pytest.raises(errors.InputError, match=r'has no \.data'):
    mesh_checkpoint.find(prefix)


def test_damage_is_named(tmp_path):
  prefix = mesh_checkpoints.write(tmp_path, VALUES)
  for shard in tmp_path.glob('*.data-*'):
    shard.write_bytes(shard.read_bytes()[:9])
  with pytest.raises(errors.InputError, match='or damaged'):
    mesh_checkpoint.Reader(prefix).read('square')
  prefix.with_name(f'{prefix.name}.index').write_bytes(b'x')
  with pytest.raises(errors.InputError, match='or damaged'):
    mesh_checkpoint.Reader(prefix)


def test_other_slots_than_adafactors(tmp_path):
  values = {n: v for n, v in VALUES.items() if n != 'wide_slot_vr'}
  reader = mesh_checkpoint.Reader(mesh_checkpoints.write(tmp_path, values))
  with pytest.raises(errors.InputError, match=r"wide has slots \['v_col'\]"):
    reader.read_slots('wide')
