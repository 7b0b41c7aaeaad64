"""T5 in Flax Linen, with t5x's parameter names and logical axes.

The same module runs in the scorer, in the trainer and inside t5x's
EncoderDecoderModel; dropout sits where t5x's minimal network has it. Packed
examples and a decoding cache are left out. The rest is in `layers`.

Axes: B batch, S encoder tokens, T decoder tokens, D d_model, H heads, K d_kv,
V vocabulary, L label tokens.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from inpars_tpu.t5 import attention, dropout, layers, scan
from inpars_tpu.t5 import config as config_lib

PAD_ID = 0  # Also what the decoder starts from.


class EncoderLayer(nn.Module):
  """Self-attention, then the feed-forward block; each normed and residual."""

  config: config_lib.T5Config
  dtype: Any

  def setup(self):
    config = self.config
    self.pre_attention_layer_norm = layers.RMSNorm(config, self.dtype)
    self.attention = attention.Attention(config, self.dtype)
    self.pre_mlp_layer_norm = layers.RMSNorm(config, self.dtype)
    self.mlp = layers.FeedForward(config, self.dtype)

  def __call__(self, x, mask, bias, kept: dropout.Kept):
    """x [B, S, D], mask [B, 1, 1, S], bias [1, H, S, S] -> [B, S, D]."""
    rate = self.config.dropout_rate
    y = self.pre_attention_layer_norm(x)
    y = self.attention(y, y, mask, bias, kept=kept.attention)
    x += dropout.apply(y, kept.block(0), rate)
    y = self.mlp(self.pre_mlp_layer_norm(x), kept=kept.units)
    return x + dropout.apply(y, kept.block(1), rate)


class DecoderLayer(nn.Module):
  """Self-attention, attention to the encoder, the feed-forward block."""

  config: config_lib.T5Config
  dtype: Any

  def setup(self):
    config = self.config
    self.pre_self_attention_layer_norm = layers.RMSNorm(config, self.dtype)
    self.self_attention = attention.Attention(config, self.dtype)
    self.pre_cross_attention_layer_norm = layers.RMSNorm(config, self.dtype)
    self.encoder_decoder_attention = attention.Attention(config, self.dtype)
    self.pre_mlp_layer_norm = layers.RMSNorm(config, self.dtype)
    self.mlp = layers.FeedForward(config, self.dtype)

  def __call__(self, x, encoded, mask, bias, cross_mask, kept: dropout.Kept):
    """x [B, T, D], encoded [B, S, D] -> [B, T, D].

    Masks are [B, 1, T, T] and [B, 1, T, S] bool, bias [1, H, T, T] float32.
    """
    rate = self.config.dropout_rate
    y = self.pre_self_attention_layer_norm(x)
    y = self.self_attention(y, y, mask, bias, kept=kept.attention)
    x += dropout.apply(y, kept.block(0), rate)
    y = self.pre_cross_attention_layer_norm(x)
    # A label is a few tokens long, for which this is the cheaper way.
    is_short = x.shape[1] <= self.config.d_kv
    cross = self.encoder_decoder_attention
    attend = cross.over_encoded if is_short else cross
    y = attend(y, encoded, cross_mask, kept=kept.cross)
    x += dropout.apply(y, kept.block(1), rate)
    y = self.mlp(self.pre_mlp_layer_norm(x), kept=kept.units)
    return x + dropout.apply(y, kept.block(2), rate)

  def first(self, x, encoded, mask):
    """The first position alone: x [B, D], mask [B, S] bool -> [B, D]."""
    y = self.pre_self_attention_layer_norm(x)
    x += self.self_attention.over_itself(y)
    y = self.pre_cross_attention_layer_norm(x)
    x += self.encoder_decoder_attention.over_encoded(
      y[:, None], encoded, mask[:, None, None]
    )[:, 0]
    y = self.pre_mlp_layer_norm(x)[:, None]  # [B, 1, D]
    return x + self.mlp(y)[:, 0]


class Encoder(nn.Module):
  """Embedded tokens to encoded ones."""

  config: config_lib.T5Config
  dtype: Any
  scan_layers: bool = False
  remat: bool = False

  def setup(self):
    config = self.config
    self.relpos_bias = layers.RelativePositionBias(config)
    if self.scan_layers:
      self.layers = EncoderLayer(config, self.dtype)
    else:
      self.layers = [
        EncoderLayer(config, self.dtype) for _ in range(config.num_layers)
      ]
    self.encoder_norm = layers.RMSNorm(config, self.dtype)

  def __call__(self, x, mask, *, deterministic):
    """x [B, S, D], mask [B, S] bool (false: padding) -> [B, S, D]."""
    bias = self.relpos_bias(x.shape[1], bidirectional=True)  # [1, H, S, S]
    mask = mask[:, None, None, :]
    drawn = _draw(self, x, deterministic, self.config.num_layers)
    rate = self.config.dropout_rate
    x = dropout.apply(x, drawn.embedded, rate)
    x = scan.fold(
      self.layers,
      lambda layer, x, kept: layer(x, mask, bias, kept),
      x,
      drawn.layers,
      num_layers=self.config.num_layers,
      remat=self.remat,
    )
    return dropout.apply(self.encoder_norm(x), drawn.normed, rate)


class Decoder(nn.Module):
  """Embedded decoder tokens and encoded ones to logits."""

  config: config_lib.T5Config
  dtype: Any
  scan_layers: bool = False
  remat: bool = False

  def setup(self):
    config = self.config
    self.relpos_bias = layers.RelativePositionBias(config)
    if self.scan_layers:
      self.layers = DecoderLayer(config, self.dtype)
    else:
      self.layers = [
        DecoderLayer(config, self.dtype)
        for _ in range(config.num_decoder_layers)
      ]
    self.decoder_norm = layers.RMSNorm(config, self.dtype)
    if not config.tie_word_embeddings:
      self.logits_dense = layers.Dense(
        config.d_model, config.vocab_size, ('embed', 'vocab'), jnp.float32
      )

  def __call__(self, x, encoded, mask, cross_mask, embedding, *, deterministic):
    """x [B, T, D], masks [B, 1, T, T] and [B, 1, T, S] bool -> [B, T, V]."""
    bias = self.relpos_bias(x.shape[1], bidirectional=False)  # [1, H, T, T]
    rate, num_layers = self.config.dropout_rate, self.config.num_decoder_layers
    num_encoded = encoded.shape[1]
    drawn = _draw(self, x, deterministic, num_layers, num_encoded=num_encoded)
    x = dropout.apply(x, drawn.embedded, rate)
    x = scan.fold(
      self.layers,
      lambda layer, x, kept: layer(x, encoded, mask, bias, cross_mask, kept),
      x,
      drawn.layers,
      num_layers=num_layers,
      remat=self.remat,
    )
    x = dropout.apply(self.decoder_norm(x), drawn.normed, rate)
    return layers.matmul(self._scaled(x), self._head(embedding))

  def first(self, x, encoded, mask, embedding, token_ids):
    """x [B, D], mask [B, S] bool, token_ids [L] -> [B, L] float32."""
    x = scan.fold(
      self.layers,
      lambda layer, x, _: layer.first(x, encoded, mask),
      x,
      None,
      num_layers=self.config.num_decoder_layers,
    )
    x = self._scaled(self.decoder_norm(x))
    return layers.matmul(x, self._head(embedding, token_ids))

  def _scaled(self, x):
    x = x.astype(jnp.float32)
    if self.config.scale_decoder_output:
      x *= self.config.d_model**-0.5
    return x

  def _head(self, embedding, token_ids=None):
    """Weights of all logits, or of those of some tokens: [D, V or L]."""
    if self.config.tie_word_embeddings:
      rows = embedding if token_ids is None else embedding[token_ids]
      return rows.astype(jnp.float32).T
    kernel = self.logits_dense.kernel
    columns = kernel if token_ids is None else kernel[:, token_ids]
    return columns.astype(jnp.float32)


class Transformer(nn.Module):
  """T5. Parameters are float32; activations are `dtype`.

  Whatever `dtype` is: softmax, norms, relative biases and logits are float32.
  With `scan_layers` the layers are a loop and their parameters stacked, see
  `scan`; with `remat` a gradient computes each layer again.
  """

  config: config_lib.T5Config
  dtype: Any = jnp.float32
  scan_layers: bool = False
  remat: bool = False

  def setup(self):
    self.token_embedder = layers.Embedding(self.config, self.dtype)
    options = self.config, self.dtype, self.scan_layers, self.remat
    self.encoder, self.decoder = Encoder(*options), Decoder(*options)

  def __call__(
    self,
    encoder_input_tokens: jax.Array,
    decoder_input_tokens: jax.Array,
    decoder_target_tokens: jax.Array,
    *,
    enable_dropout: bool = False,
    encoder_segment_ids: None = None,
    decoder_segment_ids: None = None,
    encoder_positions: None = None,
    decoder_positions: None = None,
    decode: bool = False,
  ) -> jax.Array:
    """Computes the logits of every decoder position.

    The last five are what t5x's EncoderDecoderModel passes to every network;
    here they must stay unset.

    Args:
      encoder_input_tokens: [B, S] int32, 0 where padded.
      decoder_input_tokens: [B, T] int32, the targets moved right by one.
      decoder_target_tokens: [B, T] int32, 0 where padded; for the masks, as
        in t5x.
      enable_dropout: needs the 'dropout' random numbers.
      encoder_segment_ids: of packed examples.
      decoder_segment_ids: of packed examples.
      encoder_positions: of packed examples.
      decoder_positions: of packed examples.
      decode: token by token, with a cache.

    Returns:
      [B, T, V] float32.

    Raises:
      ValueError: packed examples, or decoding with a cache.
    """
    packed = (
      encoder_segment_ids,
      decoder_segment_ids,
      encoder_positions,
      decoder_positions,
    )
    if any(ids is not None for ids in packed):
      raise ValueError('this T5 has no packed examples: set pack = False')
    if decode:
      raise ValueError('this T5 has no decoding cache')
    # t5x initialises with tokens that are floats.
    encoder_input_tokens, decoder_input_tokens = (
      tokens.astype(jnp.int32)
      for tokens in (encoder_input_tokens, decoder_input_tokens)
    )
    encoded = self.encode(encoder_input_tokens, enable_dropout=enable_dropout)
    return self.decode(
      encoded,
      encoder_input_tokens,
      decoder_input_tokens,
      decoder_target_tokens,
      enable_dropout=enable_dropout,
    )

  def encode(
    self, encoder_input_tokens: jax.Array, *, enable_dropout: bool = False
  ) -> jax.Array:
    """Encoder input tokens [B, S] -> [B, S, D] of `dtype`."""
    return self.encoder(
      self.token_embedder(encoder_input_tokens),
      encoder_input_tokens != PAD_ID,
      deterministic=not enable_dropout,
    )

  def decode(
    self,
    encoded: jax.Array,
    encoder_input_tokens: jax.Array,
    decoder_input_tokens: jax.Array,
    decoder_target_tokens: jax.Array,
    *,
    enable_dropout: bool = False,
  ) -> jax.Array:
    """Encoded [B, S, D] and decoder tokens [B, T] -> logits [B, T, V]."""
    is_token = encoder_input_tokens != PAD_ID  # [B, S]
    is_target = decoder_target_tokens != PAD_ID  # [B, T]
    length = decoder_target_tokens.shape[1]
    is_past = jnp.tril(jnp.ones((length, length), bool))[None]  # [1, T, T]
    self_mask = is_past & is_target[:, None, :] & is_target[:, :, None]
    cross_mask = is_token[:, None, :] & is_target[:, :, None]  # [B, T, S]
    return self.decoder(
      self.token_embedder(decoder_input_tokens),
      encoded,
      self_mask[:, None],
      cross_mask[:, None],
      self.token_embedder.embedding,
      deterministic=not enable_dropout,
    )

  def first_logits(
    self, encoder_input_tokens: jax.Array, token_ids: jax.Array
  ) -> jax.Array:
    """Computes the logits of some tokens at the first decoder position.

    Equal to `__call__` there, for less: self-attention over one position needs
    no softmax, and the encoder's keys and values are never computed.

    Args:
      encoder_input_tokens: [B, S] int32, 0 where padded.
      token_ids: [L] int32.

    Returns:
      [B, L] float32.
    """
    encoded = self.encode(encoder_input_tokens)
    start = jnp.full(encoder_input_tokens.shape[:1], PAD_ID, jnp.int32)
    return self.decoder.first(
      self.token_embedder(start),
      encoded,
      encoder_input_tokens != PAD_ID,
      self.token_embedder.embedding,
      token_ids,
    )


def _draw(module, x, deterministic, num_layers, **options) -> dropout.Draw:
  """What dropout keeps in a stack of layers over x [B, S or T, D]."""
  if deterministic or not module.config.dropout_rate:
    return dropout.Draw()
  return dropout.draw(
    module.make_rng('dropout'),
    module.config,
    num_layers=num_layers,
    num_rows=x.shape[0],
    num_keys=x.shape[1],
    **options,
  )
