"""GPT-J's architecture, as config.json of a Hugging Face directory gives it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from inpars_tpu import errors


@dataclasses.dataclass(frozen=True)
class GPTJConfig:
  """Sizes of a GPT-J; the defaults are EleutherAI/gpt-j-6b's."""

  vocab_size: int = 50_400
  max_positions: int = 2_048  # Context: prompt and new tokens together.
  model_dim: int = 4_096
  num_layers: int = 28
  num_heads: int = 16
  rotary_dim: int = 64  # Leading dimensions of each head that are rotated.
  mlp_dim: int = 16_384
  layer_norm_epsilon: float = 1e-5

  @property
  def head_dim(self) -> int:
    return self.model_dim // self.num_heads

  @classmethod
  def from_hf(cls, config: Mapping[str, Any]) -> 'GPTJConfig':
    """Reads the fields of a Hugging Face config.json of type gptj.

    Raises:
      InputError: a field is missing, or a size that this network cannot have.
    """
    try:
      sizes = cls(
        vocab_size=config['vocab_size'],
        max_positions=config['n_positions'],
        model_dim=config['n_embd'],
        num_layers=config['n_layer'],
        num_heads=config['n_head'],
        rotary_dim=config['rotary_dim'],
        mlp_dim=config.get('n_inner') or 4 * config['n_embd'],
        layer_norm_epsilon=config.get('layer_norm_epsilon', 1e-5),
      )
    except KeyError as error:
      raise errors.InputError(
        f'config.json of a gptj model lacks {error.args[0]!r}'
      ) from None
    activation = config.get('activation_function', 'gelu_new')
    if activation != 'gelu_new':
      raise errors.InputError(
        f'config.json: activation_function {activation!r}; GPT-J has gelu_new'
      )
    if sizes.model_dim % sizes.num_heads:
      raise errors.InputError(
        f'config.json: n_embd {sizes.model_dim} is not a multiple of '
        f'n_head {sizes.num_heads}'
      )
    if sizes.rotary_dim % 2 or not 0 < sizes.rotary_dim <= sizes.head_dim:
      raise errors.InputError(
        f'config.json: rotary_dim {sizes.rotary_dim} must be even and at most '
        f'the {sizes.head_dim} dimensions of a head'
      )
    return sizes

  def to_hf(self) -> dict[str, Any]:
    """The config.json that transformers reads."""
    return {
      'model_type': 'gptj',
      'architectures': ['GPTJForCausalLM'],
      'vocab_size': self.vocab_size,
      'n_positions': self.max_positions,
      'n_embd': self.model_dim,
      'n_layer': self.num_layers,
      'n_head': self.num_heads,
      'rotary_dim': self.rotary_dim,
      'n_inner': self.mlp_dim,
      'layer_norm_epsilon': self.layer_norm_epsilon,
      'activation_function': 'gelu_new',
      'tie_word_embeddings': False,
    }
