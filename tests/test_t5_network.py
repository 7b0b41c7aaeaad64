"""T5 against Hugging Face's, whose outputs are stored in data/t5_hf.npz.

The torch test makes them anew: where the file is missing it writes it, else it
compares.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from inpars_tpu.t5 import attention, layers, network, tensors
from tests import t5_checkpoints

STORED = pathlib.Path(__file__).parent / 'data' / 't5_hf.npz'
CONFIGS = {'v1_0': t5_checkpoints.V1_0, 'v1_1': t5_checkpoints.V1_1}
FALSE, TRUE = 6, 61
# Lengths of the rows: beyond max_distance, in the middle, and one token.
NUM_TOKENS = (150, 37, 1)


def make_tokens() -> dict[str, np.ndarray]:
  generator = np.random.default_rng(3)
  inputs = generator.integers(2, 256, (3, NUM_TOKENS[0]), np.int32)
  for row, length in enumerate(NUM_TOKENS):
    inputs[row, length - 1] = 1
    inputs[row, length:] = 0
  targets = generator.integers(2, 256, (3, 4), np.int32)
  return {
    'encoder_input_tokens': inputs,
    'decoder_input_tokens': np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
    'decoder_target_tokens': targets,
  }


@functools.cache
def load(name):
  weights = t5_checkpoints.random_weights(CONFIGS[name])
  params = {}
  for hf_name, path in tensors.names(CONFIGS[name]).items():
    is_kernel = path[-1] in ('kernel', 'rel_embedding')
    tensor = weights[hf_name]
    params[path] = jnp.asarray(tensor.T if is_kernel else tensor)
  return traverse_util.unflatten_dict(params)


@functools.cache
def compiled(name, dtype, method):
  model = network.Transformer(CONFIGS[name], dtype=dtype)
  return jax.jit(functools.partial(model.apply, method=method))


@functools.cache
def full_logits(name):
  apply = compiled(name, jnp.float32, '__call__')
  return np.asarray(apply({'params': load(name)}, **make_tokens()))


def first_logits(name, tokens, dtype=jnp.float32, params=None):
  """Of FALSE and TRUE."""
  apply = compiled(name, dtype, 'first_logits')
  return np.asarray(
    apply(
      {'params': params or load(name)},
      jnp.asarray(tokens),
      jnp.asarray([FALSE, TRUE]),
    )
  )


def log_prob_true(logits):
  """[B, 2] of (false, true) -> [B]."""
  return -np.logaddexp(0, logits[:, 0] - logits[:, 1])


@pytest.mark.parametrize('name', CONFIGS)
def test_logits_equal_hugging_face(name):
  with np.load(STORED) as stored:
    expected = stored[f'{name}_logits']
  assert expected.shape == (3, 4, 256)
  np.testing.assert_allclose(full_logits(name), expected, atol=1e-4)


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize(
  ('dtype', 'tolerance'), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.05)]
)
def test_log_prob_true_equals_hugging_face(name, dtype, tolerance):
  tokens = make_tokens()['encoder_input_tokens']
  logits = first_logits(name, tokens, dtype)
  assert logits.dtype == np.float32
  with np.load(STORED) as stored:
    expected = stored[f'{name}_log_prob_true']
  assert np.ptp(expected) > 0.1  # The rows differ.
  np.testing.assert_allclose(log_prob_true(logits), expected, atol=tolerance)


@pytest.mark.parametrize('name', CONFIGS)
def test_first_logits_are_those_of_the_whole_network(name):
  tokens = make_tokens()['encoder_input_tokens']
  np.testing.assert_allclose(
    first_logits(name, tokens),
    full_logits(name)[:, 0, [FALSE, TRUE]],
    atol=2e-5,
  )


def test_a_row_does_not_depend_on_padding_or_neighbours():
  tokens = make_tokens()['encoder_input_tokens']
  alone = first_logits('v1_0', tokens[1:2, :40])
  together = first_logits('v1_0', tokens)
  np.testing.assert_allclose(alone, together[1:2], atol=1e-5)


@pytest.mark.parametrize('name', CONFIGS)
def test_parameters_have_t5x_names_shapes_and_axes(name):
  model = network.Transformer(CONFIGS[name])
  variables = jax.eval_shape(
    lambda: model.init(jax.random.key(0), **make_tokens())
  )
  params = traverse_util.flatten_dict(variables['params'], sep='/')
  axes = traverse_util.flatten_dict(variables['params_axes'], sep='/')
  expected = tensors.shapes(CONFIGS[name])
  assert {n: p.shape for n, p in params.items()} == {
    '/'.join(path): shape for path, shape in expected.items()
  }
  assert {p.dtype for p in params.values()} == {jnp.dtype(jnp.float32)}
  assert {n.removesuffix('_axes') for n in axes} == set(params)
  shown = {
    'token_embedder/embedding': ('vocab', 'embed'),
    'encoder/relpos_bias/rel_embedding': ('heads', 'relpos_buckets'),
    'encoder/layers_1/attention/query/kernel': ('embed', 'joined_kv'),
    'encoder/encoder_norm/scale': ('embed',),
    'decoder/layers_0/encoder_decoder_attention/out/kernel': (
      'joined_kv',
      'embed',
    ),
    'decoder/layers_1/mlp/wo/kernel': ('mlp', 'embed'),
  }
  if name == 'v1_1':
    shown['decoder/layers_1/mlp/wi_0/kernel'] = ('embed', 'mlp')
    shown['decoder/logits_dense/kernel'] = ('embed', 'vocab')
  for path, names in shown.items():
    assert axes[f'{path}_axes'].names == names


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'encoder_segment_ids': 1}, 'set pack = False'),
    ({'decoder_positions': 1}, 'set pack = False'),
    ({'decode': True}, 'no decoding cache'),
  ],
)
def test_refuses_what_t5x_may_ask_and_it_lacks(options, message):
  model = network.Transformer(CONFIGS['v1_0'])
  with pytest.raises(ValueError, match=message):
    model.apply({'params': {}}, **make_tokens(), **options)


def test_dropout_needs_a_key_and_depends_on_it():
  model = network.Transformer(CONFIGS['v1_0'])
  tokens = {k: v[1:2, :40] for k, v in make_tokens().items()}

  @jax.jit
  def apply(key):
    return model.apply(
      {'params': load('v1_0')},
      **tokens,
      enable_dropout=True,
      rngs={'dropout': key},
    )

  first, again, other = (apply(jax.random.key(seed)) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 0.01
  assert np.abs(first - full_logits('v1_0')[1:2]).max() > 0.01


@pytest.mark.parametrize('num_masks', [1, 7])
def test_blocks_of_queries_change_nothing(num_masks, monkeypatch):
  layer = attention.Attention(CONFIGS['v1_0'], jnp.float32)
  generator = np.random.default_rng(0)
  queries, keys = (
    jnp.asarray(generator.normal(size=(2, n, 32)), jnp.float32) for n in (7, 5)
  )
  bias = jnp.asarray(generator.normal(size=(1, 6, 7, 5)), jnp.float32)
  mask = jnp.asarray(generator.random((2, 1, num_masks, 5)) < 0.7)
  args = queries, keys, mask, bias
  params = layer.init(jax.random.key(0), *args)
  kept = jnp.asarray(generator.random((2, 6, 5)) < 0.9)

  def apply(max_queries, kept=None):
    monkeypatch.setattr(attention, 'MAX_QUERIES', max_queries)
    return layer.apply(params, *args, kept=kept)

  # Of 7 queries blocks of 3, 3 and 1.
  whole, dropped = apply(7), apply(7, kept)
  np.testing.assert_allclose(apply(3), whole, atol=1e-5)
  np.testing.assert_allclose(apply(3, kept), dropped, atol=1e-5)
  assert np.abs(dropped - whole).max() > 0.1


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize('kernel', ['embedding', 'wo'])
def test_large_activations_are_finite(kernel, dtype):
  # Weights with which float16 (65,504) overflows: at once, or in a layer.
  params = traverse_util.path_aware_map(
    lambda path, array: array * 1e6 if kernel in path else array, load('v1_0')
  )
  tokens = make_tokens()['encoder_input_tokens']
  logits = first_logits('v1_0', tokens, dtype, params)
  assert np.isfinite(logits).all()
  assert np.ptp(logits) > 0.01


def test_position_buckets():
  # Of distances 0, 7, 8 ...: eight are exact, then two to an octave.
  distances = [0, 7, 8, 11, 12, 16, 23, 32, 64, 91, 127, 128, 500]
  buckets = layers.position_buckets(
    501, bidirectional=True, num_buckets=32, max_distance=128
  )
  assert buckets[distances, 0].tolist() == [
    0, 7, 8, 8, 9, 10, 11, 12, 14, 15, 15, 15, 15,
  ]  # fmt: skip
  assert buckets[0, distances[1:]].tolist() == [
    23, 24, 24, 25, 26, 27, 28, 30, 31, 31, 31, 31,
  ]  # fmt: skip
  causal = layers.position_buckets(
    501, bidirectional=False, num_buckets=32, max_distance=128
  )
  assert causal[distances, 0].tolist() == [
    0, 7, 8, 11, 12, 16, 18, 21, 26, 29, 31, 31, 31,
  ]  # fmt: skip
  assert causal[0, 1] == 0  # What comes later is masked anyway.


@pytest.mark.parametrize('bidirectional', [True, False])
@pytest.mark.parametrize('length', [1, 2, 150])
def test_the_bias_and_its_gradient_are_those_of_its_buckets(
  length, bidirectional
):
  config = CONFIGS['v1_0']
  draw = np.random.default_rng(0)
  num_heads = config.num_heads
  num_buckets = config.relative_attention_num_buckets
  table = draw.normal(size=(num_heads, num_buckets)).astype(np.float32)
  slope = draw.normal(size=(1, num_heads, length, length)).astype(np.float32)
  module = layers.RelativePositionBias(config)

  def bias(table):
    variables = {'params': {'rel_embedding': table}}
    return module.apply(variables, length, bidirectional=bidirectional)

  found, pull = jax.vjp(bias, jnp.asarray(table))
  buckets = layers.position_buckets(
    length,
    bidirectional=bidirectional,
    num_buckets=num_buckets,
    max_distance=config.relative_attention_max_distance,
  )
  np.testing.assert_array_equal(found[0], table[:, buckets])
  expected = np.zeros(table.shape)
  np.add.at(expected, (slice(None), buckets), slope[0])
  np.testing.assert_allclose(pull(jnp.asarray(slope))[0], expected, atol=1e-4)


def hugging_face(config):
  """Hugging Face's T5 with the random weights, and torch; skips without."""
  reason = 'torch and transformers are not installed'
  torch = pytest.importorskip('torch', reason=reason)
  transformers = pytest.importorskip('transformers', reason=reason)
  hf_config = transformers.T5Config(**config.to_hf())
  # transformers 5 ties, whatever it is told.
  hf_config.tie_word_embeddings = config.tie_word_embeddings
  hf_config._attn_implementation = 'eager'
  model = transformers.T5ForConditionalGeneration(hf_config).eval()
  weights = {
    key: torch.from_numpy(tensor)
    for key, tensor in t5_checkpoints.random_weights(config).items()
  }
  for copy in ('encoder.embed_tokens.weight', 'decoder.embed_tokens.weight'):
    weights[copy] = weights['shared.weight']
  weights.setdefault('lm_head.weight', weights['shared.weight'])
  model.load_state_dict(weights)
  return model, torch


def check_stored(path, outputs):
  """Compares with a file of arrays; writes it where it is missing."""
  if not path.exists():
    np.savez_compressed(path, **outputs)
  with np.load(path) as stored:
    assert sorted(stored) == sorted(outputs)
    for name, value in outputs.items():
      np.testing.assert_allclose(stored[name], value, atol=1e-5)


@pytest.mark.torch
def test_hugging_face_gives_the_stored_outputs():
  outputs = {}
  for name, config in CONFIGS.items():
    model, torch = hugging_face(config)
    tokens = {k: torch.from_numpy(v).long() for k, v in make_tokens().items()}
    with torch.no_grad():
      logits = model(
        input_ids=tokens['encoder_input_tokens'],
        attention_mask=(tokens['encoder_input_tokens'] != 0).long(),
        decoder_input_ids=tokens['decoder_input_tokens'],
      ).logits
    two = logits[:, 0, [FALSE, TRUE]].double()
    outputs[f'{name}_logits'] = logits.numpy()
    outputs[f'{name}_log_prob_true'] = two.log_softmax(-1)[:, 1].numpy()
  check_stored(STORED, outputs)


def test_bfloat16_products_sum_in_float32_both_ways():
  # 256 ones and then 1: bfloat16 sums would stay at 256.
  x = jnp.ones((1, 257), jnp.bfloat16)
  kernel = jnp.ones((257, 2), jnp.bfloat16)

  def total(x, kernel):
    return layers.matmul(x, kernel).astype(jnp.float32).sum()

  assert layers.matmul(x * 2, kernel)[0, 0] == 514
  by_x, by_kernel = jax.grad(total, argnums=(0, 1))(x * 3, kernel * 5)
  assert by_x.dtype == by_kernel.dtype == jnp.bfloat16
  assert by_x.tolist() == [[10.0] * 257]
  assert by_kernel.tolist() == [[3.0, 3.0]] * 257
  text = jax.jit(jax.grad(total, argnums=(0, 1))).lower(x, kernel).as_text()
  products = [line for line in text.splitlines() if 'dot_general' in line]
  assert products
  for line in products:  # No operand is float32, all sums are.
    operands, result = line.split(' : ')[1].split('->')
    assert 'f32' not in operands and 'f32' in result, line


# Of 5 tokens: as few as there are for a head, few, and not few.
@pytest.mark.parametrize('num_rows', [1, 2, 8])
@pytest.mark.parametrize('num_in,num_out', [(3, 4), (4, 3)])
def test_float32_products_have_the_plain_gradient(
  num_in, num_out, num_rows, monkeypatch
):
  monkeypatch.setattr(layers, '_MANY_NUMBERS', num_in * num_out)
  draw = np.random.default_rng(0)
  x = jnp.asarray(draw.normal(size=(num_rows, 5, num_in)), jnp.float32)
  kernel = jnp.asarray(draw.normal(size=(num_in, num_out)), jnp.float32)

  def gradients(multiply):
    def total(x, kernel):
      return jnp.sin(multiply(x, kernel)).sum()

    return jax.jit(jax.grad(total, argnums=(0, 1)))

  found = gradients(layers.matmul)
  expected = gradients(jnp.matmul)(x, kernel)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
    found(x, kernel),
    expected,
  )
  # A CPU is slow where the first operand's rows are summed over.
  text = found.lower(x, kernel).as_text()
  products = [line for line in text.splitlines() if 'dot_general' in line]
  assert len(products) == (2 if num_rows == 1 else 3)
  assert all(' = [0] x ' not in line for line in products)


@pytest.mark.parametrize('num_keys', [3, 9])  # Fewer, and more, than K = 5.
def test_products_of_attention_have_the_plain_gradient(num_keys):
  draw = np.random.default_rng(0)
  query, key, value = (
    jnp.asarray(draw.normal(size=(2, 3, length, 5)), jnp.float32)
    for length in (4, num_keys, num_keys)
  )

  def attend(compare, mix):
    def total(query, key, value):
      return jnp.sin(mix(jnp.sin(compare(query, key)), value)).sum()

    return jax.grad(total, argnums=(0, 1, 2))(query, key, value)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    attend(attention._compare, attention._mix),
    attend(
      lambda query, key: query @ key.swapaxes(2, 3),
      lambda weights, value: weights @ value,
    ),
  )
