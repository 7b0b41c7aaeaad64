"""Scores of tokenised pairs: length buckets, and one number per pair.

Knows no text. A batch is a static shape with a constant token budget; what
leaves the device is the scores. Composition depends on the list given and
nothing else, so the same list gives the same bytes.
"""

import collections
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inpars_tpu import device, errors
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import network, sharding

# Inputs are padded to a multiple: one program for each. A CPU's compiler is
# quick, and feels the padding.
_BUCKET_TOKENS = {'cpu': 32}
_BUCKET_TOKENS_ELSEWHERE = 64
# Large batches fall out of a CPU's caches (pairs of 512 tokens, 16M: 77 ms each
# in batches of 4,096 tokens, 48 in batches of 1,024), and idle no accelerator.
# But of a part of 2,048 pairs 8 devices get few batches, each as long as its
# longest pair: of 230 tokens in the mean 1.40 times what is needed, of 90 2.14
# times with 16,384 a device of a TPU, 1.25 and 1.78 with 8,192. By the cycles
# of its compiler a token of T5-3B then costs 1% more in rows of 256, and 12%
# less in rows of 512; of T5-base 3% and 5% more.
_BATCH_TOKENS = {'cpu': 1_024, 'tpu': 8_192}
_BATCH_TOKENS_ELSEWHERE = 32_768
_SHARE = 0.9  # Of the memory; the rest: programs, and gaps.


class Batch(NamedTuple):
  """Inputs that are scored together."""

  indices: list[int]  # Their places in the list; at most num_rows.
  num_rows: int  # Of the shape; rows without an input are dummies.
  length: int  # Tokens of a row.


def default_batch_tokens(backend: str | None = None) -> int:
  """Encoder tokens of a batch, or of a part of one, that suit the device.

  Args:
    backend: of another device than this process's.
  """
  backend = backend or jax.default_backend()
  return _BATCH_TOKENS.get(backend, _BATCH_TOKENS_ELSEWHERE)


def default_bucket_tokens(backend: str | None = None) -> int:
  """What padded lengths are multiples of, to suit the device."""
  backend = backend or jax.default_backend()
  return _BUCKET_TOKENS.get(backend, _BUCKET_TOKENS_ELSEWHERE)


def make_mesh(
  config: config_lib.T5Config,
  text: str | None,
  *,
  weight_bytes: int,
  dtype: str,
  batch_tokens: int | None = None,
) -> sharding.Mesh:
  """The mesh of this process's devices for scoring; None for one device.

  Args:
    config: sizes.
    text: 'data=2,model=4', from the user; None: as few parts of the weights as
      fit the memory.
    weight_bytes: of all weights.
    dtype: as `Scorer` takes it.
    batch_tokens: as `Scorer` takes it.

  Raises:
    InputError: as `mesh.parse` and `mesh.check`.
  """

  num_devices = jax.local_device_count()
  shape = choose_shape(
    config,
    text,
    num_devices,
    device.here(),
    weight_bytes=weight_bytes,
    dtype=dtype,
    batch_tokens=batch_tokens,
  )
  return mesh_lib.make(shape) if num_devices > 1 else None


def choose_shape(
  config: config_lib.T5Config,
  text: str | None,
  num_devices: int,
  on: device.Device,
  *,
  weight_bytes: int,
  dtype: str,
  batch_tokens: int | None = None,
) -> mesh_lib.Shape:
  """The shape of `make_mesh`, on so many devices of any kind."""

  def fits(shape: mesh_lib.Shape) -> bool:
    part_tokens = default_batch_tokens(on.backend)
    if batch_tokens:
      part_tokens = -(-batch_tokens // shape.data)
    needed = weight_bytes + sharding.temporary_bytes(
      config, part_tokens, jnp.dtype(dtype)
    )
    return needed / shape.model <= _SHARE * on.memory_bytes

  return mesh_lib.resolve(text, num_devices, sharding.counts(config), fits)


def plan_batches(
  lengths: Sequence[int],
  *,
  max_tokens: int,
  batch_tokens: int,
  bucket_tokens: int,
  num_parts: int = 1,
) -> list[Batch]:
  """Puts inputs of like length together, the longest first.

  A batch is as long as its longest input, rounded up to a multiple of
  bucket_tokens (or max_tokens), and has batch_tokens / length rows, a multiple
  of `num_parts`; only the last one may have dummies.

  plan_batches([3, 100, 90], max_tokens=512, batch_tokens=256,
    bucket_tokens=64) -> [Batch([1, 2], 2, 128), Batch([0], 4, 64)]
  """
  order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
  batches, start = [], 0
  while start < len(order):
    longest = lengths[order[start]]
    assert 0 < longest <= max_tokens, (longest, max_tokens)
    length = min(-(-longest // bucket_tokens) * bucket_tokens, max_tokens)
    num_rows = max(1, batch_tokens // (length * num_parts)) * num_parts
    batches.append(Batch(order[start : start + num_rows], num_rows, length))
    start += num_rows
  return batches


def pad(inputs: Sequence[Sequence[int]], batch: Batch) -> np.ndarray:
  """Tokens of a batch, [num_rows, length] int32; dummies are one </s>."""
  tokens = np.full((batch.num_rows, batch.length), network.PAD_ID, np.int32)
  tokens[len(batch.indices) :, 0] = 1  # A row of padding has no softmax.
  for row, index in enumerate(batch.indices):
    tokens[row, : len(inputs[index])] = inputs[index]
  return tokens


class Scorer:
  """A T5 on the device, and the tokens whose logits it is asked for."""

  def __init__(
    self,
    config: config_lib.T5Config,
    params: Any,
    token_ids: Sequence[int],
    *,
    dtype: str,
    max_tokens: int,
    batch_tokens: int | None = None,
    mesh: sharding.Mesh = None,
  ):
    """Keeps the weights.

    Args:
      config: sizes.
      params: the 'params' of `network.Transformer`.
      token_ids: [false, true]: the score is log P(true) between the two. One
        id: the score is its logit.
      dtype: of activations.
      max_tokens: the longest input.
      batch_tokens: encoder tokens of a batch, all devices together; None:
        `default_batch_tokens` for each part of its rows.
      mesh: that the weights lie on; None: one device.
    """
    self._model = network.Transformer(config, dtype=jnp.dtype(dtype))
    self._params = params
    self._token_ids = jnp.asarray(token_ids, jnp.int32)
    self._max_tokens = max_tokens
    self._mesh, self._num_parts = mesh, mesh_lib.shape_of(mesh).data
    self._batch_tokens = (
      batch_tokens or default_batch_tokens() * self._num_parts
    )

  def score(
    self,
    inputs: Sequence[Sequence[int]],
    progress: Callable[[int], object] | None = None,
  ) -> np.ndarray:
    """Scores of token id lists of 1 to max_tokens, in their order.

    Returns:
      [N] float32.

    Raises:
      InputError: a score is no finite number.
    """
    scores = np.empty(len(inputs), np.float32)
    pending: collections.deque = collections.deque()

    def fetch() -> None:
      batch, on_device = pending.popleft()
      scores[batch.indices] = np.asarray(on_device)[: len(batch.indices)]
      if progress:
        progress(len(batch.indices))

    for batch in plan_batches(
      [len(tokens) for tokens in inputs],
      max_tokens=self._max_tokens,
      batch_tokens=self._batch_tokens,
      bucket_tokens=default_bucket_tokens(),
      num_parts=self._num_parts,
    ):
      tokens = pad(inputs, batch)
      pending.append((batch, self._dispatch(tokens)))
      if len(pending) > 1:  # The device has its next batch already.
        fetch()
    while pending:
      fetch()
    if not np.isfinite(scores).all():
      raise errors.InputError(
        f'{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are no '
        'numbers: the weights of the reranker are broken'
      )
    return scores

  def _dispatch(self, tokens: np.ndarray) -> jax.Array:
    if self._mesh is not None:
      tokens = jax.device_put(tokens, sharding.of_tokens(self._mesh))
    return score_batch(self._model, self._params, tokens, self._token_ids)


@functools.partial(jax.jit, static_argnames=('model',))
def score_batch(
  model: network.Transformer,
  params: Any,
  tokens: jax.Array,
  token_ids: jax.Array,
) -> jax.Array:
  """Scores one batch.

  Args:
    model: the network.
    params: its 'params'.
    tokens: [B, S] int32, 0 where padded.
    token_ids: [2] int32 (false, true), or [1].

  Returns:
    [B] float32: log P(true) of the softmax over the two logits at the first
    decoder position, arXiv:2003.06713 section 3; or the one logit.
  """
  logits = model.apply(
    {'params': params}, tokens, token_ids, method='first_logits'
  )
  if logits.shape[1] == 1:
    return logits[:, 0]
  # A log of a softmax would round near 0, where the best pairs are.
  return -jax.nn.softplus(logits[:, 0] - logits[:, 1])
