"""T5's architecture, as config.json of a Hugging Face directory gives it.

Version 1.0 (monoT5): relu, embeddings tied to the logits, decoder output
scaled by d_model^-0.5. Version 1.1, FLAN and mT5: gated gelu, untied, unscaled.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from inpars_tpu import errors

MODEL_TYPES = ('t5', 'mt5')

# feed_forward_proj -> (is_gated, activation). gelu_new is gelu's tanh form.
_FEED_FORWARD = {
  'relu': (False, 'relu'),
  'gated-gelu': (True, 'gelu_new'),
}
_SIZES = (
  'vocab_size',
  'd_model',
  'd_kv',
  'd_ff',
  'num_layers',
  'num_heads',
  'relative_attention_num_buckets',
)


@dataclasses.dataclass(frozen=True)
class T5Config:
  """Sizes of a T5; the defaults are t5-small's. Names are Hugging Face's."""

  vocab_size: int = 32_128
  d_model: int = 512
  d_kv: int = 64  # Of each head; num_heads * d_kv need not be d_model.
  d_ff: int = 2_048
  num_layers: int = 6  # Of the encoder.
  num_decoder_layers: int = 6
  num_heads: int = 8
  relative_attention_num_buckets: int = 32
  relative_attention_max_distance: int = 128
  layer_norm_epsilon: float = 1e-6
  dropout_rate: float = 0.1
  is_gated: bool = False
  activation: str = 'relu'  # Or 'gelu_new'.
  tie_word_embeddings: bool = True
  scale_decoder_output: bool = True  # By d_model^-0.5, before the logits.
  model_type: str = 't5'  # Or 'mt5': the same network.

  @classmethod
  def from_hf(cls, config: Mapping[str, Any]) -> 'T5Config':
    """Reads the fields of a Hugging Face config.json of type t5 or mt5.

    Raises:
      InputError: a field is missing or no size, or a network that is not here.
    """
    for name in _SIZES:
      if name not in config:
        raise errors.InputError(f'config.json of a T5 model lacks {name!r}')
    model_type = config.get('model_type', 't5')
    if model_type not in MODEL_TYPES:
      raise errors.unknown('model_type in config.json', model_type, MODEL_TYPES)
    # transformers' defaults: T5's is relu, mT5's gated-gelu and untied.
    is_mt5 = model_type == 'mt5'
    projection = config.get(
      'feed_forward_proj', 'gated-gelu' if is_mt5 else 'relu'
    )
    if projection not in _FEED_FORWARD:
      raise errors.unknown(
        'feed_forward_proj in config.json', str(projection), _FEED_FORWARD
      )
    for name, wanted in (('pad_token_id', 0), ('decoder_start_token_id', 0)):
      if config.get(name, wanted) != wanted:
        raise errors.InputError(
          f'config.json: {name} is {config[name]}; a T5 has {wanted}'
        )
    is_gated, activation = _FEED_FORWARD[projection]
    is_tied = config.get('tie_word_embeddings', not is_mt5)
    sizes = cls(
      **{name: config[name] for name in _SIZES},
      num_decoder_layers=(
        config.get('num_decoder_layers') or config['num_layers']
      ),
      relative_attention_max_distance=config.get(
        'relative_attention_max_distance', 128
      ),
      layer_norm_epsilon=config.get('layer_norm_epsilon', 1e-6),
      dropout_rate=config.get('dropout_rate', 0.1),
      is_gated=is_gated,
      activation=activation,
      tie_word_embeddings=is_tied,
      # transformers 5 writes this; before, tied meant scaled. mT5 never is.
      scale_decoder_output=(
        not is_mt5 and config.get('scale_decoder_outputs', is_tied)
      ),
      model_type=model_type,
    )
    for name in (*_SIZES, 'num_decoder_layers'):
      size = getattr(sizes, name)
      if type(size) is not int or size < 1:
        raise errors.InputError(f'config.json: {name} is {size!r}, no size')
    return sizes

  def to_hf(self) -> dict[str, Any]:
    """The config.json that transformers reads."""
    projections = {value: name for name, value in _FEED_FORWARD.items()}
    return {
      'model_type': self.model_type,
      'architectures': [
        'MT5ForConditionalGeneration'
        if self.model_type == 'mt5'
        else 'T5ForConditionalGeneration'
      ],
      'is_encoder_decoder': True,
      **{name: getattr(self, name) for name in _SIZES},
      'num_decoder_layers': self.num_decoder_layers,
      'relative_attention_max_distance': self.relative_attention_max_distance,
      'layer_norm_epsilon': self.layer_norm_epsilon,
      'dropout_rate': self.dropout_rate,
      'feed_forward_proj': projections[self.is_gated, self.activation],
      'tie_word_embeddings': self.tie_word_embeddings,
      'scale_decoder_outputs': self.scale_decoder_output,
      'pad_token_id': 0,
      'eos_token_id': 1,
      'decoder_start_token_id': 0,
    }
