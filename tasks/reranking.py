"""seqio tasks over the pairs that inpars_tpu.pairs writes: monoT5's examples.

`register` makes one, `mix` a mixture of several; `vocabulary` says, at run
time, which spiece.model all of them tokenise with. Where the pairs are is
seqio's own setting (`seqio.set_tfds_data_dir_override`, t5x's --tfds_data_dir).
"""

import collections
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from inpars_tpu import (
  errors,
  host_tensorflow,
  monot5,
  pairs,
  tokenizer,
  validation,
)

seqio, tf = host_tensorflow.load('seqio'), host_tensorflow.tf

_VOCABULARY_NAME = 'spiece.model'


class _Vocabulary(seqio.SentencePieceVocabulary):
  """A SentencePiece vocabulary whose file is named later; equal to seqio's."""

  def bind(self, file: str | os.PathLike) -> None:
    self._sentencepiece_model_file = os.fspath(file)
    self._model = None  # seqio loads it when it is first used.

  def _model_context(self):
    if not self._sentencepiece_model_file:
      raise errors.InputError(
        'no vocabulary yet: call inpars_tpu.tasks.vocabulary(FILE), or bind '
        "inpars_tpu.tasks.vocabulary.file in gin to a model's spiece.model"
      )
    return super()._model_context()


_vocabulary = _Vocabulary('', extra_ids=100)  # T5's sentinels.


def vocabulary(
  file: str | os.PathLike | None = None,
) -> seqio.SentencePieceVocabulary:
  """The vocabulary of every task here; `file` binds it to a spiece.model.

  For t5x: VOCABULARY = @inpars_tpu.tasks.vocabulary() and
  inpars_tpu.tasks.vocabulary.file = 'DIR/spiece.model'.
  """
  if file is not None:
    if os.path.basename(os.fspath(file)) != _VOCABULARY_NAME:
      raise errors.InputError(
        f"{file}: the vocabulary is a model directory's {_VOCABULARY_NAME}"
      )
    _vocabulary.bind(file)
  return _vocabulary


def register(
  dataset: str, spec: monot5.RerankerSpec = monot5.MONOT5
) -> seqio.Task:
  """Registers, or finds, the task `inpars_<dataset>`.

  Args:
    dataset: name that `pairs.builder_name` makes the task's name of.
    spec: input text and label words; a task of that name with others is
      replaced.

  Returns:
    The task, with the features inputs and targets; label, group, query_id and
    doc_id are there beside them. Targets are the label word and </s>, or for
    a RankT5 the token whose logit is the score.
  """
  name = pairs.builder_name(dataset)
  registry = seqio.TaskRegistry
  if name in registry.names():
    task = registry.get(name)
    if task.preprocessors[0].keywords == {'spec': spec}:
      return task
    registry.remove(name)
  inputs, targets = (
    seqio.Feature(_vocabulary, add_eos=add_eos, dtype=tf.int32)
    for add_eos in (True, spec.label_words is not None)
  )
  return registry.add(
    name,
    source=seqio.TfdsDataSource(f'{name}:{pairs.VERSION}', read_only=True),
    preprocessors=[
      functools.partial(write_text, spec=spec),
      # Texts are cached and not tokens: those depend on the length's limit.
      seqio.CacheDatasetPlaceholder(),
      functools.partial(tokenize, spec=spec),
      seqio.preprocessors.append_eos,
    ],
    output_features={'inputs': inputs, 'targets': targets},
    postprocess_fn=keep_label,
    metric_fns=[
      functools.partial(measure, is_listwise=spec.label_words is None)
    ],
  )


def mix(name: str, datasets: Iterable[str]) -> seqio.Mixture:
  """Registers the mixture `inpars_<name>`: every training pair is as likely.

  Args:
    name: as a dataset's name in `register`.
    datasets: names of datasets, each with a task of its own here.
  """
  name = pairs.builder_name(name)
  if name in seqio.MixtureRegistry.names():
    seqio.MixtureRegistry.remove(name)
  return seqio.MixtureRegistry.add(
    name,
    [register(dataset).name for dataset in datasets],
    default_rate=seqio.mixing_rate_num_examples,
  )


def keep_label(
  text: str, example: Mapping[str, Any] | None = None, is_target: bool = False
) -> str | dict[str, int]:
  """A postprocessor: of a target keeps what `measure` needs to know of it.

  'true' of the example {'label': 1, 'group': 7, ...} ->
  {'label': 1, 'group': 7}
  """
  if not is_target:
    return text
  return {name: int(example[name]) for name in ('label', 'group')}


def measure(
  targets: Sequence[Mapping[str, int]],
  scores: Sequence[float],
  *,
  is_listwise: bool,
) -> dict[str, float]:
  """A seqio metric: `validation.measure` of a task's pairs.

  Args:
    targets: as `keep_label` gives them.
    scores: log_prob_true of each pair, or a RankT5's logit: what the model's
      `score_batch` must give, not the likelihood of the targets.
    is_listwise: a RankT5's.
  """
  return validation.measure(
    np.asarray(scores),
    np.array([target['label'] for target in targets]),
    np.array([target['group'] for target in targets]),
    is_listwise=is_listwise,
  )


@seqio.map_over_dataset
def write_text(example, *, spec: monot5.RerankerSpec):
  """Writes the text of a pair.

  {'query': 'q', 'document': 'd', 'label': 1, ...} ->
  {'query': 'q', 'document': 'd', 'label': 1, ...,
   'inputs_pretokenized': 'Query: q Document: d Relevant:',
   'targets_pretokenized': 'true'}

  A RankT5 has no words to say: without 'targets_pretokenized'.
  """

  def text(query: bytes, document: bytes) -> bytes:
    return spec.text(query.decode(), document.decode()).encode()

  inputs = tf.numpy_function(
    text, [example['query'], example['document']], tf.string, stateful=False
  )  # Without a state t5x can keep the reader's place in a checkpoint.
  example = {**example, 'inputs_pretokenized': tf.ensure_shape(inputs, [])}
  if spec.label_words is not None:
    words = tf.constant(spec.label_words)  # [2]: false, true.
    example['targets_pretokenized'] = words[example['label']]
  return example


@seqio.map_over_dataset
def tokenize(
  example,
  *,
  spec: monot5.RerankerSpec,
  output_features,
  sequence_length=None,
):
  """Tokenises a pair; of a long one the document is cut, not ` Relevant:`.

  {'query': 'q', 'document': 'd', 'targets_pretokenized': 'true', ...} ->
  {'inputs': [3, 27569, ...], 'targets': [1176], 'is_document_cut': False,
   'is_query_cut': False, 'targets_pretokenized': 'true', ...}

  without ends of text. seqio would cut from the right: it finds nothing left
  to cut. Of a RankT5 the targets are its logit_id: the one decoder step.
  """
  vocab = output_features['inputs'].vocabulary
  limit = (sequence_length or {}).get('inputs') or np.iinfo(np.int32).max

  def build(query: bytes, document: bytes):
    ids, is_document_cut, is_query_cut = _build(
      spec,
      os.path.dirname(vocab.sentencepiece_model_file),
      query.decode(),
      document.decode(),
      limit,
    )
    return np.array(ids, np.int32), is_document_cut, is_query_cut

  inputs, is_document_cut, is_query_cut = tf.numpy_function(
    build,
    [example['query'], example['document']],
    [tf.int32, tf.bool, tf.bool],
    stateful=False,
  )
  if spec.label_words is None:
    targets = tf.constant([spec.logit_id], tf.int32)
  else:
    targets = output_features['targets'].vocabulary.encode_tf(
      example['targets_pretokenized']
    )
  rest = {k: v for k, v in example.items() if k not in ('query', 'document')}
  return {
    **rest,
    'inputs': tf.ensure_shape(inputs, [None]),
    'targets': targets,
    'is_document_cut': tf.ensure_shape(is_document_cut, []),
    'is_query_cut': tf.ensure_shape(is_query_cut, []),
  }


def _build(
  spec: monot5.RerankerSpec,
  directory: str,
  query: str,
  document: str,
  limit: int,
) -> tuple[list[int], bool, bool]:
  """Tokens without </s>, as the scorer reads them, and what was cut."""
  counts = collections.Counter()
  (ids,) = monot5.build_inputs(
    spec, _tokenizer(directory), [query], [document], limit, counts
  )
  return (
    ids[:-1],
    counts[monot5.DOCUMENTS_CUT] > 0,
    counts[monot5.QUERIES_CUT] > 0,
  )


@functools.lru_cache(maxsize=2)
def _tokenizer(directory: str) -> tokenizer.T5Tokenizer:
  return tokenizer.T5Tokenizer(directory)
