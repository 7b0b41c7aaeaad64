import json
import pathlib
import subprocess
import sys

import pytest

from inpars_tpu import errors, pairs

# Two groups: a positive with two negatives, a positive with one.
TRAIN = [
  pairs.Pair('what is q', 'A document.', 1, 'd1', 'd1', 0),
  pairs.Pair('what is q', 'Another — one.', 0, 'd1', 'd7', 0),
  pairs.Pair('what is q', 'A third.', 0, 'd1', 'd9', 0),
  pairs.Pair('who is r', 'On r.', 1, 'd2', 'd2', 1),
  pairs.Pair('who is r', 'A document.', 0, 'd2', 'd1', 1),
]
VALIDATION = [
  pairs.Pair('où?', 'Là.', 1, 'd3', 'd3', 2),
  pairs.Pair('où?', 'Ici.', 0, 'd3', 'd4', 2),
]

WRITE = """
import sys
from inpars_tpu import pairs
rows = [
  pairs.Pair(f'q{i}', f'd{i}', i % 2, str(i), str(i), i) for i in range(9)
]
pairs.write(sys.argv[1], 'Sci-Fact', {'train': rows}, seed=3)
"""


def read(builder, split):
  return [
    pairs.Pair(
      **{
        key: value.decode() if isinstance(value, bytes) else int(value)
        for key, value in example.items()
      }
    )
    for example in builder.as_dataset(split=split).as_numpy_iterator()
  ]


def contents(directory) -> dict[str, bytes]:
  directory = pathlib.Path(directory)
  return {
    str(path.relative_to(directory)): path.read_bytes()
    for path in directory.rglob('*')
    if path.is_file()
  }


@pytest.mark.parametrize(
  ('dataset', 'name'),
  [
    ('scifact', 'inpars_scifact'),
    ('DBPedia-entity', 'inpars_dbpedia_entity'),
    ('Straße 7.b', 'inpars_stra_e_7_b'),
  ],
)
def test_builder_name(dataset, name):
  assert pairs.builder_name(dataset) == name


def test_read_back_without_code(tmp_path):
  import tensorflow_datasets as tfds

  splits = {'train': TRAIN, 'validation': VALIDATION}
  written = pairs.write(tmp_path, 'my-corpus', splits, seed=1)
  assert written == tmp_path / 'inpars_my_corpus' / '1.0.0'
  assert pairs.find(tmp_path) == 'inpars_my_corpus'
  builder = tfds.builder_from_directory(written)
  train = read(builder, 'train')
  assert sorted(train) == sorted(TRAIN)
  assert train != TRAIN  # In random order.
  assert sorted(read(builder, 'validation')) == sorted(VALIDATION)
  assert builder.info.full_name == 'inpars_my_corpus/1.0.0'
  assert builder.info.splits['train'].num_examples == 5
  loaded = tfds.load('inpars_my_corpus', split='train', data_dir=tmp_path)
  queries = [example['query'] for example in loaded.as_numpy_iterator()]
  assert queries == [pair.query.encode() for pair in train]


def test_read_back_by_seqio(tmp_path):
  import seqio

  pairs.write(tmp_path, 'x', {'train': TRAIN, 'validation': []}, seed=1)
  source = seqio.TfdsDataSource(
    'inpars_x:1.0.0', tfds_data_dir=str(tmp_path), read_only=True
  )
  assert list(source.splits) == ['train']
  assert source.num_input_examples('train') == 5
  examples = source.get_dataset('train', shuffle=False).as_numpy_iterator()
  assert {example['doc_id'] for example in examples} == {
    b'd1', b'd2', b'd7', b'd9',
  }  # fmt: skip


def test_equal_bytes_and_shards(tmp_path, monkeypatch):
  monkeypatch.setattr(pairs, '_SHARD_ROWS', 2)
  for name, seed in (('a', 7), ('b', 7), ('c', 8)):
    pairs.write(tmp_path / name, 'x', {'train': TRAIN}, seed=seed)
  first = contents(tmp_path / 'a')
  assert sorted(first) == [
    'inpars_x/1.0.0/dataset_info.json',
    'inpars_x/1.0.0/features.json',
    'inpars_x/1.0.0/inpars_x-train.tfrecord-00000-of-00003',
    'inpars_x/1.0.0/inpars_x-train.tfrecord-00001-of-00003',
    'inpars_x/1.0.0/inpars_x-train.tfrecord-00002-of-00003',
  ]
  assert contents(tmp_path / 'b') == first
  assert contents(tmp_path / 'c') != first
  info = json.loads(first['inpars_x/1.0.0/dataset_info.json'])
  assert info['splits'][0]['shardLengths'] == ['2', '2', '1']
  assert str(tmp_path).encode() not in b''.join(first.values())


def test_equal_bytes_in_another_process(tmp_path):
  script = tmp_path / 'write.py'
  script.write_text(WRITE)
  done = subprocess.run(
    [sys.executable, script, tmp_path / 'there'],
    check=True,
    capture_output=True,
    text=True,
  )
  assert (done.stdout, done.stderr) == ('', '')
  rows = [
    pairs.Pair(f'q{i}', f'd{i}', i % 2, str(i), str(i), i) for i in range(9)
  ]
  pairs.write(tmp_path / 'here', 'Sci-Fact', {'train': rows}, seed=3)
  assert contents(tmp_path / 'there') == contents(tmp_path / 'here')


def test_replaces_what_was_cut_off(tmp_path):
  left = tmp_path / 'inpars_x' / '1.0.0.tmp'
  left.mkdir(parents=True)
  (left / 'inpars_x-train.tfrecord-00000-of-00009').write_bytes(b'half')
  with pytest.raises(errors.InputError, match='holds no pairs'):
    pairs.find(tmp_path)
  pairs.write(tmp_path, 'x', {'train': TRAIN}, seed=1)
  assert [path.name for path in (tmp_path / 'inpars_x').iterdir()] == ['1.0.0']


def test_find_wants_exactly_one(tmp_path):
  with pytest.raises(errors.InputError, match='no pairs at'):
    pairs.find(tmp_path / 'missing')
  for name in ('b', 'a'):
    pairs.write(tmp_path, name, {'train': TRAIN}, seed=1)
  with pytest.raises(errors.InputError, match='several.*inpars_a, inpars_b'):
    pairs.find(tmp_path)


def test_split_names(tmp_path):
  pairs.write(tmp_path / 'one', 'x', {'train': TRAIN}, seed=1)
  assert pairs.split_names(tmp_path / 'one') == ['train']
  splits = {'train': TRAIN, 'validation': VALIDATION}
  pairs.write(tmp_path / 'two', 'x', splits, seed=1)
  assert sorted(pairs.split_names(tmp_path / 'two')) == ['train', 'validation']
