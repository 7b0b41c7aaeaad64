import importlib
import json

import numpy as np
import pytest

from inpars_tpu import beir, errors, monot5, tokenizer
from inpars_tpu import pairs as pairs_lib
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


LENGTHS = {'inputs': 48, 'targets': 2}
ROWS = [
  pairs_lib.Pair(f'query {i}', f'document {i} {j}', int(j == 0), f'{i}',
                 f'{i}-{j}', i)
  for i in range(20) for j in range(3)
]  # fmt: skip


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """Pairs of two data sets: a third of `x` is held out."""
  directory = tmp_path_factory.mktemp('data')
  splits = {'train': ROWS[:39], 'validation': ROWS[39:]}
  pairs_lib.write(directory, 'x', splits, seed=1)
  others = [row._replace(query='what moves the boat') for row in ROWS[:6]]
  pairs_lib.write(directory, 'y', {'train': others}, seed=1)
  return directory


def task_of(name, data_dir, spec=monot5.MONOT5):
  task = reranking.register(name, spec)
  task.source.tfds_dataset.override_data_dir(str(data_dir))
  return task


def test_tokenize_with_a_mock_vocabulary(bound):
  features = {
    'inputs': FEATURES['inputs'],
    'targets': seqio.Feature(
      seqio.test_utils.MockVocabulary({'true': [7], 'false': [6]}, 8)
    ),
  }
  spec = monot5.RerankerSpec('{query}{document}')
  dataset = tf.data.Dataset.from_tensor_slices(
    {'query': ['the ', 'is'], 'document': ['river', ''], 'label': [1, 0]}
  )
  dataset = reranking.tokenize(
    reranking.write_text(dataset, spec=spec),
    spec=spec,
    output_features=features,
    sequence_length=LENGTHS,
  )
  seqio.test_utils.assert_dataset(
    seqio.preprocessors.append_eos(dataset, output_features=features),
    [
      {
        'inputs_pretokenized': text,
        'inputs': [*bound.encode([text])[0], 1],
        'targets_pretokenized': word,
        'targets': [token, 1],
        'label': token == 7,
        'is_document_cut': False,
        'is_query_cut': False,
      }
      for text, word, token in (('the river', 'true', 7), ('is', 'false', 6))
    ],
  )


def test_the_pipeline_is_deterministic_and_in_seeded_random_order(
  bound, data_dir, tmp_path
):
  task = task_of('x', data_dir)
  first, second = (
    task.get_dataset(LENGTHS, 'train', shuffle=False) for _ in range(2)
  )
  seqio.test_utils.assert_datasets_eq(first, second)
  order = [e['doc_id'].decode() for e in first.as_numpy_iterator()]
  written = [row.doc_id for row in ROWS[:39]]
  assert sorted(order) == sorted(written)
  assert order != written
  pairs_lib.write(tmp_path, 'x', {'train': ROWS[:39]}, seed=2)
  other = task_of('x', tmp_path).get_dataset(LENGTHS, 'train', shuffle=False)
  assert [e['doc_id'].decode() for e in other.as_numpy_iterator()] != order


@pytest.mark.parametrize('is_listwise', [False, True])
def test_evaluator_measures_the_validation_queries(
  bound, data_dir, is_listwise
):
  spec = monot5.MONOT5
  if is_listwise:
    spec = monot5.RerankerSpec(monot5.RANKT5_TEMPLATE, None, 157)
  task = task_of('x', data_dir, spec)
  evaluator = seqio.Evaluator(
    'inpars_x',
    feature_converter=seqio.EncDecFeatureConverter(pack=False),
    eval_split='validation',
    sequence_length=LENGTHS,
    async_compute_metrics=False,
  )
  # Every score is log 0.8, but for positives of even groups: log 0.9.
  examples = list(
    task.get_dataset(LENGTHS, 'validation', shuffle=False).as_numpy_iterator()
  )
  is_better = [e['label'] == 1 and e['group'] % 2 == 0 for e in examples]
  scores = np.log(np.where(is_better, 0.9, 0.8))
  metrics, _ = evaluator.evaluate(
    compute_metrics=True, score_fn=lambda _: list(enumerate(scores))
  )
  # Groups 13 to 19: three are even.
  found = metrics.result()['inpars_x']
  assert found['mrr'] == pytest.approx((3 + 4 / 3) / 7)
  if is_listwise:
    even, odd = np.log(0.9 / 2.5), np.log(1 / 3)
    assert found['loss'] == pytest.approx(-(3 * even + 4 * odd) / 7)
    assert found['accuracy'] == pytest.approx(3 / 7)
  else:
    total = 3 * np.log(0.9) + 4 * np.log(0.8) + 14 * np.log(0.2)
    assert found['loss'] == pytest.approx(-total / 21)
    assert found['accuracy'] == pytest.approx(7 / 21)


def test_a_prediction_is_left_as_it_is():
  assert reranking.keep_label('true', {'label': 1}) == 'true'


def test_mixture_of_beir():
  names = {task.name for task in seqio.get_mixture_or_task('inpars_beir').tasks}
  assert len(names) == 14
  assert {'inpars_cqadupstack', 'inpars_scifact'} <= names
  assert 'inpars_robust04' not in names


def test_a_mixture_reads_every_pair_as_often(bound, data_dir):
  for name in ('x', 'y'):
    task_of(name, data_dir)
  mixture = reranking.mix('both', ['x', 'y'])
  assert reranking.mix('both', ['x', 'y']).name == mixture.name == 'inpars_both'
  rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
  assert rates == {'inpars_x': 39.0, 'inpars_y': 6.0}
  found, *parts = [
    [
      example['inputs'].tobytes()
      for example in source.get_dataset(
        LENGTHS, 'train', shuffle=False, num_epochs=epochs, seed=1
      )
      .take(900)
      .as_numpy_iterator()
    ]
    for source, epochs in ((mixture, None), *((t, 1) for t in mixture.tasks))
  ]
  assert [len(part) for part in parts] == [39, 6]
  assert set(found) == {*parts[0], *parts[1]}
  share = sum(tokens in parts[1] for tokens in found) / len(found)
  assert share == pytest.approx(6 / 45, abs=0.04)


def test_what_is_cached_needs_no_vocabulary_and_reads_the_same(
  model_dir, tmp_path
):
  pairs_lib.write(tmp_path, 'cached', {'train': ROWS}, seed=1)
  task = task_of('cached', tmp_path)
  assert task.supports_caching
  directory = tmp_path / 'cache' / 'inpars_cached'
  directory.mkdir(parents=True)
  source = task.source.get_dataset('train', shuffle=False)
  cached = list(task.preprocess_precache(source).as_numpy_iterator())
  spec = task.preprocess_precache(source).element_spec
  with tf.io.TFRecordWriter(
    str(directory / 'train.tfrecord-00000-of-00001')
  ) as writer:
    for example in cached:
      writer.write(seqio.dict_to_tfexample(example).SerializeToString())
  features = {
    name: {'dtype': s.dtype.name, 'shape': s.shape.as_list()}
    for name, s in spec.items()
  }
  info = {'features': features, 'num_shards': 1, 'seqio_version': '0.0.20'}
  (directory / 'info.train.json').write_text(json.dumps(info))
  (directory / 'stats.train.json').write_text(json.dumps({'examples': 60}))
  (directory / 'COMPLETED').touch()
  reranking.vocabulary(model_dir / 'spiece.model')
  seqio.add_global_cache_dirs([str(tmp_path / 'cache')])
  try:
    seqio.test_utils.assert_datasets_eq(
      *(
        task.get_dataset(LENGTHS, 'train', use_cached=use_cached, shuffle=False)
        for use_cached in (True, False)
      )
    )
  finally:
    seqio.set_global_cache_dirs([])
    reranking.vocabulary().bind('')
