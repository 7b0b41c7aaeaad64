"""Floating-point operations that our programs execute, as XLA counts them.

Where `flops` counts what the method needs, here is what is computed: padding,
filler rows and masked positions too, and beside the matrix products what is
done to each number: of a norm, an activation, a softmax, a draw of dropout.
How many operations those are to XLA was found by least squares over its counts
of small random sizes; what is left is below 0.3% there. Of wide models they are
little: 1% at 3B.

D model dim, F feed-forward dim, H heads, K head dim, V vocabulary.
"""

from inpars_tpu import flops
from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.t5 import config as t5_config

# Operations beside the products, of GPT-J.
_LAYER = 15  # Of each D of a token: norm, biases, residual, rotation.
_UNIT = 8  # Of each F: bias and gelu.
_OWN_LOGIT, _ROW_LOGIT, _PREFIX_LOGIT = 5, 7, 3  # In prefill, in a step.
_WORD = 12  # Of each V of a new token: bias, argmax, log-softmax.
_ROTATED = 17  # Of each rotated dimension of a head.
_QUERY_BLOCK = 64  # gptj.attention's, of `attend_causally`.

# Of T5: forward, and with backward.
_FORWARD = {'d_model': 12, 'relu': 1, 'gated': 9, 'logit': 5, 'cross': 11}
_BACKWARD = {'d_model': 48, 'relu': 1.5, 'gated': 45, 'logit': 7, 'cross': 60}
_JOINED = 9  # Of each H K of a token: transposes and sums of gradients.
_DECODER_LAYER = 8  # Of each D of a token that a decoder layer attends to.
_DRAW = 98  # Of a random number: threefry's rounds.
_KEPT_UNIT = 12  # Of each F: what dropout multiplies, and its gradient.
_UPDATE = 25  # Of a parameter: Adafactor.


def fill(
  config: gptj_config.GPTJConfig,
  num_rows: int,
  num_tokens: int,
  prefix_tokens: int,
) -> int:
  """Counts prefill of a group of prompts, each padded to `num_tokens`.

  Args:
    config: sizes.
    num_rows: of the group.
    num_tokens: own tokens of a row, padding counted.
    prefix_tokens: that all rows share.
  """
  d, heads = config.model_dim, config.num_heads
  num_whole, tokens = config.num_layers - 1, num_rows * num_tokens
  own = num_rows * _causal_pairs(num_tokens)
  shared = tokens * prefix_tokens
  per_layer = 2 * tokens * _gptj_weights(config) + 4 * d * (own + shared)
  per_layer += tokens * (_LAYER * d + _UNIT * config.mlp_dim)
  per_layer += tokens * _ROTATED * heads * config.rotary_dim
  per_layer += heads * (_OWN_LOGIT * own + _PREFIX_LOGIT * shared)
  # The last layer: keys and values of all, the rest of one position.
  seen = num_tokens + prefix_tokens
  last = 2 * tokens * 2 * d * d + tokens * _LAYER * d
  last += 2 * num_rows * (_gptj_weights(config) - 2 * d * d + 2 * d * seen)
  head = num_rows * config.vocab_size * (2 * d + _WORD)
  return num_whole * per_layer + last + head


def step(
  config: gptj_config.GPTJConfig,
  num_rows: int,
  num_slots: int,
  prefix_tokens: int,
) -> int:
  """Counts one decoding step of all rows.

  Args:
    config: sizes.
    num_rows: decoded together, also those that wait.
    num_slots: cache positions of a row, filled or not.
    prefix_tokens: that all rows share.
  """
  d, heads = config.model_dim, config.num_heads
  per_layer = 2 * (_gptj_weights(config) + 2 * d * (num_slots + prefix_tokens))
  per_layer += _LAYER * d + _UNIT * config.mlp_dim
  per_layer += heads * (
    _ROW_LOGIT * num_slots
    + _PREFIX_LOGIT * prefix_tokens
    + _ROTATED * config.rotary_dim
  )
  head = config.vocab_size * (2 * d + _WORD)
  return num_rows * (config.num_layers * per_layer + head)


def score(config: t5_config.T5Config, num_rows: int, num_tokens: int) -> int:
  """Counts a batch of pairs, each padded to `num_tokens`."""
  products = sum(flops.score_pair(config, num_tokens))
  heads = config.num_heads
  rest = _encoder_rest(config, num_tokens, _FORWARD)
  rest += _FORWARD['cross'] * config.num_decoder_layers * heads * num_tokens
  return num_rows * (products + rest)


def accumulate(
  config: t5_config.T5Config,
  num_rows: int,
  num_tokens: int,
  *,
  has_dropout: bool,
  num_parameters: int,
  num_targets: int = 2,
  remat: bool = False,
) -> int:
  """Counts a microbatch's loss and gradients, added to the sums.

  Args:
    config: sizes.
    num_rows: of the microbatch, filler among them.
    num_tokens: of an input, padding counted.
    has_dropout: whether random numbers are drawn.
    num_parameters: each of which has a sum.
    num_targets: decoder tokens.
    remat: each layer is computed again for its gradient.
  """
  products = flops.train_pair(config, num_tokens, num_targets)
  if remat:  # A third more: the head is not a layer's.
    head = 6 * num_targets * config.d_model * config.vocab_size
    products += (products - head) // 3
  heads, depth = config.num_heads, config.num_decoder_layers
  rest = _encoder_rest(config, num_tokens, _BACKWARD)
  rest += num_tokens * (
    _JOINED * config.num_layers * heads * config.d_kv
    + _DECODER_LAYER * depth * config.d_model
    + _BACKWARD['cross'] * depth * heads * num_targets
  )
  if has_dropout:
    draws = config.d_model + heads * (2 * config.num_layers + depth)
    rest += num_tokens * (
      _DRAW * draws + _KEPT_UNIT * config.num_layers * config.d_ff
    )
  return int(num_rows * (products + rest)) + num_parameters


def update(num_parameters: int) -> int:
  """Counts one step of Adafactor."""
  return _UPDATE * num_parameters


def _encoder_rest(config: t5_config.T5Config, num_tokens: int, of) -> float:
  """Of one row, beside the products."""
  unit = of['gated' if config.is_gated else 'relu']
  per_token = of['d_model'] * config.d_model + unit * config.d_ff
  per_token += of['logit'] * config.num_heads * num_tokens
  return config.num_layers * num_tokens * per_token


def _causal_pairs(num_tokens: int) -> int:
  """Pairs of query and key that are multiplied, block of queries by block."""
  ends = [
    min(start + _QUERY_BLOCK, num_tokens)
    for start in range(0, num_tokens, _QUERY_BLOCK)
  ]
  starts = [0, *ends[:-1]]
  return sum(
    (end - start) * end for start, end in zip(starts, ends, strict=True)
  )


def _gptj_weights(config: gptj_config.GPTJConfig) -> int:
  """Of a block, that a token meets."""
  return 4 * config.model_dim**2 + 2 * config.model_dim * config.mlp_dim
