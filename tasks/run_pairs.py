"""A task over (query, document) pairs to score, such as those of a TREC run.

For t5x.infer: gin/t5x/infer.gin. Nobody labelled them; the target is a dummy,
since t5x sizes its batches by one.
"""

import functools
import json

from inpars_tpu import files, host_tensorflow, monot5
from inpars_tpu.tasks import reranking

seqio, tf = host_tensorflow.load('seqio'), host_tensorflow.tf

NAME, SPLIT = 'inpars_run_pairs', 'test'
_FIELDS = ('query', 'text', 'query_id', 'doc_id')


def register(
  file: files.PathLike, spec: monot5.RerankerSpec = monot5.MONOT5
) -> seqio.Task:
  """Registers the task of one file, in place of another's.

  Args:
    file: JSONL with query, text, query_id and doc_id.
    spec: input text, and label words for the dummy target.
  """
  file = str(files.must_be_file(file, 'pairs'))
  registry = seqio.TaskRegistry
  if NAME in registry.names():
    task = registry.get(NAME)
    if task.preprocessors[1].keywords == {
      'spec': spec
    } and task.source.list_shards(SPLIT) == [file]:
      return task
    registry.remove(NAME)
  feature = seqio.Feature(reranking.vocabulary(), add_eos=True, dtype=tf.int32)
  return registry.add(
    NAME,
    source=seqio.TextLineDataSource({SPLIT: file}),
    preprocessors=[
      parse,
      functools.partial(reranking.write_text, spec=spec),
      functools.partial(reranking.tokenize, spec=spec),
      seqio.preprocessors.append_eos,
    ],
    output_features={'inputs': feature, 'targets': feature},
  )


@seqio.map_over_dataset
def parse(line):
  """Parses a line of JSON.

  '{"query": "q", "text": "d", "query_id": "1", "doc_id": "2"}' ->
  {'query': 'q', 'document': 'd', 'query_id': '1', 'doc_id': '2', 'label': 0}
  """

  def fields(text: bytes):
    record = json.loads(text)
    return [record[name].encode() for name in _FIELDS]

  values = tf.numpy_function(
    fields, [line], [tf.string] * len(_FIELDS), stateful=False
  )
  query, text, query_id, doc_id = (tf.ensure_shape(v, []) for v in values)
  return {
    'query': query,
    'document': text,
    'query_id': query_id,
    'doc_id': doc_id,
    'label': tf.constant(0, tf.int64),
  }
