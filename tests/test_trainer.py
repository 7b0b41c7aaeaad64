import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inpars_tpu import batches, errors, losses, trainer, training_loop
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import network

FALSE, TRUE, EOS = 6, 7, 1
LOGIT = 5  # RankT5's.
CONFIG = config_lib.T5Config(
  vocab_size=32,
  d_model=32,
  d_kv=32,
  d_ff=64,
  num_layers=1,
  num_decoder_layers=1,
  num_heads=2,
)
SETTINGS = trainer.Settings(
  seed=1,
  num_steps=4,
  batch_size=8,
  learning_rate=1e-2,
  dropout_rate=0.0,
  z_loss=1e-4,
  dtype='float32',
  max_input_tokens=80,
)


def make_examples(inputs, labels) -> batches.Examples:
  return batches.Examples.collect(
    batches.Example(
      np.array(tokens, np.int32),
      np.array([TRUE if label else FALSE, EOS], np.int32),
      label,
      group=0,
    )
    for tokens, label in zip(inputs, labels, strict=True)
  )


def make_lists(inputs, list_size) -> batches.Examples:
  """Groups of `list_size`, the second of each the positive."""
  return batches.Examples.collect(
    batches.Example(
      np.array(tokens, np.int32),
      np.array([LOGIT], np.int32),
      label=int(i % list_size == 1),
      group=i // list_size,
    )
    for i, tokens in enumerate(inputs)
  )


def random_examples(num: int, max_tokens: int = 80) -> batches.Examples:
  generator = np.random.default_rng(0)
  lengths = generator.integers(2, max_tokens + 1, num)
  return make_examples(
    [generator.integers(8, 32, length) for length in lengths],
    [i % 2 for i in range(num)],
  )


@functools.cache
def random_params(config):
  tokens = jnp.zeros((1, 1), jnp.int32)
  init = jax.jit(network.Transformer(config).init)
  return jax.device_get(init(jax.random.key(0), tokens, tokens, tokens))


def init_params(config=CONFIG):
  """New arrays at each call: a step gives its state away."""
  return jax.tree.map(jnp.array, random_params(config)['params'])


def make_trainer(config=CONFIG, **changes) -> trainer.Trainer:
  settings = dataclasses.replace(SETTINGS, **changes)
  is_listwise = settings.loss == losses.RANKT5
  return trainer.Trainer(
    config, settings, (LOGIT,) if is_listwise else (FALSE, TRUE)
  )


def fit(model_trainer, state, examples, **options):
  log, saved = [], {}
  state = training_loop.run(
    model_trainer,
    state,
    examples,
    **{'last_step': 0, 'checkpoint_steps': 2, **options},
    log=log.append,
    save=lambda step, s: saved.update({step: jax.device_get(s)}),
  )
  return state, log, saved


def assert_equal_trees(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_loss_of_two_unlike_rows():
  examples = make_examples([[9, 1], [8, 12, 30, 9, 1]], [1, 0])
  params = init_params()
  sums, num_targets = make_trainer(z_loss=0.01).add_up(
    params, examples, np.array([0, 1]), step=1
  )
  assert num_targets == 4
  expected = expected_z = 0.0
  num_correct = 0.0
  for i, label in enumerate((TRUE, FALSE)):
    logits = jax.jit(network.Transformer(CONFIG).apply)(
      {'params': params},
      examples.inputs(i)[None],
      jnp.array([[0, label]]),
      jnp.array([[label, EOS]]),
    )[0]  # [2, V]
    log_probs = jax.nn.log_softmax(logits)
    expected -= log_probs[0, label] + log_probs[1, EOS]
    expected_z += 0.01 * jnp.square(jax.nn.logsumexp(logits, axis=-1)).sum()
    num_correct += float(logits[0, label] > logits[0, FALSE + TRUE - label])
  np.testing.assert_allclose(sums.z_loss, expected_z, rtol=1e-5)
  np.testing.assert_allclose(sums.loss, expected + expected_z, rtol=1e-5)
  assert sums.num_correct == num_correct


def test_gradient_of_groups_is_that_of_one_padded_batch():
  examples, params = random_examples(24), init_params()
  chosen = np.arange(3, 19)
  padded, grouped = (
    make_trainer(has_length_buckets=is_grouped, microbatch_tokens=tokens)
    for is_grouped, tokens in ((False, 16 * 80), (True, 160))
  )
  whole, _ = padded.add_up(params, examples, chosen, step=1)
  parts, _ = grouped.add_up(params, examples, chosen, step=1)
  assert (padded.num_programs(), grouped.num_programs()) == (1, 3)
  assert_close_sums(parts, whole)
  for step in range(2, 9):
    grouped.add_up(params, examples, np.arange(step, step + 16), step)
  # Of 32, 64 and 80 tokens, in microbatches of two sizes each.
  assert grouped.num_programs() <= 6


def assert_close_sums(parts, whole):
  """Equal to rounding."""
  np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-6)
  assert parts.num_correct == whole.num_correct
  for a, b in zip(
    jax.tree.leaves(parts.gradients),
    jax.tree.leaves(whole.gradients),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def test_gradient_of_grouped_lists_is_that_of_one_padded_batch():
  generator = np.random.default_rng(0)
  inputs = [generator.integers(8, 32, generator.integers(2, 81))
            for _ in range(17)]  # fmt: skip
  examples, params = make_lists(inputs, 3), init_params()
  assert examples.lists.shape == (6, 3)
  assert examples.lists[5].tolist() == [16, 15, -1]  # A short list.
  settings = {'loss': losses.RANKT5, 'list_size': 3}
  padded, grouped = (
    make_trainer(
      has_length_buckets=is_grouped, microbatch_tokens=tokens, **settings
    )
    for is_grouped, tokens in ((False, 18 * 80), (True, 480))
  )
  whole, num_lists = padded.add_up(params, examples, examples.lists, step=1)
  parts, _ = grouped.add_up(params, examples, examples.lists, step=1)
  assert num_lists == 6
  assert (padded.num_programs(), grouped.num_programs()) == (1, 2)
  assert_close_sums(parts, whole)
  # By the network's own logits, row by row.
  apply = jax.jit(network.Transformer(CONFIG).apply)
  loss = 0.0
  for members in examples.lists:
    scores = np.array(
      [
        apply(
          {'params': params},
          np.pad(examples.inputs(i), (0, 80 - examples.lengths[i]))[None],
          np.zeros((1, 1), np.int32),
          np.full((1, 1), LOGIT),
        )[0, 0, LOGIT]
        for i in members
        if i >= 0
      ]
    )
    loss += np.log(np.exp(scores).sum()) - scores[0]
  np.testing.assert_allclose(whole.loss, loss, rtol=1e-5)


def test_resumed_from_a_state_is_the_same_to_the_bit():
  examples, model_trainer = (
    random_examples(40, 60),
    make_trainer(dropout_rate=0.1),
  )
  state, log, saved = fit(
    model_trainer, model_trainer.init(init_params()), examples
  )
  assert [record['step'] for record in log] == [1, 2, 3, 4]
  assert sorted(saved) == [2, 4]
  again, later, _ = fit(
    make_trainer(dropout_rate=0.1),
    jax.tree.map(jnp.asarray, saved[2]),
    examples,
    last_step=2,
  )
  assert later == log[2:]
  assert_equal_trees(again, state)


def test_an_update_holds_what_few_parameters_have_come_to():
  """On a CPU; of all of them it would be twice the parameters."""
  config = dataclasses.replace(
    CONFIG, d_model=128, d_ff=256, num_layers=4, num_decoder_layers=4
  )
  update, shapes = make_trainer(config).programs(2, 32, 2)['update']
  params, _ = shapes[0]
  num_bytes = sum(4 * x.size for x in jax.tree.leaves(params))
  memory = update.lower(*shapes).compile().memory_analysis()
  assert memory.temp_size_in_bytes < num_bytes / 2


def test_scores_are_those_of_the_first_position():
  """Without dropout, and wherever the lengths put an example."""
  examples, params = random_examples(7), init_params()
  scores = make_trainer(dropout_rate=0.5, microbatch_tokens=160).score(
    params, examples
  )
  apply = jax.jit(network.Transformer(CONFIG).apply)
  for i, score in enumerate(scores):
    tokens = np.pad(examples.inputs(i), (0, 80 - examples.lengths[i]))[None]
    target = np.array([[TRUE]])
    logits = apply({'params': params}, tokens, 0 * target, target)[0, 0]
    expected = -np.log1p(np.exp(logits[FALSE] - logits[TRUE]))
    np.testing.assert_allclose(score, expected, rtol=1e-4)


def test_evaluates_where_it_saves():
  model_trainer, seen = make_trainer(num_steps=3), []

  def evaluate(params):
    seen.append(jax.device_get(params))
    return {'validation_mrr': float(len(seen))}

  _, log, saved = fit(
    model_trainer,
    model_trainer.init(init_params()),
    random_examples(8, 60),
    evaluate=evaluate,
  )
  assert [record.get('validation_mrr') for record in log] == [None, 1.0, 2.0]
  for params, step in zip(seen, (2, 3), strict=True):
    assert_equal_trees(params, saved[step].params)


def test_saves_at_the_end_too():
  model_trainer = make_trainer(num_steps=3)
  _, _, saved = fit(
    model_trainer, model_trainer.init(init_params()), random_examples(8, 60)
  )
  assert sorted(saved) == [2, 3]


def test_dropout_differs_by_step_and_microbatch():
  model_trainer = make_trainer(dropout_rate=0.5)
  examples, params = random_examples(2, max_tokens=9), init_params()

  def loss(step):
    sums, _ = model_trainer.add_up(params, examples, np.array([0, 1]), step)
    return float(sums.loss)

  assert loss(1) == loss(1)
  assert loss(1) != loss(2)


def test_abstract_state_is_that_of_a_state():
  model_trainer = make_trainer()
  state = model_trainer.init(init_params())
  abstract = model_trainer.abstract_state()
  assert jax.tree.structure(state) == jax.tree.structure(abstract)
  for x, y in zip(
    jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True
  ):
    assert (x.shape, x.dtype) == (y.shape, y.dtype)


def test_stops_where_the_loss_is_no_number():
  # Its first update makes the second step's gradient no number.
  model_trainer = make_trainer(learning_rate=1e6, num_steps=9)
  log, saved = [], []
  with pytest.raises(errors.InputError, match=r'is (nan|inf) at step \d, '):
    training_loop.run(
      model_trainer,
      model_trainer.init(init_params()),
      random_examples(16, 60),
      last_step=0,
      checkpoint_steps=1,
      log=log.append,
      save=lambda step, state: saved.append((step, jax.device_get(state))),
    )
  assert saved
  assert [step for step, _ in saved] == [record['step'] for record in log]
  for _, state in saved:
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def toy_inputs(
  num: int, seed: int, num_words: int = 6, max_tokens: int = 4
) -> list[list[int]]:
  """Is the query's word in the document? In every second it is."""
  generator = np.random.default_rng(seed)
  words = np.arange(8, 8 + num_words)
  inputs = []
  for i in range(num):
    document = generator.choice(words, generator.integers(2, max_tokens + 1))
    others = np.setdiff1d(words, document)
    query = generator.choice(document if i % 2 else others)
    inputs.append([3, query, 4, *document, 5, EOS])
  return inputs


def test_learns_what_can_be_learned():
  """95% of the unseen from random weights; it takes 40 seconds of a core."""
  config = dataclasses.replace(CONFIG, vocab_size=72, d_model=64, d_ff=128)
  model_trainer = make_trainer(
    config, num_steps=2250, batch_size=64, max_input_tokens=24
  )
  tokens = {'num_words': 64, 'max_tokens': 16}
  state, _, _ = fit(
    model_trainer,
    model_trainer.init(init_params(config)),
    make_examples(toy_inputs(20_000, seed=0, **tokens), [0, 1] * 10_000),
    checkpoint_steps=10_000,
  )
  labels = np.array([0, 1] * 500)
  held_out = make_examples(toy_inputs(1000, seed=1, **tokens), labels)
  scores = model_trainer.score(state.params, held_out)
  assert np.mean((scores > np.log(0.5)) == labels) >= 0.95


def test_learns_from_lists():
  model_trainer = make_trainer(
    num_steps=700,
    batch_size=64,
    max_input_tokens=16,
    loss=losses.RANKT5,
    list_size=2,
  )
  state, log, _ = fit(
    model_trainer,
    model_trainer.init(init_params()),
    make_lists(toy_inputs(4000, seed=0), 2),
    checkpoint_steps=10_000,
  )
  assert log[0]['loss'] > 0.5
  assert np.mean([r['loss'] for r in log[-50:]]) < 0.5 * np.log(2)
  held_out = make_lists(toy_inputs(256, seed=1), 2)
  sums, num_lists = model_trainer.add_up(
    state.params, held_out, held_out.lists, step=0
  )
  assert num_lists == 128
  assert sums.num_correct > 0.85 * 128
