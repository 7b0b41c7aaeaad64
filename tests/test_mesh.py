import jax
import numpy as np
import pytest

from inpars_tpu import errors, mesh
from inpars_tpu.mesh import Shape

GPTJ_6B = {'heads': 16, 'MLP units': 16_384}


@pytest.mark.parametrize('text,num_devices,shape', [
  ('data=2,model=4', 8, Shape(2, 4)),
  ('model=4, data=2', 8, Shape(2, 4)),
  ('model=8', 8, Shape(1, 8)),
  ('data=1', 1, Shape(1, 1)),
])  # fmt: skip
def test_parse(text, num_devices, shape):
  assert mesh.parse(text, num_devices) == shape
  assert mesh.parse(str(shape), num_devices) == shape


@pytest.mark.parametrize('text,message', [
  ('data=2,modle=4', "axis in --mesh=data=2,modle=4: 'modle'; did you mean "
   'model?'),
  ('heads=8', 'known: data, model'),
  ('8', "write it as data=2,model=4, not '8'"),
  ('data=8,', "not ''"),
  ('data=2,data=4', 'has data twice'),
  ('data=0', "data must be a number of 1 or more, not '0'"),
  ('data=-1', "not '-1'"),
  ('data=²', "not '²'"),
  ('data=2,model=3', 'is of 6 devices and there are 8; nearest: '
   'data=2,model=4'),
  ('model=16', 'is of 16 devices and there are 8; nearest: data=1,model=8'),
  ('data=4', 'is of 4 devices and there are 8; nearest: data=8,model=1'),
])  # fmt: skip
def test_what_is_wrong_is_named(text, message):
  with pytest.raises(errors.InputError) as caught:
    mesh.parse(text, 8)
  assert message in str(caught.value)


def test_model_sizes_divide_devices_and_counts():
  assert mesh.model_sizes(8, GPTJ_6B) == [1, 2, 4, 8]
  assert mesh.model_sizes(8, {'heads': 12}) == [1, 2, 4]
  assert mesh.model_sizes(6, {'heads': 4}) == [1, 2]


def test_heads_that_cannot_be_parted():
  mesh.check(Shape(2, 4), {'heads': 12})
  with pytest.raises(errors.InputError) as caught:
    mesh.check(Shape(1, 8), {'heads': 12, 'MLP units': 64})
  assert str(caught.value) == (
    '--mesh=data=1,model=8: the model has 12 heads, which is no multiple of 8; '
    'with 8 devices model may be 1 or 2 or 4'
  )


@pytest.mark.parametrize('limit,shape', [
  (12, Shape(8, 1)),
  (6, Shape(4, 2)),
  (5, Shape(2, 4)),
  (1, Shape(1, 8)),  # Nothing fits: parted as much as can be.
])  # fmt: skip
def test_weights_are_parted_as_little_as_the_memory_allows(limit, shape):
  def fits(shape):
    return 12 / shape.model <= limit

  assert mesh.choose(8, [1, 2, 4, 8], fits) == shape
  assert mesh.resolve(None, 8, GPTJ_6B, fits) == shape
  assert mesh.resolve('data=8', 8, GPTJ_6B, fits) == Shape(8, 1)


def test_resolve_checks_what_was_asked_for():
  with pytest.raises(errors.InputError, match='model may be 1 or 2 or 4'):
    mesh.resolve('model=8', 8, {'heads': 12}, lambda shape: True)


def test_mesh_and_shardings():
  made = mesh.make(Shape(1, 1), jax.devices()[:1])
  assert mesh.shape_of(made) == mesh.shape_of(None) == Shape(1, 1)
  rules = {'embed': None, 'mlp': 'model', 'rows': 'data'}
  got = mesh.sharding(made, ('rows', None, 'embed', 'mlp'), rules)
  assert got.spec == jax.sharding.PartitionSpec('data', None, None, 'model')
  with pytest.raises(KeyError):
    mesh.sharding(made, ('mpl',), rules)


def test_place_reads_what_a_device_holds():
  whole = np.arange(6).reshape(2, 3)
  sharding = mesh.sharding(
    mesh.make(Shape(1, 1), jax.devices()[:1]), (None, None), {}
  )
  np.testing.assert_array_equal(
    mesh.place(lambda index: whole[index], whole.shape, sharding), whole
  )
