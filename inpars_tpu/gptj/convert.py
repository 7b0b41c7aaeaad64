"""GPT-J's weights: Hugging Face's names, and the tree that model.py wants.

Linear kernels are transposed: torch keeps [out, in], model.py multiplies
x @ [in, out].
"""

import os

import jax.numpy as jnp
import numpy as np

from inpars_tpu import model_dir
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import model

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
  directory: str | os.PathLike, dtype: jnp.dtype
) -> tuple[config_lib.GPTJConfig, model.Params]:
  """Reads a directory's weights, one tensor at a time, in `dtype`.

  Raises:
    InputError: as `check`.
  """
  config, reader = _open(directory)

  def read(name: str, is_kernel: bool) -> jnp.ndarray:
    tensor = reader.read(name)
    # A kernel goes to the device as it lies in memory and is turned there.
    array = jnp.asarray(np.asarray(tensor)).astype(dtype)
    return array.T if is_kernel else array

  params: model.Params = {}
  for path, name in _OUTER_NAMES.items():
    _put(params, path, read(name, path == ('head', 'kernel')))
  params['layers'] = []
  for i in range(config.num_layers):
    layer: model.Params = {}
    for path, name in _LAYER_NAMES.items():
      tensor = read(_LAYER.format(i) + name, path[-1] not in ('scale', 'bias'))
      _put(layer, path, tensor)
    params['layers'].append(layer)
  return config, params


def _open(directory):
  hf_config = model_dir.read_config(directory, ['gptj'], 'the generator')
  config = config_lib.GPTJConfig.from_hf(hf_config)
  reader = model_dir.TensorReader(directory)
  reader.check(hf_shapes(config), _IGNORED)
  return config, reader


def _put(tree, path, value) -> None:
  for key in path[:-1]:
    tree = tree.setdefault(key, {})
  tree[path[-1]] = value
