"""T5's weights, out of files and into them: Hugging Face's, t5x's, Mesh's.

Nothing is rescaled. Linear kernels are transposed: torch keeps [out, in],
network.py multiplies x @ [in, out], as t5x and Mesh TensorFlow do.
"""

import dataclasses
import itertools
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
from inpars_tpu.t5 import sharding, tensors
from inpars_tpu.t5 import weights as weights_lib

Params = dict[str, Any]  # Nested: 'encoder' -> 'layers_0' -> ... -> array.

# In old files, and read by nobody: copies of shared.weight, and a relative
# bias of cross-attention that no version of T5 uses.
_IGNORED = (
  r'(encoder|decoder)\.embed_tokens\.weight',
  r'decoder\.block\.0\.layer\.1\.EncDecAttention'
  r'\.relative_attention_bias\.weight',
)


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
  ours = tensors.shapes(config)
  variables = {
    path: mesh_checkpoint.variable_name(name)
    for name, path in tensors.names(config).items()
  }
  model_dir.check_shapes(
    prefix, reader.shapes, {variables[path]: ours[path] for path in ours}
  )

  def read_slots(path: tensors.Path) -> dict[str, np.ndarray]:
    slots = reader.read_slots(variables[path])
    return t5x_checkpoint.UNUSED_SLOTS | slots

  weights = weights_lib.Weights(
    config, prefix, lambda path: reader.read(variables[path])
  )
  if not reader.has_slots:
    return weights
  return dataclasses.replace(weights, step=reader.step(), read_slots=read_slots)


def check(directory: os.PathLike | str) -> config_lib.T5Config:
  """Reads config.json and checks the tensors against it.

  Raises:
    InputError: as `open_weights`.
  """
  return open_weights(directory).config


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
  for path in tensors.names(weights.config).values():
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
    array = array.astype(jnp.float32 if tensors.is_small(path) else dtype)
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
  ours = tensors.shapes(config)
  for name, path in tensors.names(config).items():
    array = _get(params, path)
    assert array.shape == ours[path], (path, array.shape)
    array = np.asarray(jax.device_get(array)).astype(dtype)
    writer.add(name, array.T if tensors.is_transposed(path) else array)
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
  if config.tie_word_embeddings and tensors.HEAD in reader.shapes:
    head, shared = reader.read(tensors.HEAD), reader.read(tensors.SHARED)
    config = _untie(directory, config, head, shared)
    if config.tie_word_embeddings:
      ignored += (tensors.HEAD,)
  reader.check(tensors.hf_shapes(config), ignored)
  theirs = {path: name for name, path in tensors.names(config).items()}

  def read(path: tensors.Path) -> np.ndarray:
    tensor = reader.read(theirs[path])
    return tensor.T if tensors.is_transposed(path) else tensor

  return weights_lib.Weights(config, directory, read)


def _open_t5x(checkpoint, config) -> weights_lib.Weights:
  reader = t5x_checkpoint.Reader(checkpoint)
  head, embedding = _t5x_name(tensors.HEAD_KERNEL), _t5x_name(tensors.EMBEDDING)
  if config.tie_word_embeddings and {head, embedding} <= reader.shapes.keys():
    config = _untie(
      checkpoint, config, reader.read(head).T, reader.read(embedding)
    )
  prefix = f'{t5x_checkpoint.TARGET}/'
  found = {n: s for n, s in reader.shapes.items() if n.startswith(prefix)}
  model_dir.check_shapes(
    checkpoint,
    found,
    {_t5x_name(path): shape for path, shape in tensors.shapes(config).items()},
  )
  slots = {
    path: [
      f'{t5x_checkpoint.SLOTS}/{"/".join(path)}/{slot}'
      for slot in t5x_checkpoint.UNUSED_SLOTS
    ]
    for path in tensors.shapes(config)
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
      f'{where}: config.json ties the embeddings, but {tensors.HEAD} is not '
      f'{tensors.SHARED}'
    )
  # transformers 5 writes tie_word_embeddings = true for every T5, and leaves
  # out the head where it is tied.
  return dataclasses.replace(config, tie_word_embeddings=False)


def _t5x_name(path: tensors.Path) -> str:
  return '/'.join((t5x_checkpoint.TARGET, *path))


def _put(tree, path, value) -> None:
  for key in path[:-1]:
    tree = tree.setdefault(key, {})
  tree[path[-1]] = value


def _get(tree, path):
  for key in path:
    tree = tree[key]
  return tree
