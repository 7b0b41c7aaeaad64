"""The scorer on whatever device there is, beside a plain matrix product.

Random weights are made on the device and inputs have no text, so that 3B needs
no checkpoint. FLOP/s are of needed work (inpars_tpu/flops.py): padding and
dummies count for nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import side_by_side
from inpars_tpu import flops, init
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import convert, score, tensors

MEAN_TOKENS = 230  # Of a pair of InPars' filter; speed in the README is of it.
MAX_TOKENS = 512
_LABEL_IDS = (6_136, 1_176)  # False and true.
_MIN_TOKENS = 24


def measure(
  config_name: str, dtype: str, num_pairs: int, batch_tokens: int | None
) -> side_by_side.Record:
  """Scores random pairs twice, then times the matrix product."""
  sizes = config_lib.T5Config.from_hf(init.named_config(config_name))
  inputs = random_inputs(num_pairs, sizes.vocab_size)
  scorer = score.Scorer(
    sizes,
    random_params(sizes, dtype),
    _LABEL_IDS,
    dtype=dtype,
    max_tokens=MAX_TOKENS,
    batch_tokens=batch_tokens,
  )
  scores, record = side_by_side.measure_twice(lambda: scorer.score(inputs))
  lengths = [len(tokens) for tokens in inputs]
  needed = sum(sum(flops.score_pair(sizes, n)) for n in lengths)
  plain = sum(
    sum(flops.score_pair(sizes, n, is_absorbed=False)) for n in lengths
  )
  return {
    'config': config_name,
    'dtype': dtype,
    'pairs': num_pairs,
    'mean_tokens': round(float(np.mean(lengths)), 1),
    'pairs_per_s': round(num_pairs / record['seconds'], 3),
    # What a scorer that keeps keys and values of each token needs.
    'tflops_per_s_as_plain_t5': side_by_side.tera(plain / record['seconds']),
    'std_of_scores': round(float(np.std(scores)), 4),
    **side_by_side.beside_matmul(needed, record, dtype, num_devices=1),
  }


def random_inputs(num_pairs: int, vocab_size: int) -> list[list[int]]:
  """Token lists of lengths like those of real pairs, MEAN_TOKENS on average."""
  random = np.random.default_rng(1)
  lengths = side_by_side.random_lengths(
    random, num_pairs, mean=MEAN_TOKENS, low=_MIN_TOKENS, high=MAX_TOKENS
  )
  return [[*random.integers(3, vocab_size, n - 1).tolist(), 1] for n in lengths]


def random_params(sizes: config_lib.T5Config, dtype: str) -> convert.Params:
  """Weights drawn on the device, each kernel by its number of inputs."""
  params: convert.Params = {}
  key = jax.random.key(1)
  for number, (path, shape) in enumerate(tensors.shapes(sizes).items()):
    *parents, leaf = path
    node = params
    for name in parents:
      node = node.setdefault(name, {})
    if leaf == 'scale':
      node[leaf] = jnp.ones(shape, jnp.float32)
      continue
    std = 1.0 if leaf == 'embedding' else shape[0] ** -0.5
    if parents[-1] == 'query':  # It holds the scale that the logits lack.
      std *= sizes.d_kv**-0.5
    kind = np.dtype('float32') if leaf == 'rel_embedding' else jnp.dtype(dtype)
    node[leaf] = side_by_side.normal(
      jax.random.fold_in(key, number), shape, kind, std
    )
  return params
