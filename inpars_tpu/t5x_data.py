"""The embedded trainer's batches, for t5x: its get_dataset_fn.

seqio's shuffled batches have as many positives as chance gives them; these
have half, drawn by `batches` from the same seqio task, all of it in memory.

Axes: B batch, S input tokens, T target tokens.
"""

import os
import re
from collections.abc import Callable

import clu.data
import jax
import numpy as np
import seqio
from t5x import utils

from inpars_tpu import batches, training_data

_CHECKPOINT = re.compile(r'checkpoint_(\d+)')


def name_of(task: seqio.Task) -> str:
  """The name of a task, for gin to register one and name it to t5x."""
  return task.name


def get_dataset(
  cfg: utils.DatasetConfig,
  shard_id: int,
  num_shards: int,
  feature_converter_cls: Callable[..., seqio.FeatureConverter],
  num_epochs: None = None,
  continue_from_last_checkpoint: bool = False,
  *,
  first_step: int = 0,
) -> 'Batches':
  """Reads a split; t5x calls it in place of its own get_dataset.

  Args:
    cfg: of which the task, the split, inputs' length, batch_size and seed are
      read.
    shard_id: which part of each batch is this process's.
    num_shards: how many parts there are.
    feature_converter_cls: must be seqio's for an encoder and a decoder.
    num_epochs: must be None: they do not end.
    continue_from_last_checkpoint: must be false.
    first_step: the step of the checkpoint that training starts from.
  """
  if feature_converter_cls is not seqio.EncDecFeatureConverter:
    raise ValueError('these batches are for an encoder-decoder model')
  if num_epochs is not None or continue_from_last_checkpoint or cfg.pack:
    raise ValueError('these batches do not end and are not packed')
  task = cfg.mixture_or_task_name
  if isinstance(task, str):
    task = seqio.TaskRegistry.get(task)
  max_input_tokens = cfg.task_feature_lengths['inputs']
  examples, _ = training_data.read_task(task, cfg.split, max_input_tokens)
  return Batches(
    examples,
    seed=cfg.seed,
    batch_size=cfg.batch_size,
    max_input_tokens=max_input_tokens,
    first_step=first_step,
    shard=slice(shard_id, None, num_shards),
  )


class Batches(clu.data.dataset_iterator.DatasetIterator):
  """What each step reads is a function of the seed and the step alone."""

  def __init__(
    self,
    examples: batches.Examples,
    *,
    seed: int,
    batch_size: int,
    max_input_tokens: int,
    first_step: int = 0,
    shard: slice = slice(None),
  ):
    """Begins with the batch of step 1.

    Args:
      examples: of the split.
      seed: of the draws.
      batch_size: of all processes together; even.
      max_input_tokens: S; every row is padded to it.
      first_step: t5x's number of the step before step 1.
      shard: rows of a batch that this process reads.
    """
    self._examples = examples
    self._seed, self._batch_size = seed, batch_size
    self._num_tokens = max_input_tokens
    self._first_step, self._shard = first_step, shard
    self._step = 0

  def __next__(self) -> dict[str, np.ndarray]:
    self._step += 1
    chosen = batches.draw(
      self._examples,
      seed=self._seed,
      step=self._step,
      batch_size=self._batch_size,
    )
    return to_features(self._examples, chosen[self._shard], self._num_tokens)

  @property
  def element_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of this process's part of a batch."""
    chosen = np.zeros(self._batch_size, np.int64)[self._shard]
    features = to_features(self._examples, chosen, self._num_tokens)
    return {
      name: jax.ShapeDtypeStruct(array.shape, array.dtype)
      for name, array in features.items()
    }

  def reset(self) -> None:
    """Begins again."""
    self._step = 0

  def save(self, filename: str | os.PathLike) -> None:
    """Keeps nothing: the checkpoint's own step says where to go on.

    t5x peeks: before its first step, at a checkpoint that it writes then, one
    batch more has been read than was trained on.
    """

  def restore(self, filename: str | os.PathLike) -> None:
    """Goes on after the step of the checkpoint that the file would be in."""
    step = _CHECKPOINT.findall(os.fspath(filename))[-1]
    self._step = int(step) - self._first_step

  load = restore  # The older name, which t5x uses.


def to_features(
  examples: batches.Examples, chosen: np.ndarray, num_tokens: int
) -> dict[str, np.ndarray]:
  """Rows as seqio's EncDecFeatureConverter makes them, without packing.

  Args:
    examples: of the whole split.
    chosen: [B] which of them.
    num_tokens: S, what inputs are padded to.
  """
  inputs = np.full((len(chosen), num_tokens), batches.PAD_ID, np.int32)
  for row, index in enumerate(chosen):
    tokens = examples.inputs(index)
    inputs[row, : len(tokens)] = tokens
  targets = examples.targets[chosen]  # [B, T]
  return {
    'encoder_input_tokens': inputs,
    'decoder_target_tokens': targets,
    'decoder_input_tokens': np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
    'decoder_loss_weights': (targets != batches.PAD_ID).astype(np.int32),
  }
