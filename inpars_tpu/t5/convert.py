"""T5's weights: Hugging Face's names, and t5x's, which network.py has.

Nothing is rescaled. Linear kernels are transposed: torch keeps [out, in],
network.py multiplies x @ [in, out], as t5x and Mesh TensorFlow do.
"""

import dataclasses
import itertools
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from inpars_tpu import (
  errors,
  files,
  mesh_checkpoint,
  model_dir,
  t5x_checkpoint,
)
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import sharding
from inpars_tpu.t5 import weights as weights_lib

Params = dict[str, Any]  # Nested: 'encoder' -> 'layers_0' -> ... -> array.
Path = weights_lib.Path

# In old files, and read by nobody: copies of shared.weight, and a relative
# bias of cross-attention that no version of T5 uses.
_IGNORED = (
  r'(encoder|decoder)\.embed_tokens\.weight',
  r'decoder\.block\.0\.layer\.1\.EncDecAttention'
  r'\.relative_attention_bias\.weight',
)
_SHARED, _HEAD = 'shared.weight', 'lm_head.weight'
_EMBEDDING = ('token_embedder', 'embedding')
_HEAD_KERNEL = ('decoder', 'logits_dense', 'kernel')
# t5x's name of an attention's kernels -> Hugging Face's.
_PROJECTIONS = {'query': 'q', 'key': 'k', 'value': 'v', 'out': 'o'}
# Of one stack, in Hugging Face's order: its attentions, with their norms.
_ATTENTIONS = {
  'encoder': (('attention', 'pre_attention_layer_norm', 'SelfAttention'),),
  'decoder': (
    ('self_attention', 'pre_self_attention_layer_norm', 'SelfAttention'),
    (
      'encoder_decoder_attention',
      'pre_cross_attention_layer_norm',
      'EncDecAttention',
    ),
  ),
}


def names(config: config_lib.T5Config) -> dict[str, Path]:
  """Hugging Face's name -> our path, of every tensor."""
  table: dict[str, Path] = {_SHARED: _EMBEDDING}
  num_layers = {
    'encoder': config.num_layers,
    'decoder': config.num_decoder_layers,
  }
  kernels = ('wi_0', 'wi_1', 'wo') if config.is_gated else ('wi', 'wo')
  for stack, attentions in _ATTENTIONS.items():
    for i in range(num_layers[stack]):
      ours = (stack, f'layers_{i}')
      for j, (attention, norm, name) in enumerate(attentions):
        theirs = f'{stack}.block.{i}.layer.{j}'
        for kernel, letter in _PROJECTIONS.items():
          table[f'{theirs}.{name}.{letter}.weight'] = (
            *ours, attention, kernel, 'kernel',
          )  # fmt: skip
        if i == j == 0:  # One table of relative biases for all the layers.
          table[f'{theirs}.{name}.relative_attention_bias.weight'] = (
            stack, 'relpos_bias', 'rel_embedding',
          )  # fmt: skip
        table[f'{theirs}.layer_norm.weight'] = (*ours, norm, 'scale')
      theirs = f'{stack}.block.{i}.layer.{len(attentions)}'
      for kernel in kernels:
        table[f'{theirs}.DenseReluDense.{kernel}.weight'] = (
          *ours, 'mlp', kernel, 'kernel',
        )  # fmt: skip
      table[f'{theirs}.layer_norm.weight'] = (
        *ours, 'pre_mlp_layer_norm', 'scale',
      )  # fmt: skip
    table[f'{stack}.final_layer_norm.weight'] = (
      stack, f'{stack}_norm', 'scale',
    )  # fmt: skip
  if not config.tie_word_embeddings:
    table[_HEAD] = _HEAD_KERNEL
  return table


def shapes(config: config_lib.T5Config) -> dict[Path, tuple[int, ...]]:
  """Our path -> shape of every array."""
  joined = config.num_heads * config.d_kv
  kernels = {
    **dict.fromkeys(('query', 'key', 'value'), (config.d_model, joined)),
    'out': (joined, config.d_model),
    **dict.fromkeys(('wi', 'wi_0', 'wi_1'), (config.d_model, config.d_ff)),
    'wo': (config.d_ff, config.d_model),
    'logits_dense': (config.d_model, config.vocab_size),
  }
  leaves = {
    'embedding': (config.vocab_size, config.d_model),
    'rel_embedding': (
      config.num_heads,
      config.relative_attention_num_buckets,
    ),
    'scale': (config.d_model,),
  }
  return {
    path: kernels[path[-2]] if path[-1] == 'kernel' else leaves[path[-1]]
    for path in names(config).values()
  }


def hf_shapes(config: config_lib.T5Config) -> dict[str, tuple[int, ...]]:
  """Name -> shape of every tensor of a Hugging Face T5."""
  ours = shapes(config)
  return {
    name: ours[path][::-1] if is_transposed(path) else ours[path]
    for name, path in names(config).items()
  }


def open_weights(
  directory: os.PathLike | str, hf_config: Mapping[str, Any] | None = None
) -> weights_lib.Weights:
  """Opens a model directory: Hugging Face's, or with a t5x checkpoint.

  Args:
    directory: `t5x_checkpoint.find` says how a checkpoint lies in it.
    hf_config: its config.json; None: is read.

  Raises:
    InputError: another architecture, or tensors missing, extra or misshapen.
  """
  checkpoint = t5x_checkpoint.find(directory)
  if checkpoint and model_dir.has_weights(directory):
    raise errors.InputError(
      f'{directory} holds {checkpoint.name}, of t5x, and weights of Hugging '
      'Face: keep one of them there'
    )
  if hf_config is None:
    if checkpoint:
      t5x_checkpoint.must_have_config(directory, checkpoint)
    hf_config = model_dir.read_config(
      directory, config_lib.MODEL_TYPES, 'the reranker'
    )
  config = config_lib.T5Config.from_hf(hf_config)
  if checkpoint:
    return _open_t5x(checkpoint, config)
  return _open_hf(directory, config)


def open_mesh(
  path: os.PathLike | str, hf_config: Mapping[str, Any]
) -> weights_lib.Weights:
  """Opens a Mesh TensorFlow checkpoint, with its slots and step.

  Args:
    path: as `mesh_checkpoint.find` takes it.
    hf_config: the config.json that describes it.

  Raises:
    InputError: not there, or variables missing, extra or misshapen.
  """
  prefix = mesh_checkpoint.find(path)
  reader = mesh_checkpoint.Reader(prefix)
  config = config_lib.T5Config.from_hf(hf_config)
  ours = shapes(config)
  variables = {
    path: mesh_checkpoint.variable_name(name)
    for name, path in names(config).items()
  }
  model_dir.check_shapes(
    prefix, reader.shapes, {variables[path]: ours[path] for path in ours}
  )

  def read_slots(path: Path) -> dict[str, np.ndarray]:
    slots = reader.read_slots(variables[path])
    return t5x_checkpoint.UNUSED_SLOTS | slots

  weights = weights_lib.Weights(
    config, prefix, lambda path: reader.read(variables[path])
  )
  if not reader.has_slots:
    return weights
  return dataclasses.replace(weights, step=reader.step(), read_slots=read_slots)


def is_small(path: Path) -> bool:
  """True of what is float32 always: norms and relative biases."""
  return path[-1] in ('scale', 'rel_embedding')


def is_transposed(path: Path) -> bool:
  """True where Hugging Face has the other orientation."""
  return path[-1] in ('kernel', 'rel_embedding')


def check(directory: os.PathLike | str) -> config_lib.T5Config:
  """Reads config.json and checks the tensors against it.

  Raises:
    InputError: as `open_weights`.
  """
  return open_weights(directory).config


def num_bytes(config: config_lib.T5Config, dtype: jnp.dtype) -> int:
  """What `load` puts on a device."""
  return sum(
    math.prod(shape) * (4 if is_small(path) else jnp.dtype(dtype).itemsize)
    for path, shape in shapes(config).items()
  )


def load(
  directory: os.PathLike | str,
  dtype: jnp.dtype = jnp.float32,
  mesh: sharding.Mesh = None,
  rules: mesh_lib.Rules = sharding.RULES,
) -> tuple[config_lib.T5Config, Params]:
  """Reads a directory's weights, one tensor at a time.

  Args:
    directory: a model directory, of any float dtype.
    dtype: of kernels and embeddings; the small rest is float32 always.
    mesh: each device gets its part of a tensor; None: one device.
    rules: of the mesh.

  Returns:
    The configuration, and the 'params' of `network.Transformer`.

  Raises:
    InputError: as `open_weights`.
  """
  weights = open_weights(directory)
  params: Params = {}
  for path in names(weights.config).values():
    array = weights.read(path)
    # A turned view goes to the device as it lies in memory, to be turned there.
    is_turned = not array.flags.c_contiguous
    array = array.T if is_turned else array
    if mesh is None:
      array = jnp.asarray(array)
    else:
      place = sharding.of_param(weights.config, path, mesh, rules)
      array = mesh_lib.place(
        array.__getitem__,
        array.shape,
        sharding.turn(place) if is_turned else place,
      )
    array = array.astype(jnp.float32 if is_small(path) else dtype)
    _put(params, path, array.T if is_turned else array)
  return weights.config, params


def save_hf(
  directory: os.PathLike | str,
  config: config_lib.T5Config,
  params: Mapping[str, Any],
  hf_config: Mapping[str, Any] | None = None,
  dtype: np.dtype = np.float32,
) -> None:
  """Writes a Hugging Face directory: safetensors and config.json.

  Args:
    directory: made where it is missing; tokenizer files are not written.
    config: sizes.
    params: the 'params' of `network.Transformer`.
    hf_config: the config.json that the weights came with; fields of it that
      T5Config does not know are kept.
    dtype: of the file.
  """
  writer = model_dir.TensorWriter(directory)
  ours = shapes(config)
  for name, path in names(config).items():
    array = _get(params, path)
    assert array.shape == ours[path], (path, array.shape)
    array = np.asarray(jax.device_get(array)).astype(dtype)
    writer.add(name, array.T if is_transposed(path) else array)
  writer.close()
  kept = {**(hf_config or {}), **config.to_hf()}
  kept.pop('dtype', None)  # transformers 5's name for torch_dtype.
  files.write_json(
    epath.Path(directory) / 'config.json',
    {**kept, 'torch_dtype': np.dtype(dtype).name},
  )


def _open_hf(directory, config) -> weights_lib.Weights:
  reader = model_dir.TensorReader(directory)
  ignored = _IGNORED
  if config.tie_word_embeddings and _HEAD in reader.shapes:
    head, shared = reader.read(_HEAD), reader.read(_SHARED)
    config = _untie(directory, config, head, shared)
    if config.tie_word_embeddings:
      ignored += (_HEAD,)
  reader.check(hf_shapes(config), ignored)
  theirs = {path: name for name, path in names(config).items()}

  def read(path: Path) -> np.ndarray:
    tensor = reader.read(theirs[path])
    return tensor.T if is_transposed(path) else tensor

  return weights_lib.Weights(config, directory, read)


def _open_t5x(checkpoint, config) -> weights_lib.Weights:
  reader = t5x_checkpoint.Reader(checkpoint)
  head, embedding = _t5x_name(_HEAD_KERNEL), _t5x_name(_EMBEDDING)
  if config.tie_word_embeddings and {head, embedding} <= reader.shapes.keys():
    config = _untie(
      checkpoint, config, reader.read(head).T, reader.read(embedding)
    )
  prefix = f'{t5x_checkpoint.TARGET}/'
  found = {n: s for n, s in reader.shapes.items() if n.startswith(prefix)}
  model_dir.check_shapes(
    checkpoint,
    found,
    {_t5x_name(path): shape for path, shape in shapes(config).items()},
  )
  slots = {
    path: [
      f'{t5x_checkpoint.SLOTS}/{"/".join(path)}/{slot}'
      for slot in t5x_checkpoint.UNUSED_SLOTS
    ]
    for path in shapes(config)
  }
  weights = weights_lib.Weights(
    config, checkpoint, lambda p: reader.read(_t5x_name(p))
  )
  wanted = {t5x_checkpoint.STEP, *itertools.chain(*slots.values())}
  if not wanted <= reader.shapes.keys():
    return weights  # Another optimizer's, or none.
  return dataclasses.replace(
    weights,
    step=int(reader.read(t5x_checkpoint.STEP)),
    read_slots=lambda path: dict(
      zip(
        t5x_checkpoint.UNUSED_SLOTS, map(reader.read, slots[path]), strict=True
      )
    ),
  )


def _untie(where, config, head, shared) -> config_lib.T5Config:
  """What config.json means that ties the embeddings, where a head is stored.

  Raises:
    InputError: the head is not the embedding of a model that must tie them.
  """
  if np.array_equal(head, shared):
    return config
  if config.scale_decoder_output:
    raise errors.InputError(
      f'{where}: config.json ties the embeddings, but {_HEAD} is not {_SHARED}'
    )
  # transformers 5 writes tie_word_embeddings = true for every T5, and leaves
  # out the head where it is tied.
  return dataclasses.replace(config, tie_word_embeddings=False)


def _t5x_name(path: Path) -> str:
  return '/'.join((t5x_checkpoint.TARGET, *path))


def _put(tree, path, value) -> None:
  for key in path[:-1]:
    tree = tree.setdefault(key, {})
  tree[path[-1]] = value


def _get(tree, path):
  for key in path:
    tree = tree[key]
  return tree
