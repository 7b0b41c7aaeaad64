"""Training pairs on disk: a TFDS dataset that needs no code to be read.

`inpars_<dataset>:1.0.0` below a data directory, for `tfds.load(...,
data_dir=)`, `tfds.builder_from_directory` and `seqio.TfdsDataSource` alike.
Written in seeded random order, since a reader's shuffle buffer (seqio's holds
1,000) is smaller than a training set. The bytes depend on the pairs and the
seed alone: no dates, no paths.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from inpars_tpu import errors, files, stores

VERSION = '1.0.0'
PREFIX = 'inpars_'

_SHARD_ROWS = 16_384  # The paper's 20,000 pairs make two files of 20 MB.


class Pair(NamedTuple):
  """One example: does the document answer the query?"""

  query: str
  document: str
  label: int  # 1 for the document that the query was written for, else 0.
  query_id: str
  doc_id: str
  group: int  # A positive and its negatives share one.


def builder_name(dataset: str) -> str:
  """The TFDS name of a dataset's pairs.

  'scifact' -> 'inpars_scifact'; 'DBPedia-entity' -> 'inpars_dbpedia_entity'
  """
  return PREFIX + re.sub('[^a-z0-9]', '_', dataset.lower())


def write(
  data_dir: files.PathLike,
  dataset: str,
  splits: Mapping[str, Sequence[Pair]],
  *,
  seed: int,
) -> epath.Path:
  """Writes the pairs of one dataset; replaces what an earlier try left there.

  Args:
    data_dir: TFDS data directory.
    dataset: name that `builder_name` makes a TFDS name of.
    splits: split name -> pairs; read by index, in the order they are written,
      so that a sequence may build them only then. A split without pairs is
      left out.
    seed: of the order.

  Returns:
    The builder's directory, `data_dir/inpars_<dataset>/1.0.0`.
  """
  name = builder_name(dataset)
  builder_dir = epath.Path(data_dir) / name
  if builder_dir.exists():
    builder_dir.rmtree()
  with files.directory_writer(
    builder_dir / VERSION, last=('dataset_info.json',)
  ) as temporary:
    _write_builder(temporary, name, dataset, splits, seed)
  return builder_dir / VERSION


def _write_builder(
  directory: epath.Path,
  name: str,
  dataset: str,
  splits: Mapping[str, Sequence[Pair]],
  seed: int,
) -> None:
  from inpars_tpu import host_tensorflow  # Seconds; `find` needs none of it.

  tfds = host_tensorflow.tfds
  features = tfds.features.FeaturesDict(
    {
      'query': tfds.features.Text(),
      'document': tfds.features.Text(),
      'label': np.int64,
      'query_id': tfds.features.Text(),
      'doc_id': tfds.features.Text(),
      'group': np.int64,
    }
  )
  split_infos = []
  for split, pairs in splits.items():
    if pairs:
      lengths, num_bytes = _write_split(
        directory, f'{name}-{split}', pairs, seed
      )
      split_infos.append(
        tfds.core.SplitInfo(
          name=split, shard_lengths=lengths, num_bytes=num_bytes
        )
      )
  tfds.folder_dataset.write_metadata(
    data_dir=directory,
    features=features,
    split_infos=split_infos,
    version=VERSION,
    description=f'Synthetic queries of {dataset} with BM25 negatives.',
    check_data=False,  # Would read the first example back.
  )


def read(data_dir: files.PathLike) -> dict[str, Iterator[Pair]]:
  """The pairs of each split of the one set in a data directory, in order.

  Raises:
    InputError: as `find`.
  """
  name = find(data_dir)
  from inpars_tpu import host_tensorflow

  builder = host_tensorflow.tfds.builder_from_directory(
    stores.local(epath.Path(data_dir) / name / VERSION)
  )
  return {split: _read_split(builder, split) for split in builder.info.splits}


def _read_split(builder, split: str) -> Iterator[Pair]:
  for row in builder.as_dataset(split=split).as_numpy_iterator():
    yield Pair(
      *(
        int(row[field]) if kind is int else row[field].decode()
        for field, kind in Pair.__annotations__.items()
      )
    )


def find(data_dir: files.PathLike) -> str:
  """The TFDS name of the one set of pairs in a data directory.

  Raises:
    InputError: no such directory, no set of pairs in it, or several.
  """
  data_dir = files.must_exist(data_dir, 'pairs')
  if not data_dir.is_dir():
    raise errors.InputError(f'{data_dir} is a file; pairs are a directory')
  found = sorted(
    entry.name
    for entry in data_dir.iterdir()
    if (entry / VERSION / 'dataset_info.json').exists()
  )
  if not found:
    raise errors.InputError(
      f'{data_dir} holds no pairs: no NAME/{VERSION}/dataset_info.json; '
      'inpars-tpu negatives writes them'
    )
  if len(found) > 1:
    raise errors.InputError(
      f'{data_dir} holds several sets of pairs: {", ".join(found)}; '
      'give a directory with one'
    )
  return found[0]


def split_names(data_dir: files.PathLike) -> list[str]:
  """The splits of the one set of pairs in a data directory.

  Raises:
    InputError: as `find`.
  """
  info = epath.Path(data_dir) / find(data_dir) / VERSION / 'dataset_info.json'
  splits = files.read_json(info, 'dataset_info.json')['splits']
  return [split['name'] for split in splits]


def _write_split(
  directory: epath.Path, stem: str, pairs: Sequence[Pair], seed: int
) -> tuple[list[int], int]:
  """Writes the shards of one split; returns their lengths, and all bytes."""
  from inpars_tpu import host_tensorflow

  tf = host_tensorflow.tf
  num_shards = -(-len(pairs) // _SHARD_ROWS)
  order = np.array_split(_order(len(pairs), seed), num_shards)
  num_bytes = 0
  for shard, indices in enumerate(order):
    path = directory / f'{stem}.tfrecord-{shard:05d}-of-{num_shards:05d}'
    with tf.io.TFRecordWriter(str(path)) as writer:
      for record in _serialize(tf, pairs, indices):
        writer.write(record)
        num_bytes += len(record)
  return [len(indices) for indices in order], num_bytes


def _order(num_pairs: int, seed: int) -> np.ndarray:
  """[num_pairs] int64. RandomState: its stream is the same in every numpy."""
  bits = np.random.SeedSequence(seed).generate_state(8)
  return np.random.RandomState(bits).permutation(num_pairs)


def _serialize(tf, pairs, indices) -> Iterator[bytes]:
  def text(value: str):
    return tf.train.Feature(
      bytes_list=tf.train.BytesList(value=[value.encode()])
    )

  def integer(value: int):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

  for index in indices:
    feature = {
      key: integer(value) if isinstance(value, int) else text(value)
      for key, value in pairs[index]._asdict().items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    # A map's entries have no order of their own: by default it differs from
    # process to process.
    yield example.SerializeToString(deterministic=True)
