import importlib

import pytest

from inpars_tpu import beir, errors, monot5, tokenizer
from inpars_tpu.tasks import reranking
from tests import t5_checkpoints

seqio, tf = reranking.seqio, reranking.tf

PAIRS = {
  'query': ['how cold is the river', 'what moves the wheel'],
  'document': ['The river is cold.', 'A boat holds green stone.'],
  'label': [1, 0],
  'group': [0, 0],
}
FEATURES = {
  name: seqio.Feature(reranking.vocabulary(), dtype=tf.int32)
  for name in ('inputs', 'targets')
}


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp('pieces')
  return t5_checkpoints.write_pieces(directory)


@pytest.fixture
def bound(model_dir):
  """The tokenizer that the tasks are bound to."""
  reranking.vocabulary(model_dir / 'spiece.model')
  yield tokenizer.T5Tokenizer(model_dir)
  reranking.vocabulary().bind('')


def preprocess(sequence_length, spec=monot5.MONOT5, pairs=PAIRS):
  dataset = tf.data.Dataset.from_tensor_slices(pairs)
  dataset = reranking.write_text(dataset, spec=spec)
  return reranking.tokenize(
    dataset,
    spec=spec,
    output_features=FEATURES,
    sequence_length=sequence_length,
  )


def test_every_dataset_of_beir_has_a_task():
  names = seqio.TaskRegistry.names()
  assert {'inpars_scifact', 'inpars_trec_covid', 'inpars_my_corpus'} <= set(
    names
  )
  tasks = [name for name in names if name.startswith('inpars_')]
  assert len(tasks) >= len(beir.DATASETS) + 1
  task = seqio.TaskRegistry.get('inpars_webis_touche2020')
  assert task.source.tfds_dataset.name == 'inpars_webis_touche2020:1.0.0'
  assert list(task.output_features) == ['inputs', 'targets']


def test_registering_again_changes_nothing():
  import inpars_tpu.tasks

  importlib.reload(inpars_tpu.tasks.beir)
  importlib.reload(inpars_tpu.tasks.my_corpus)
  first = inpars_tpu.tasks.register('SciFact')
  assert inpars_tpu.tasks.register('scifact') is first
  assert seqio.TaskRegistry.get('inpars_scifact') is first


def test_other_words_replace_the_task():
  spec = monot5.RerankerSpec(label_words=('no', 'yes'))
  first = reranking.register('words')
  second = reranking.register('words', spec)
  assert second is not first
  assert seqio.TaskRegistry.get('inpars_words') is second


def test_write_text():
  dataset = tf.data.Dataset.from_tensor_slices(
    {'query': ['q', 'à {document}'], 'document': ['d', '{query}'],
     'label': [1, 0]}
  )  # fmt: skip
  seqio.test_utils.assert_dataset(
    reranking.write_text(dataset, spec=monot5.MONOT5),
    [
      {
        'query': 'q',
        'document': 'd',
        'label': 1,
        'inputs_pretokenized': 'Query: q Document: d Relevant:',
        'targets_pretokenized': 'true',
      },
      {
        'query': 'à {document}'.encode(),
        'document': '{query}',
        'label': 0,
        'inputs_pretokenized': (
          'Query: à {document} Document: {query} Relevant:'.encode()
        ),
        'targets_pretokenized': 'false',
      },
    ],
  )


def test_tokens_are_those_that_the_scorer_reads(bound):
  dataset = preprocess({'inputs': 64, 'targets': 2})
  dataset = seqio.preprocessors.append_eos(dataset, output_features=FEATURES)
  first, second = dataset.as_numpy_iterator()
  wanted = monot5.build_inputs(
    monot5.MONOT5, bound, PAIRS['query'], PAIRS['document'], 64
  )
  assert [first['inputs'].tolist(), second['inputs'].tolist()] == wanted
  false_id, true_id = monot5.label_ids(monot5.MONOT5, bound)
  assert first['targets'].tolist() == [true_id, bound.eos_id]
  assert second['targets'].tolist() == [false_id, bound.eos_id]
  assert not first['is_document_cut']


def test_a_rankt5_has_one_target(bound):
  spec = monot5.RerankerSpec(monot5.RANKT5_TEMPLATE, None, 157)
  task = reranking.register('listwise', spec)
  dataset = tf.data.Dataset.from_tensor_slices(PAIRS)
  dataset = reranking.write_text(dataset, spec=spec)
  dataset = reranking.tokenize(
    dataset,
    spec=spec,
    output_features=task.output_features,
    sequence_length={'inputs': 64, 'targets': 1},
  )
  dataset = seqio.preprocessors.append_eos(
    dataset, output_features=task.output_features
  )
  first, second = dataset.as_numpy_iterator()
  assert first['targets'].tolist() == second['targets'].tolist() == [157]
  wanted = bound.encode([f'Query: {PAIRS["query"][0]} Document: '
                         f'{PAIRS["document"][0]}'])[0]  # fmt: skip
  assert first['inputs'].tolist() == [*wanted, bound.eos_id]
  assert 'targets_pretokenized' not in first


def test_the_document_is_cut_and_relevant_stays(bound):
  pairs = {
    'query': ['what moves', 'what moves the water ' * 10],
    'document': ['the boat moves water ' * 20, 'light'],
    'label': [1, 0],
  }
  limit = 40
  dataset = preprocess({'inputs': limit, 'targets': 2}, pairs=pairs)
  dataset = seqio.preprocessors.append_eos(dataset, output_features=FEATURES)
  first, second = dataset.as_numpy_iterator()
  suffix = bound.encode([' Relevant:'])[0]
  for example in (first, second):
    assert limit - 4 <= len(example['inputs']) <= limit
    assert example['inputs'].tolist()[-len(suffix) - 1 :] == [
      *suffix, bound.eos_id,
    ]  # fmt: skip
  assert (first['is_document_cut'], first['is_query_cut']) == (True, False)
  assert (second['is_document_cut'], second['is_query_cut']) == (False, True)


def test_no_limit_cuts_nothing(bound):
  pairs = {'query': ['what'], 'document': ['water ' * 300], 'label': [1]}
  (example,) = preprocess(None, pairs=pairs).as_numpy_iterator()
  assert len(example['inputs']) > 300


def test_vocabulary_is_bound_later(model_dir, tmp_path):
  unbound = reranking.vocabulary()
  with pytest.raises(errors.InputError, match=r'tasks\.vocabulary\(FILE\)'):
    unbound.encode('the')
  with pytest.raises(errors.InputError, match=r'spiece\.model'):
    reranking.vocabulary(tmp_path / 'other.model')
  try:
    file = model_dir / 'spiece.model'
    assert reranking.vocabulary(file) is unbound
    # What t5x compares before it trains.
    assert unbound == seqio.SentencePieceVocabulary(str(file), extra_ids=100)
    assert unbound.decode(unbound.encode('the river')) == 'the river'
  finally:
    unbound.bind('')
