import json

import pytest
import seqio
import tensorflow as tf

from inpars_tpu import errors, monot5, tasks, tokenizer
from inpars_tpu.tasks import run_pairs
from tests import t5_checkpoints

RECORDS = [
  {'query': 'how cold', 'text': 'the river', 'query_id': 'q1', 'doc_id': 'd1'},
  {'query': 'a bird', 'text': 'le café', 'query_id': 'q2', 'doc_id': 'd2'},
]


@pytest.fixture
def task(tmp_path):
  t5_checkpoints.write_pieces(tmp_path)
  tasks.vocabulary(tmp_path / 'spiece.model')
  file = tmp_path / 'pairs.jsonl'
  file.write_text(
    ''.join(f'{json.dumps(r, ensure_ascii=False)}\n' for r in RECORDS)
  )
  yield run_pairs.register(file)
  seqio.TaskRegistry.remove(run_pairs.NAME)


def read(task, max_input_tokens=64):
  return task.get_dataset(
    sequence_length={'inputs': max_input_tokens, 'targets': 2},
    split=run_pairs.SPLIT,
    shuffle=False,
  )


def test_inputs_are_the_scorer_s_and_ids_stay(task, tmp_path):
  expected = monot5.build_inputs(
    monot5.MONOT5,
    tokenizer.T5Tokenizer(tmp_path),
    [record['query'] for record in RECORDS],
    [record['text'] for record in RECORDS],
    64,
  )
  examples = list(read(task).as_numpy_iterator())
  assert [e['inputs'].tolist() for e in examples] == expected
  ids = [(e['query_id'], e['doc_id']) for e in examples]
  assert ids == [(b'q1', b'd1'), (b'q2', b'd2')]
  assert all((e['targets'] != 0).all() for e in examples)


def test_another_file_or_template_is_another_task(task, tmp_path):
  (tmp_path / 'other.jsonl').write_text(json.dumps(RECORDS[1]) + '\n')
  assert run_pairs.register(tmp_path / 'pairs.jsonl') is task
  other = run_pairs.register(tmp_path / 'other.jsonl')
  assert len(list(read(other))) == 1
  spec = monot5.RerankerSpec('{document} {query}?')
  (example,) = read(run_pairs.register(tmp_path / 'other.jsonl', spec))
  assert example['inputs_pretokenized'].numpy().decode() == 'le café a bird?'
  with pytest.raises(errors.InputError, match='no pairs at'):
    run_pairs.register(tmp_path / 'none.jsonl')


def test_a_checkpoint_keeps_the_reader_s_place(task, tmp_path):
  """As t5x does with any task of ours: PyFunc with a state cannot."""
  iterator = iter(read(task))
  next(iterator)
  tf.train.Checkpoint(ds=iterator).write(str(tmp_path / 'place'))
  again = iter(read(task))
  tf.train.Checkpoint(ds=again).read(str(tmp_path / 'place')).assert_consumed()
  assert next(again)['query_id'].numpy() == b'q2'
