import jax
import jax.numpy as jnp
import pytest

from inpars_tpu import products


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_multiplies_in_the_dtype_of_its_input(dtype):
  x = jnp.asarray([[1, 2], [3, 4]], dtype)
  kernel = jnp.asarray([[5, 6, 7], [8, 9, 10]], dtype)
  product = products.multiply(x, kernel)
  assert product.dtype == dtype
  assert product.tolist() == [[21, 24, 27], [47, 54, 61]]


@pytest.mark.parametrize('platform,sum_type', [('cpu', 'f32'), ('tpu', 'bf16')])
def test_only_a_cpu_is_told_of_float32(platform, sum_type):
  x = jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)
  kernel = jax.ShapeDtypeStruct((3, 4), jnp.bfloat16)
  traced = jax.jit(products.multiply).trace(x, kernel)
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert f'tensor<3x4xbf16>) -> tensor<2x4x{sum_type}>' in text
