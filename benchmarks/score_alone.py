"""The scorer on whatever device there is, beside a plain matrix product.

Random weights are made on the device and inputs have no text, so that 3B needs
no checkpoint. FLOP/s are of needed work (inpars_tpu/flops.py): padding and
dummies count for nothing.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import side_by_side
from inpars_tpu import flops, init
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import convert, score

MEAN_TOKENS = 230  # Of a pair of InPars' filter; speed in the README is of it.
MAX_TOKENS = 512
_NUM_ROWS, _LABEL_IDS = 32_128, (6_136, 1_176)  # T5's; false and true.
_MIN_TOKENS = 24
_MATMUL_DIM = {'cpu': 1_024}
_MATMUL_DIM_ELSEWHERE = 8_192
_MATMUL_REPEATS = 20


def measure(
  config_name: str, dtype: str, num_pairs: int, batch_tokens: int | None
) -> side_by_side.Record:
  """Scores random pairs twice, then times the matrix product."""
  sizes = init.t5_sizes(config_name, _NUM_ROWS)
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
  peak = matmul_flops_per_s(dtype)
  rate = needed / record['seconds']
  memory = jax.local_devices()[0].memory_stats() or {}
  return {
    'config': config_name,
    'dtype': dtype,
    'device': jax.devices()[0].device_kind,
    'devices': jax.device_count(),
    'pairs': num_pairs,
    'mean_tokens': round(float(np.mean(lengths)), 1),
    'pairs_per_s': round(num_pairs / record['seconds'], 3),
    'seconds': round(record['seconds'], 3),
    'compile_seconds': round(record['compile_seconds'], 1),
    'tflops_per_s': round(rate / 1e12, 4),
    # What a scorer that keeps keys and values of each token needs.
    'tflops_per_s_as_plain_t5': round(plain / record['seconds'] / 1e12, 4),
    'matmul_tflops_per_s': round(peak / 1e12, 4),
    'share_of_matmul': round(rate / peak, 4),
    'std_of_scores': round(float(np.std(scores)), 4),
    'peak_device_mb': round(memory.get('peak_bytes_in_use', 0) / 2**20),
  }


def random_inputs(num_pairs: int, vocab_size: int) -> list[list[int]]:
  """Token lists with lengths like those of real pairs, MEAN_TOKENS on average.

  A gamma distribution of shape 4, cut to MAX_TOKENS; then moved by a token
  here and there until the mean is right.
  """
  random = np.random.default_rng(1)
  lengths = random.gamma(4.0, MEAN_TOKENS / 4, num_pairs).round().astype(int)
  lengths = lengths.clip(_MIN_TOKENS, MAX_TOKENS)
  missing = MEAN_TOKENS * num_pairs - int(lengths.sum())
  while missing:
    step = 1 if missing > 0 else -1
    free = np.flatnonzero(
      (lengths + step >= _MIN_TOKENS) & (lengths + step <= MAX_TOKENS)
    )
    lengths[free[: abs(missing)]] += step
    missing = MEAN_TOKENS * num_pairs - int(lengths.sum())
  return [
    [*random.integers(3, vocab_size, n - 1).tolist(), 1]
    for n in lengths.tolist()
  ]


def random_params(sizes: config_lib.T5Config, dtype: str) -> convert.Params:
  """Weights drawn on the device, each kernel by its number of inputs."""
  params: convert.Params = {}
  key = jax.random.key(1)
  for number, (path, shape) in enumerate(convert.shapes(sizes).items()):
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
    node[leaf] = _normal(jax.random.fold_in(key, number), shape, kind, std)
  return params


def matmul_flops_per_s(dtype: str) -> float:
  """Best rate of one large matrix product, of so many in a row."""
  backend = jax.default_backend()
  size = _MATMUL_DIM.get(backend, _MATMUL_DIM_ELSEWHERE)
  a = _normal(jax.random.key(2), (size, size), jnp.dtype(dtype), 1.0)
  product = jax.jit(lambda x, y: (x @ y).astype(x.dtype))
  b = product(a, a).block_until_ready()
  rates = []
  for _ in range(3):
    started = time.perf_counter()
    for _ in range(_MATMUL_REPEATS):
      b = product(a, a)
    b.block_until_ready()
    seconds = time.perf_counter() - started
    rates.append(_MATMUL_REPEATS * 2 * size**3 / seconds)
  return max(rates)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _normal(key, shape, dtype, std: float) -> jax.Array:
  return (jax.random.normal(key, shape, jnp.float32) * std).astype(dtype)
