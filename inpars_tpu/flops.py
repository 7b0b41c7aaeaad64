"""Floating-point operations that the method needs, counted by hand.

Matrix products alone, 2 for each multiply-add; norms, softmaxes, lookups and
relative biases are left out (below 1% at 3B). What is counted is the work on
real tokens: padding, filler rows and anything computed twice is not needed,
so needed work / (seconds x peak) is the share of the machine that was of use.
Give padded lengths to count what a program computes.

D model dim, F feed-forward dim, H heads, K head dim, V vocabulary.
"""

from typing import NamedTuple

from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.t5 import config as t5_config


class ScoreFlops(NamedTuple):
  """One pair scored by T5; the sum of the fields is the whole."""

  encoder: int  # Tokens times the encoder's weights.
  attention: int  # Of encoder tokens among themselves.
  cross: int  # Of the decoder's position to the encoder's tokens.
  decoder: int  # The decoder's weights and the label logits.


def score_pair(
  config: t5_config.T5Config,
  num_tokens: int,
  *,
  is_absorbed: bool = True,
  num_labels: int = 2,
) -> ScoreFlops:
  """Counts one forward pass with one decoder position.

  Args:
    config: sizes.
    num_tokens: encoder tokens, </s> included.
    is_absorbed: cross-attention without keys and values of each token, as
      `t5.attention.Attention.over_encoded`; False: a plain T5.
    num_labels: tokens whose logits are wanted.
  """
  d, joined = config.d_model, config.num_heads * config.d_kv
  projection, mlp = d * joined, _t5_mlp(config)
  # Query and values: logits, then the weighted sum, D or K wide for each head.
  width = config.num_heads * d if is_absorbed else joined
  cross = 2 * width * num_tokens
  if not is_absorbed:
    cross += 2 * projection * num_tokens
  # Attention of one position to itself: its value and its output, no more.
  # The key and value kernels are multiplied once, with the query and the sum.
  weights = 2 * projection + (4 if is_absorbed else 2) * projection + mlp
  decoder = config.num_decoder_layers * weights + d * num_labels
  return ScoreFlops(
    encoder=2 * config.num_layers * (4 * projection + mlp) * num_tokens,
    attention=2 * config.num_layers * 2 * joined * num_tokens**2,
    cross=2 * config.num_decoder_layers * cross,
    decoder=2 * decoder,
  )


def train_pair(
  config: t5_config.T5Config,
  num_tokens: int,
  num_targets: int = 2,
  *,
  is_absorbed: bool = True,
) -> int:
  """Counts forward and backward (twice the forward) of a fine-tuning pair.

  Args:
    config: sizes.
    num_tokens: encoder tokens.
    num_targets: decoder tokens, each with the logits of the vocabulary.
    is_absorbed: cross-attention as in `score_pair`.
  """
  d, joined = config.d_model, config.num_heads * config.d_kv
  forward = score_pair(config, num_tokens, num_labels=0)
  width = config.num_heads * d if is_absorbed else joined
  # Self-attention's four kernels, and cross-attention's; its key and value
  # kernels meet the query and the sum, or each encoded token.
  per_target = (8 if is_absorbed else 6) * d * joined + _t5_mlp(config)
  per_target += 2 * (width * num_tokens + joined * num_targets)
  per_layer = num_targets * per_target
  if not is_absorbed:
    per_layer += 2 * d * joined * num_tokens
  decoder = config.num_decoder_layers * per_layer
  decoder += num_targets * d * config.vocab_size
  return 3 * (forward.encoder + forward.attention + 2 * decoder)


def read_prefix(config: gptj_config.GPTJConfig, num_tokens: int) -> int:
  """Counts the keys and values of a prefix that all prompts share."""
  return _read(config, 0, num_tokens)


def write_query(
  config: gptj_config.GPTJConfig,
  prefix_tokens: int,
  prompt_tokens: int,
  num_steps: int,
) -> tuple[int, int]:
  """Counts one query by GPT-J: (prefill, decode).

  Args:
    config: sizes.
    prefix_tokens: whose keys and values are there, see `read_prefix`; 0 where
      each row reads its whole prompt.
    prompt_tokens: of the row itself.
    num_steps: new tokens that are read again: all but the last one chosen,
      since prefill gives the first.
  """
  d, num_layers = config.model_dim, config.num_layers
  head = d * config.vocab_size
  # The last layer, for the last position: all but its keys and values.
  seen = prefix_tokens + prompt_tokens
  last = _gptj_layer(config) - 2 * d * d + 2 * d * seen
  prefill = _read(config, prefix_tokens, prompt_tokens) + 2 * (last + head)
  step = num_layers * _gptj_layer(config) + head
  attention = num_layers * 2 * d * _sum_seen(seen, num_steps)
  return prefill, 2 * (num_steps * step + attention)


def by_weights(config: gptj_config.GPTJConfig) -> tuple[int, int]:
  """Counts a token of GPT-J by the weights that it meets: (prompt, new).

  The rough count that is quoted: no attention, every layer whole, and the head
  for each new token alone.
  """
  layers = 2 * config.num_layers * _gptj_layer(config)
  return layers, layers + 2 * config.model_dim * config.vocab_size


def _read(config, num_before: int, num_tokens: int) -> int:
  """Every layer but the last for each token, and keys and values of that."""
  d, num_whole = config.model_dim, config.num_layers - 1
  weights = num_whole * _gptj_layer(config) + 2 * d * d
  attention = num_whole * 2 * d * _sum_seen(num_before, num_tokens)
  return 2 * (num_tokens * weights + attention)


def _sum_seen(num_before: int, num_tokens: int) -> int:
  """Positions seen by tokens after others, each seeing itself too."""
  return num_tokens * num_before + num_tokens * (num_tokens + 1) // 2


def _gptj_layer(config) -> int:
  """Weights of a block that a token meets."""
  return 4 * config.model_dim**2 + 2 * config.model_dim * config.mlp_dim


def _t5_mlp(config) -> int:
  return (3 if config.is_gated else 2) * config.d_model * config.d_ff
