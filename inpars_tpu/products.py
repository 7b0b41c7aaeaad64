"""The matrix product of both networks in bfloat16, by what the device wants."""

import jax
import jax.numpy as jnp


def multiply(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """[..., in] @ [in, out] -> [..., out], in the dtype of x.

  On a CPU sums in float32 are said aloud: its bfloat16 instructions are for
  that form alone, and twice as fast. Elsewhere they are float32 anyhow, and
  said aloud would be what the devices of a mesh exchange.
  """
  return jax.lax.platform_dependent(
    x, kernel, cpu=_sum_wide, default=jnp.matmul
  )


def _sum_wide(x, kernel):
  wide = jnp.matmul(x, kernel, preferred_element_type=jnp.float32)
  return wide.astype(x.dtype)
