"""Kernels of GPT-J's linear layers: floats, or int8 with a scale a channel.

Symmetric, one scale for each output channel, found from the weights alone; the
activations keep their dtype. Memory halves against bfloat16, and with it what a
decoding step reads.
"""

import jax
import jax.numpy as jnp

from inpars_tpu import products

Kernel = jax.Array | dict[str, jax.Array]  # [in, out], or `quantise`'s.

_LARGEST = 127  # -128 is left out: the range is symmetric.


def multiply(x: jax.Array, kernel: Kernel) -> jax.Array:
  """[..., in] @ [in, out] -> [..., out], in the dtype of x."""
  if not isinstance(kernel, dict):
    return products.multiply(x, kernel)
  whole = kernel['int8'].astype(x.dtype)  # Exact in bfloat16 too.
  wide = jnp.matmul(x, whole, preferred_element_type=jnp.float32)
  scale = kernel['scale'].reshape((1,) * (x.ndim - 1) + (-1,))
  return (wide * scale).astype(x.dtype)


def quantise(kernel: jax.Array) -> dict[str, jax.Array]:
  """Rounds a kernel to the nearest of 255 levels of each output channel.

  Args:
    kernel: [in, out], any float dtype.

  Returns:
    'int8': [in, out] int8; 'scale': [out] float32, 1 for a channel of zeros.
  """
  wide = kernel.astype(jnp.float32)
  top = jnp.max(jnp.abs(wide), axis=0)
  scale = jnp.where(top > 0, top / _LARGEST, 1.0)
  levels = jnp.round(wide / scale[None])
  return {'int8': levels.astype(jnp.int8), 'scale': scale}
