"""T5's tensors: what Hugging Face and we call each, and its shape.

Ours are t5x's names, which network.py has. Knows no file.
"""

import math

import jax.numpy as jnp

from inpars_tpu.t5 import config as config_lib

# Of a parameter, in network.py: ('encoder', 'layers_0', ..., 'kernel').
Path = tuple[str, ...]

SHARED, HEAD = 'shared.weight', 'lm_head.weight'
EMBEDDING = ('token_embedder', 'embedding')
HEAD_KERNEL = ('decoder', 'logits_dense', 'kernel')
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
  table: dict[str, Path] = {SHARED: EMBEDDING}
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
    table[HEAD] = HEAD_KERNEL
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


def is_small(path: Path) -> bool:
  """True of what is float32 always: norms and relative biases."""
  return path[-1] in ('scale', 'rel_embedding')


def is_transposed(path: Path) -> bool:
  """True where Hugging Face has the other orientation."""
  return path[-1] in ('kernel', 'rel_embedding')


def num_bytes(config: config_lib.T5Config, dtype: jnp.dtype) -> int:
  """What `load` puts on a device."""
  return sum(
    math.prod(shape) * (4 if is_small(path) else jnp.dtype(dtype).itemsize)
    for path, shape in shapes(config).items()
  )
