import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inpars_tpu
from inpars_tpu import errors, monot5
from inpars_tpu import reranker as reranker_lib
from inpars_tpu.t5 import convert, network
from tests import t5_checkpoints


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  return t5_checkpoints.write_reranker(tmp_path_factory.mktemp('t5') / 'model')


@pytest.fixture(scope='module')
def model(directory):
  return reranker_lib.MonoT5.load(
    directory, dtype='float32', max_tokens=32, batch_tokens=128
  )


def test_score_is_log_p_true_at_the_first_position(directory, model):
  config, params = convert.load(directory)
  text = 'Query: a river Document: the old stone Relevant:'
  tokens = [*model.tokenizer.encode([text])[0], 1]
  start = jnp.zeros((1, 1), jnp.int32)
  logits = jax.jit(network.Transformer(config).apply)(
    {'params': params}, jnp.asarray([tokens]), start, start + 1
  )
  false, true = monot5.label_ids(model.spec, model.tokenizer)
  expected = jax.nn.log_softmax(logits[0, 0, jnp.asarray([false, true])])[1]
  (score,) = model.score('a river', ['the old stone'])
  assert isinstance(score, float)
  np.testing.assert_allclose(score, expected, atol=1e-5)


# Folder, network, spec in it (None: its name says it), and a text of it.
KINDS = {
  'mT5': (
    'mt5-base-mmarco-v2',
    dataclasses.replace(t5_checkpoints.V1_1, model_type='mt5'),
    None,
    'Query: a river Document: the old stone Relevant:',
  ),
  'FLAN': (
    'flan-t5-xl',
    t5_checkpoints.V1_1,
    monot5.RerankerSpec(
      'the stone: {document} is {query} in the stone?', ('No', 'Yes')
    ),
    'the stone: the old stone is a river in the stone?',
  ),
  'RankT5': (
    'rankt5-base',
    t5_checkpoints.V1_0,
    monot5.RerankerSpec('{query}: {document}', None, 200),
    'a river: the old stone',
  ),
}


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_of_reranker(tmp_path, kind):
  name, config, spec, text = KINDS[kind]
  config = dataclasses.replace(config, num_layers=1, num_decoder_layers=1)
  directory = t5_checkpoints.write_t5(tmp_path / name, config)
  t5_checkpoints.write_pieces(directory, 'no', 'yes', 'No', 'Yes')
  if spec:
    monot5.write_spec(directory, spec)
  reranker = reranker_lib.MonoT5.load(
    directory, dtype='float32', max_tokens=64, batch_tokens=64
  )
  (score,) = reranker.score('a river', ['the old stone'])
  config, params = convert.load(directory)
  tokens = [*reranker.tokenizer.encode([text])[0], 1]
  start = jnp.zeros((1, 1), jnp.int32)
  logits = jax.jit(network.Transformer(config).apply)(
    {'params': params}, jnp.asarray([tokens]), start, start + 1
  )[0, 0]
  if kind == 'RankT5':
    assert reranker.spec.field == 'logit'
    expected = logits[200]
  else:
    words = {'mT5': ('no', 'yes'), 'FLAN': ('No', 'Yes')}[kind]
    ids = [reranker.tokenizer.piece_id(f'▁{word}') for word in words]
    expected = jax.nn.log_softmax(logits[jnp.asarray(ids)])[1]
  np.testing.assert_allclose(score, expected, atol=1e-5)


def test_rerank_is_best_first_and_stable(model):
  documents = ['a boat', 'the river', 'a boat', 'green light', '']
  scores = model.score('a river', documents)
  ranked = model.rerank('a river', documents)
  assert [hit.score for hit in ranked] == sorted(scores, reverse=True)
  assert [scores[hit.index] for hit in ranked] == [hit.score for hit in ranked]
  places = [hit.index for hit in ranked]
  assert places.index(2) == places.index(0) + 1


def test_score_pairs_takes_unlike_queries(model):
  pairs = [('a river', 'the boat'), ('the boat', 'a river')]
  together = model.score_pairs(pairs)
  alone = [model.score(query, [text])[0] for query, text in pairs]
  np.testing.assert_allclose(together, alone, atol=1e-5)


def test_is_in_the_api_of_the_package():
  assert inpars_tpu.MonoT5 is reranker_lib.MonoT5


def test_refuses_a_vocabulary_larger_than_the_embedding(tmp_path):
  config = t5_checkpoints.V1_0
  small = type(config)(**{**vars(config), 'vocab_size': 60})
  t5_checkpoints.write_reranker(tmp_path, small)
  with pytest.raises(errors.InputError, match='68 tokens and the embedding 60'):
    reranker_lib.MonoT5.load(tmp_path)


def test_refuses_a_logit_beyond_the_embedding(tmp_path):
  t5_checkpoints.write_reranker(tmp_path)
  spec = monot5.RerankerSpec(label_words=None, logit_id=256)
  monot5.write_spec(tmp_path, spec)
  with pytest.raises(errors.InputError, match='257 tokens'):
    reranker_lib.check(tmp_path)


def test_refuses_an_unknown_dtype(directory):
  with pytest.raises(errors.InputError, match="unknown dtype 'float16'"):
    reranker_lib.MonoT5.load(directory, dtype='float16')


def test_what_a_model_becomes_with_the_loss_of_rankt5(tmp_path):
  t5_checkpoints.write_reranker(tmp_path / 'T5')
  (tmp_path / 'T5' / 'reranker.json').unlink()
  with pytest.raises(errors.InputError, match='does not say which words'):
    reranker_lib.check(tmp_path / 'T5')
  wanted = monot5.RerankerSpec('Query: {query} Document: {document}', None, 157)
  spec, _, ids = reranker_lib.check(tmp_path / 'T5', becomes_rankt5=True)
  assert (spec, ids) == (wanted, [157])  # Of 68 pieces, 99 - 10 behind them.
  monot5.write_spec(tmp_path / 'T5', monot5.MONOT5)
  assert reranker_lib.check(tmp_path / 'T5', becomes_rankt5=True)[0] == wanted
  own = monot5.RerankerSpec('{document} of {query}', None, 9)
  monot5.write_spec(tmp_path / 'T5', own)
  assert reranker_lib.check(tmp_path / 'T5', becomes_rankt5=True)[0] == own


def test_a_model_without_room_for_the_logit_of_rankt5(tmp_path):
  config = dataclasses.replace(t5_checkpoints.V1_0, vocab_size=157)
  t5_checkpoints.write_reranker(tmp_path, config)
  with pytest.raises(errors.InputError, match='157 rows'):
    reranker_lib.check(tmp_path, becomes_rankt5=True)
