"""T5's weights: Hugging Face's names, and t5x's, which network.py has.

Nothing is rescaled. Linear kernels are transposed: torch keeps [out, in],
network.py multiplies x @ [in, out].
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from inpars_tpu import errors, files, model_dir
from inpars_tpu.t5 import config as config_lib

Params = dict[str, Any]  # Nested: 'encoder' -> 'layers_0' -> ... -> array.
Path = tuple[str, ...]  # Of one array in it.

# In old files, and read by nobody: copies of shared.weight, and a relative
# bias of cross-attention that no version of T5 uses.
_IGNORED = (
  r'(encoder|decoder)\.embed_tokens\.weight',
  r'decoder\.block\.0\.layer\.1\.EncDecAttention'
  r'\.relative_attention_bias\.weight',
)
_SHARED, _HEAD = 'shared.weight', 'lm_head.weight'
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
  table: dict[str, Path] = {_SHARED: ('token_embedder', 'embedding')}
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
    table[_HEAD] = ('decoder', 'logits_dense', 'kernel')
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
    name: ours[path][::-1] if _is_transposed(path) else ours[path]
    for name, path in names(config).items()
  }


def is_small(path: Path) -> bool:
  """True of what is float32 always: norms and relative biases."""
  return path[-1] in ('scale', 'rel_embedding')


def check(directory: os.PathLike | str) -> config_lib.T5Config:
  """Reads config.json and checks the tensors against it.

  Raises:
    InputError: another architecture, or tensors missing, extra or misshapen.
  """
  return _open(directory)[0]


def load(
  directory: os.PathLike | str, dtype: jnp.dtype = jnp.float32
) -> tuple[config_lib.T5Config, Params]:
  """Reads a directory's weights, one tensor at a time.

  Args:
    directory: a Hugging Face directory, of any float dtype.
    dtype: of kernels and embeddings; the small rest is float32 always.

  Returns:
    The configuration, and the 'params' of `network.Transformer`.

  Raises:
    InputError: as `check`.
  """
  config, reader = _open(directory)
  params: Params = {}
  for name, path in names(config).items():
    # A kernel goes to the device as it lies in memory and is turned there.
    array = jnp.asarray(reader.read(name))
    array = array.astype(jnp.float32 if is_small(path) else dtype)
    _put(params, path, array.T if _is_transposed(path) else array)
  return config, params


def save_hf(
  directory: os.PathLike | str,
  config: config_lib.T5Config,
  params: Mapping[str, Any],
  hf_config: Mapping[str, Any] | None = None,
) -> None:
  """Writes a Hugging Face directory: float32 safetensors and config.json.

  Args:
    directory: made where it is missing; tokenizer files are not written.
    config: sizes.
    params: the 'params' of `network.Transformer`.
    hf_config: the config.json that the weights came with; fields of it that
      T5Config does not know are kept.
  """
  writer = model_dir.TensorWriter(directory)
  ours = shapes(config)
  for name, path in names(config).items():
    array = _get(params, path)
    assert array.shape == ours[path], (path, array.shape)
    array = np.asarray(jax.device_get(array), np.float32)
    writer.add(name, array.T if _is_transposed(path) else array)
  writer.close()
  kept = {**(hf_config or {}), **config.to_hf()}
  kept.pop('dtype', None)  # transformers 5's name for torch_dtype.
  files.write_json(
    epath.Path(directory) / 'config.json', {**kept, 'torch_dtype': 'float32'}
  )


def _open(directory):
  """The configuration and a reader whose tensors fit it."""
  hf_config = model_dir.read_config(
    directory, config_lib.MODEL_TYPES, 'the reranker'
  )
  config = config_lib.T5Config.from_hf(hf_config)
  reader = model_dir.TensorReader(directory)
  ignored = _IGNORED
  if config.tie_word_embeddings and _HEAD in reader.shapes:
    if np.array_equal(reader.read(_HEAD), reader.read(_SHARED)):
      ignored += (_HEAD,)
    elif config.scale_decoder_output:
      raise errors.InputError(
        f'{directory}: config.json ties the embeddings, but {_HEAD} is not '
        f'{_SHARED}'
      )
    else:
      # transformers 5 writes tie_word_embeddings = true for every T5, and
      # leaves out the head where it is tied.
      config = dataclasses.replace(config, tie_word_embeddings=False)
  reader.check(hf_shapes(config), ignored)
  return config, reader


def _is_transposed(path: Path) -> bool:
  return path[-1] in ('kernel', 'rel_embedding')


def _put(tree, path, value) -> None:
  for key in path[:-1]:
    tree = tree.setdefault(key, {})
  tree[path[-1]] = value


def _get(tree, path):
  for key in path:
    tree = tree[key]
  return tree
