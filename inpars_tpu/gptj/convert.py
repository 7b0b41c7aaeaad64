"""GPT-J's weights: Hugging Face's names, and the tree that model.py wants.

Linear kernels are transposed: torch keeps [out, in], model.py multiplies
x @ [in, out]. Those of queries and keys are in the order of
`attention.halve_rotary`. On a mesh each device reads its part of a tensor and
turns it.
"""

import functools
import math
import os
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from inpars_tpu import files, model_dir
from inpars_tpu import mesh as mesh_lib
from inpars_tpu.gptj import attention, linear, model, sharding
from inpars_tpu.gptj import config as config_lib

Path = tuple[str, ...]  # Of a parameter, layers without their number.

# Buffers of old transformers versions: masks that are no weights.
_IGNORED = (r'transformer\.h\.\d+\.attn\.(bias|masked_bias|embed_positions)',)

_LAYER = 'transformer.h.{}.'
_LAYER_NAMES = {  # Our path -> Hugging Face's name below a layer.
  ('norm', 'scale'): 'ln_1.weight',
  ('norm', 'bias'): 'ln_1.bias',
  ('query',): 'attn.q_proj.weight',
  ('key',): 'attn.k_proj.weight',
  ('value',): 'attn.v_proj.weight',
  ('out',): 'attn.out_proj.weight',
  ('mlp_in', 'kernel'): 'mlp.fc_in.weight',
  ('mlp_in', 'bias'): 'mlp.fc_in.bias',
  ('mlp_out', 'kernel'): 'mlp.fc_out.weight',
  ('mlp_out', 'bias'): 'mlp.fc_out.bias',
}
_OUTER_NAMES = {
  ('embedding',): 'transformer.wte.weight',
  ('final_norm', 'scale'): 'transformer.ln_f.weight',
  ('final_norm', 'bias'): 'transformer.ln_f.bias',
  ('head', 'kernel'): 'lm_head.weight',
  ('head', 'bias'): 'lm_head.bias',
}

# What a layer multiplies: nearly all of the weights. The head stays whole:
# it chooses the token.
_QUANTISED = (
  ('query',),
  ('key',),
  ('value',),
  ('out',),
  ('mlp_in', 'kernel'),
  ('mlp_out', 'kernel'),
)
_quantise = jax.jit(linear.quantise)
_halve_rotary = jax.jit(attention.halve_rotary, static_argnames='config')


def hf_shapes(config: config_lib.GPTJConfig) -> dict[str, tuple[int, ...]]:
  """Name -> shape of every tensor of a Hugging Face GPT-J."""
  d, f, v = config.model_dim, config.mlp_dim, config.vocab_size
  layer = {
    'ln_1.weight': (d,),
    'ln_1.bias': (d,),
    'attn.q_proj.weight': (d, d),
    'attn.k_proj.weight': (d, d),
    'attn.v_proj.weight': (d, d),
    'attn.out_proj.weight': (d, d),
    'mlp.fc_in.weight': (f, d),
    'mlp.fc_in.bias': (f,),
    'mlp.fc_out.weight': (d, f),
    'mlp.fc_out.bias': (d,),
  }
  shapes = {'transformer.wte.weight': (v, d)}
  for i in range(config.num_layers):
    shapes |= {_LAYER.format(i) + name: s for name, s in layer.items()}
  return shapes | {
    'transformer.ln_f.weight': (d,),
    'transformer.ln_f.bias': (d,),
    'lm_head.weight': (v, d),
    'lm_head.bias': (v,),
  }


def check(directory: str | os.PathLike) -> config_lib.GPTJConfig:
  """Reads config.json and checks the tensors against it, reading none.

  Raises:
    InputError: another architecture, or tensors missing, extra or misshapen.
  """
  return _open(directory)[0]


def load(
  directory: str | os.PathLike,
  dtype: jnp.dtype,
  *,
  weights: str | None = None,
  mesh: sharding.Mesh = None,
) -> tuple[config_lib.GPTJConfig, model.Params]:
  """Reads a directory's weights, one tensor at a time.

  Args:
    directory: a Hugging Face directory, of any float dtype.
    dtype: of the weights, and so of the activations.
    weights: 'int8': the layers' kernels are quantised as they are read.
    mesh: each device reads its part of a tensor; None: one device.

  Raises:
    InputError: as `check`.
  """
  config, reader = _open(directory)
  rules = sharding.rules(config, mesh)

  def read(name: str, path: Path):
    if mesh is None:
      array = jnp.asarray(np.asarray(reader.read(name)))
    else:
      axes = sharding.PARAMS[path][:: -1 if _is_kernel(path) else 1]
      array = mesh_lib.place(
        functools.partial(reader.read, name),
        reader.shapes[name],
        mesh_lib.sharding(mesh, axes, rules),
      )
    # A kernel goes to the device as it lies in memory and is turned there.
    array = array.T if _is_kernel(path) else array
    if path in (('query',), ('key',)):
      array = _halve_rotary(array, config)
    if weights == 'int8' and path in _QUANTISED:
      return _quantise(array)
    return array.astype(dtype)

  return config, _build(config, read)


def save_hf(
  directory: str | os.PathLike,
  config: config_lib.GPTJConfig,
  params: model.Params,
  dtype: np.dtype,
) -> None:
  """Writes a Hugging Face directory: safetensors of `dtype` and config.json.

  Args:
    directory: made where it is missing; tokenizer files are not written.
    config: sizes.
    params: of `load`, neither quantised nor on a mesh.
    dtype: of the file.
  """
  writer = model_dir.TensorWriter(directory)
  shapes = hf_shapes(config)

  def write(name: str, path: Path) -> None:
    array = params
    layer = re.fullmatch(r'transformer\.h\.(\d+)\..*', name)
    if layer:
      array = params['layers'][int(layer[1])]
    for key in path:
      array = array[key]
    if path in (('query',), ('key',)):
      array = attention.restore_rotary(array, config)
    array = array.T if _is_kernel(path) else array
    assert array.shape == shapes[name], (name, array.shape)
    writer.add(name, np.asarray(jax.device_get(array)).astype(dtype))

  _build(config, write)
  writer.close()
  hf_config = config.to_hf() | {'torch_dtype': np.dtype(dtype).name}
  files.write_json(epath.Path(directory) / 'config.json', hf_config)


def abstract_params(
  config: config_lib.GPTJConfig,
  dtype: jnp.dtype,
  *,
  weights: str | None = None,
  mesh: sharding.Mesh,
) -> model.Params:
  """The shapes, dtypes and places of what `load` returns, without a file."""
  shapes, rules = hf_shapes(config), sharding.rules(config, mesh)

  def describe(name: str, path: Path):
    axes = sharding.PARAMS[path]

    def struct(of_dtype, axes):
      whole = shapes[name][:: -1 if _is_kernel(path) else 1]
      return jax.ShapeDtypeStruct(
        whole[-len(axes) :],
        of_dtype,
        sharding=None if mesh is None else mesh_lib.sharding(mesh, axes, rules),
      )

    if weights == 'int8' and path in _QUANTISED:
      return {
        'int8': struct(jnp.int8, axes),
        'scale': struct(jnp.float32, axes[-1:]),
      }
    return struct(dtype, axes)

  return _build(config, describe)


def num_bytes(
  config: config_lib.GPTJConfig, dtype: jnp.dtype, weights: str | None = None
) -> int:
  """What `load` puts on a device, scales of int8 kernels left out."""
  quantised = tuple(_LAYER_NAMES[path] for path in _QUANTISED)
  return sum(
    math.prod(shape)
    * (1 if weights == 'int8' and name.endswith(quantised) else dtype.itemsize)
    for name, shape in hf_shapes(config).items()
  )


def _open(directory):
  hf_config = model_dir.read_config(directory, ['gptj'], 'the generator')
  config = config_lib.GPTJConfig.from_hf(hf_config)
  reader = model_dir.TensorReader(directory)
  reader.check(hf_shapes(config), _IGNORED)
  return config, reader


def _build(
  config: config_lib.GPTJConfig, read: Callable[[str, Path], Any]
) -> model.Params:
  """The tree of what `read` gives for each name and path in a layer."""
  params: model.Params = {}
  for path, name in _OUTER_NAMES.items():
    _put(params, path, read(name, path))
  params['layers'] = []
  for i in range(config.num_layers):
    layer: model.Params = {}
    for path, name in _LAYER_NAMES.items():
      _put(layer, path, read(_LAYER.format(i) + name, path))
    params['layers'].append(layer)
  return params


def _is_kernel(path: Path) -> bool:
  return path[-1] not in ('embedding', 'scale', 'bias')


def _put(tree, path, value) -> None:
  for key in path[:-1]:
    tree = tree.setdefault(key, {})
  tree[path[-1]] = value
