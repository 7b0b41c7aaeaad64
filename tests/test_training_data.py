import numpy as np
import pytest

from inpars_tpu import errors, monot5, pairs, tokenizer, training_data
from tests import t5_checkpoints

ROWS = [
  pairs.Pair('how cold is the river', 'The river is cold.', 1, 'a', 'a', 0),
  pairs.Pair('how cold is the river', 'A stone. ' * 40, 0, 'a', 'b', 0),
  pairs.Pair('what sleeps', 'A bird sleeps near water.', 1, 'c', 'c', 1),
]


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
  return t5_checkpoints.write_pieces(tmp_path_factory.mktemp('pieces'))


def read(data_dir, model_dir, split='train', spec=monot5.MONOT5, **options):
  return training_data.read(
    data_dir,
    split,
    vocabulary_file=model_dir / 'spiece.model',
    spec=spec,
    max_input_tokens=48,
    **options,
  )


def test_examples_are_what_the_scorer_would_read(tmp_path, model_dir):
  pairs.write(tmp_path, 'some corpus', {'train': ROWS}, seed=1)
  examples, counts = read(tmp_path, model_dir)
  assert counts == {
    'pairs': 3, 'positive': 2, 'negative': 1, 'documents cut': 1,
    'queries cut': 0,
  }  # fmt: skip
  tokens = tokenizer.T5Tokenizer(model_dir)
  wanted = monot5.build_inputs(
    monot5.MONOT5,
    tokens,
    [row.query for row in ROWS],
    [row.document for row in ROWS],
    48,
  )
  false_id, true_id = monot5.label_ids(monot5.MONOT5, tokens)
  found = sorted(
    (
      examples.inputs(i).tolist(),
      examples.targets[i].tolist(),
      int(examples.groups[i]),
    )
    for i in range(3)
  )
  assert found == sorted(
    (ids, [true_id if row.label else false_id, tokens.eos_id], row.group)
    for ids, row in zip(wanted, ROWS, strict=True)
  )
  np.testing.assert_array_equal(
    examples.labels, examples.targets[:, 0] == true_id
  )


def test_each_split_of_each_directory(tmp_path, model_dir):
  splits = {'train': ROWS, 'validation': ROWS[:2]}
  pairs.write(tmp_path / 'one', 'x', splits, seed=1)
  pairs.write(tmp_path / 'two', 'x', {'train': ROWS[1:]}, seed=1)
  assert len(read(tmp_path / 'one', model_dir)[0]) == 3
  assert len(read(tmp_path / 'one', model_dir, 'validation')[0]) == 2
  assert len(read(tmp_path / 'two', model_dir)[0]) == 2
  with pytest.raises(
    errors.InputError, match="no split 'validation' of inpars_x, only train"
  ):
    read(tmp_path / 'two', model_dir, 'validation')


def test_other_label_words(tmp_path, model_dir):
  spec = monot5.RerankerSpec('{query} | {document}', ('cold', 'light'))
  pairs.write(tmp_path, 'x', {'train': ROWS}, seed=1)
  examples, _ = read(tmp_path, model_dir, spec=spec)
  tokens = tokenizer.T5Tokenizer(model_dir)
  assert set(examples.targets[:, 0]) == set(monot5.label_ids(spec, tokens))


@pytest.mark.parametrize(
  ('rows', 'missing'), [(ROWS[1:2], 'positive'), (ROWS[::2], 'negative')]
)
def test_one_class_only(tmp_path, model_dir, rows, missing):
  pairs.write(tmp_path, 'x', {'train': rows}, seed=1)
  with pytest.raises(errors.InputError, match=f'has no {missing} pair'):
    read(tmp_path, model_dir)


RANKT5 = monot5.RerankerSpec(monot5.RANKT5_TEMPLATE, None, 157)


def test_lists_for_rankt5(tmp_path, model_dir):
  pairs.write(tmp_path, 'x', {'train': ROWS[:2]}, seed=1)
  examples, counts = read(tmp_path, model_dir, spec=RANKT5, has_lists=True)
  assert counts['lists'] == 1
  np.testing.assert_array_equal(examples.targets, [[157], [157]])
  (tokens,) = tokenizer.T5Tokenizer(model_dir).encode(
    ['Query: how cold is the river Document: The river is cold.']
  )
  np.testing.assert_array_equal(
    examples.inputs(examples.lists[0, 0]), [*tokens, 1]
  )


@pytest.mark.parametrize(
  ('rows', 'message'),
  [
    (ROWS, '1 of 2 groups are .* group 1 has 1 and 0'),
    ([*ROWS[:2], ROWS[0]], '1 of 1 groups are .* group 0 has 2 and 1'),
    ([*ROWS[1:], ROWS[2]], '2 of 2 groups are .* group 0 has 0 and 1'),
  ],
)
def test_groups_that_are_no_lists(tmp_path, model_dir, rows, message):
  pairs.write(tmp_path, 'x', {'train': rows}, seed=1)
  with pytest.raises(errors.InputError, match=message):
    read(tmp_path, model_dir, has_lists=True)
