"""Where a small encoder's heads look before they have learned anything.

A question is matched with a document by heads that find, far to one side, what
is like the token that looks. From random weights two cores would need hours to
come to such heads; these begin as such, and training does the rest.
"""

from typing import Any

import numpy as np

from inpars_tpu.t5 import config as t5_config

_NEAR, _FAR = 3, 6  # Tokens: nearer than 3 is near, from 6 on is far.
_SOME, _STRONG = -3.0, -6.0  # Against where a head does not look.
_LIKENESS = 1.5  # Of a query's scale to its key's.


def prepare(params: dict[str, Any], config: t5_config.T5Config) -> None:
  """Sets an encoder's biases of distance, and its queries to be its keys.

  Of four heads one looks near, one far to the right, one far to the left, and
  one anywhere.

  Args:
    params: of `network.Transformer`, random; changed in place.
    config: of the model; its heads are four, or groups of four.
  """
  encoder = params['encoder']
  encoder['relpos_bias']['rel_embedding'] = np.tile(
    biases(config.relative_attention_num_buckets), (config.num_heads // 4, 1)
  )
  for number in range(config.num_layers):
    attention = encoder[f'layers_{number}']['attention']
    attention['query']['kernel'] = (
      np.asarray(attention['key']['kernel'])
      * np.float32(_LIKENESS / np.sqrt(config.d_kv))
    )  # fmt: skip


def biases(num_buckets: int) -> np.ndarray:
  """[4, num_buckets] float32: of distances 0, 1, 2, ... left, then right."""
  half = num_buckets // 2
  table = np.zeros((4, num_buckets), np.float32)
  table[0] = _SOME
  table[0, :_NEAR] = table[0, half + 1 : half + _NEAR] = 0
  table[1:3] = _STRONG
  table[1, half + _FAR :] = 0
  table[2, _FAR:half] = 0
  return table
