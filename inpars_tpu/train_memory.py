"""Bytes of a device that training a T5 needs, before anything is compiled.

Counted array by array from what the TPU's compiler keeps (libtpu 0.0.42.1, of
sizes from t5_tiny to T5-3B), at two moments: when gradients have come back to
the encoder, and at the end, when those of embedding and positions are summed.
The larger decides. Other kinds of devices were not looked at.

Axes: S tokens of a row, D d_model, H heads, J the dimensions of all heads,
F feed-forward units, V vocabulary.
"""

import dataclasses

import jax.numpy as jnp

from inpars_tpu import mesh as mesh_lib
from inpars_tpu import tiles
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import sharding, tensors


@dataclasses.dataclass(frozen=True)
class Task:
  """What is trained and how; as `layout.Layout` has it, without devices."""

  config: config_lib.T5Config
  shape: mesh_lib.Shape
  dtype: str  # Of activations.
  num_tokens: int  # Input tokens of a part of a microbatch.
  row_tokens: int  # S, of them; num_tokens at most.
  shards_params: bool = False
  scan_layers: bool = False
  remat: bool = False

  @property
  def itemsize(self) -> int:
    return jnp.dtype(self.dtype).itemsize

  @property
  def sizes(self) -> tuple[int, int, int]:
    """H, J and F of one part of the weights."""
    config = self.config
    units = config.d_ff * (2 if config.is_gated else 1)
    heads = config.num_heads
    return tuple(
      size // self.shape.model for size in (heads, heads * config.d_kv, units)
    )


def needed_bytes(task: Task) -> int:
  """Bytes of a device that a microbatch's gradients need, roughly."""
  config = task.config
  heads, _, _ = task.sizes
  params = _params_bytes(task)  # As many bytes are the sums.
  decoder = config.num_decoder_layers * _kernel_bytes(task, num_attentions=2)
  kernels = config.num_layers * _kernel_bytes(task, num_attentions=1) + decoder
  vocabulary = config.vocab_size, config.d_model
  embedding = tiles.as_rows(vocabulary, 4)
  # Of the embedding, its sums and its gradient.
  copies = 3 * tiles.padded_copy(vocabulary, 4)
  layers = _layers_bytes(task)
  if task.scan_layers or task.remat:
    # Gradients of all layers are one array, there from the start; beside them
    # what the decoder made of the embedding's, and a loop's kernels, cast
    # before it.
    gradients = params
    layers += params + embedding
    if task.itemsize < 4:
      layers += kernels // (task.shape.data if task.shards_params else 1)
  else:
    # They wait, in the dtype of activations, to be summed over the devices.
    gradients = kernels
    layers += decoder
  # The embedding's gradient and one of its terms; the positions' is a sum of
  # rows, one of a head's numbers for each pair of tokens.
  ends = gradients + 2 * embedding
  ends += tiles.as_rows((task.row_tokens**2, heads), 4)
  # As looked up, cut for blocks of queries, and their gradient.
  positions = 3 * 4 * heads * task.row_tokens**2
  return 2 * params + positions + copies + max(layers, ends)


def _layers_bytes(task: Task) -> int:
  """What layers keep for their gradients, and what the one at work needs."""
  config, itemsize = task.config, task.itemsize
  heads, joined, units = task.sizes
  logits, d = heads * task.row_tokens, config.d_model
  whole = whole_decoder = 0
  if task.shards_params:  # A layer's kernels while it is computed.
    whole = _kernel_bytes(task, num_attentions=1)
    whole_decoder = _kernel_bytes(task, num_attentions=2)
  # Weights of keys in float32; queries, keys, values and what is mixed of them,
  # in float32 too; units; the residual, normed and not.
  kept = logits * 4 + joined * (5 * itemsize + 4) + (units + 3 * d) * itemsize
  gradients = _kernel_bytes(task, num_attentions=1)
  if task.remat:
    inputs = config.num_layers * d * itemsize
    return task.num_tokens * (inputs + kept) + whole + gradients
  at_work = 0
  if task.scan_layers:
    # Nothing is merged across the loops, so that all goes into arrays of all
    # layers: weights in both dtypes, masks of relu and dropout or the terms of
    # gelu, norms' inputs.
    narrow = itemsize if itemsize < 4 else 0
    per_unit = 8 * itemsize + 1 if config.is_gated else itemsize + 2
    kept = logits * (4 + narrow) + joined * (6 * itemsize + 4)
    kept += config.d_ff // task.shape.model * per_unit + d * 4 * (6 + itemsize)
    at_work = gradients + task.num_tokens * itemsize * (
      2 * logits + units + 4 * joined
    )
  # A decoder layer keeps next to nothing: two tokens a row, and no keys or
  # values of the encoded ones.
  encoder = config.num_layers * (task.num_tokens * kept + whole)
  return encoder + config.num_decoder_layers * whole_decoder + at_work


def _params_bytes(task: Task) -> int:
  """Of all parameters in float32, those of a device."""
  rules = sharding.FULLY_SHARDED if task.shards_params else sharding.RULES
  mesh = mesh_lib.abstract(task.shape)
  return sum(
    tiles.as_it_lies(
      sharding.of_param(task.config, path, mesh, rules).shard_shape(shape), 4
    )
    for path, shape in tensors.shapes(task.config).items()
  )


def _kernel_bytes(task: Task, *, num_attentions: int) -> int:
  """Of a layer, in the dtype of activations; of one part of `model`."""
  _, joined, units = task.sizes
  num_mlp = units + task.config.d_ff // task.shape.model
  per_dimension = 4 * num_attentions * joined + num_mlp
  return task.config.d_model * per_dimension * task.itemsize
