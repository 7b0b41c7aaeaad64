"""`--engine=t5x`: the fine-tuning of `train`, by t5x in a process of its own.

Of the same pairs, model and recipe: converts the model, writes a gin recipe
that includes those of gin/t5x, and runs `t5x.train` on it. Its own process, so
that neither gin's state nor JAX's settings are shared. Batches are those of the
embedded trainer, all padded to MAX_INPUT_TOKENS: t5x has no length buckets.
"""

import dataclasses
import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import tqdm
from etils import epath
from flax import traverse_util

from inpars_tpu import (
  convert,
  errors,
  files,
  losses,
  monot5,
  pairs,
  stores,
  t5x_checkpoint,
)
from inpars_tpu import recipe as recipe_lib
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import convert as t5_convert
from inpars_tpu.t5 import tensors as t5_tensors
from inpars_tpu.t5 import weights as weights_lib

_log = logging.getLogger(__name__)

START, RECIPE, LOG = 't5x_start', 't5x.gin', 't5x.log'
# Modules -> where they are; none is on the package index, and what they ask
# for does not resolve: airio an old grain, t5x the newest of everything.
_SOURCES = {
  't5x': 'google-research/t5x@cc342d4',
  'airio': 'google/airio@69897df',
  'jestimator': 'google-research/jestimator@326824a',
}
# What they import, of the extra [t5x].
_PACKAGES = ('cached_property', 'clu', 'fiddle', 'grain', 'tensorboard')
_MESH_FACTOR = 233_472  # See gin/t5x/monot5.gin.
_WRONG_INPUT = 2
_ERROR = 'inpars-tpu: '  # What t5x_run begins the line of wrong input with.


def check(recipe: recipe_lib.Recipe) -> None:
  """Raises InputError where t5x is missing, or has no such loss."""
  if any(importlib.util.find_spec(name) is None for name in _SOURCES):
    lines = [
      f"pip install --no-deps '{name} @ git+https://github.com/{source}'"
      for name, source in _SOURCES.items()
    ]
    raise errors.InputError(
      f'--engine=t5x needs t5x, which is not on the package index: '
      f"pip install 'inpars_tpu[t5x]'; {'; '.join(lines)}"
    )
  missing = [n for n in _PACKAGES if importlib.util.find_spec(n) is None]
  if missing:
    raise errors.InputError(
      f"--engine=t5x needs {', '.join(missing)}: pip install 'inpars_tpu[t5x]'"
    )
  if recipe.LOSS != losses.MONOT5:
    raise errors.InputError(
      f'--engine=t5x has the loss {losses.MONOT5!r} alone, not '
      f'{recipe.LOSS!r}: use --engine=embedded'
    )
  if recipe.LEARNING_RATE_SCHEDULE != 'constant' or recipe.WARMUP_STEPS:
    raise errors.InputError(
      '--engine=t5x keeps the learning rate constant: LEARNING_RATE_SCHEDULE = '
      f'{recipe.LEARNING_RATE_SCHEDULE!r} and WARMUP_STEPS = '
      f'{recipe.WARMUP_STEPS} are of --engine=embedded'
    )


def run(
  pairs_path: files.PathLike,
  model_path: files.PathLike,
  output: epath.Path,
  recipe: recipe_lib.Recipe,
  spec: monot5.RerankerSpec,
  *,
  checkpoints: epath.Path,
  metrics: epath.Path,
  events: epath.Path,
) -> dict[str, Any]:
  """Trains to the end, from the newest checkpoint where there is one.

  Args:
    pairs_path: TFDS data directory with one set of pairs.
    model_path: a model directory.
    output: t5x.gin and t5x.log are written there, and while it trains
      t5x_start/.
    recipe: of the numbers.
    spec: what the model reads and says.
    checkpoints: t5x's MODEL_DIR.
    metrics: metrics.jsonl.
    events: folder of TensorBoard's events.

  Returns:
    The 'params' of `network.Transformer` after the last step, on the host.

  Raises:
    InputError: what t5x_run says is wrong.
    RuntimeError: t5x failed; the last line of what it said.
  """
  start = convert_start(model_path, output / START)
  if recipe.LENGTH_BUCKETS:
    _log.info(
      'train: t5x pads every input to %d tokens', recipe.MAX_INPUT_TOKENS
    )
  text = write_recipe(
    recipe,
    spec,
    start,
    dataset=pairs.find(pairs_path).removeprefix(pairs.PREFIX),
    vocabulary_file=stores.local(epath.Path(model_path) / 'spiece.model'),
    checkpoints=checkpoints,
    metrics=metrics,
    events=events,
  )
  files.write_text(output / RECIPE, text)
  last_step = start.step + recipe.TRAIN_STEPS
  last = checkpoints / f'checkpoint_{last_step}'
  if not last.exists():
    command = ['train', f'--gin_file={output / RECIPE}']
    command += [f'--tfds_data_dir={os.fspath(stores.local(pairs_path))}']
    run_t5x(command, output / LOG, recipe.TRAIN_STEPS)
  params = load(last, start.config)
  start.directory.rmtree()
  return params


@dataclasses.dataclass(frozen=True)
class Start:
  """The checkpoint that training starts from."""

  directory: epath.Path
  config: config_lib.T5Config
  step: int  # Of its name; 0 unless Adafactor's slots came along.

  @property
  def checkpoint(self) -> epath.Path:
    """The folder that t5x restores."""
    return self.directory / f'checkpoint_{self.step}'


def convert_start(model_path: files.PathLike, directory: epath.Path) -> Start:
  """Writes the model as a t5x checkpoint with Adafactor's slots."""
  is_t5x = t5x_checkpoint.find(model_path) is not None
  convert.convert(
    model_path,
    directory,
    from_format=convert.T5X if is_t5x else convert.HF,
    to_format=convert.T5X,
  )
  weights = t5_convert.open_weights(directory)
  return Start(directory, weights.config, weights.step)


def write_recipe(
  recipe: recipe_lib.Recipe,
  spec: monot5.RerankerSpec,
  start: Start,
  *,
  dataset: str,
  vocabulary_file: epath.Path,
  checkpoints: epath.Path,
  metrics: epath.Path,
  events: epath.Path,
) -> str:
  """The text of t5x.gin."""
  config = start.config
  sizes = {
    'VOCAB_SIZE': config.vocab_size,
    'D_MODEL': config.d_model,
    'D_KV': config.d_kv,
    'D_FF': config.d_ff,
    'NUM_LAYERS': config.num_layers,
    'NUM_DECODER_LAYERS': config.num_decoder_layers,
    'NUM_HEADS': config.num_heads,
  }
  others = {
    f'config.T5Config.{name}': getattr(config, name)
    for name in (
      'relative_attention_num_buckets',
      'relative_attention_max_distance',
      'layer_norm_epsilon',
      'is_gated',
      'activation',
      'tie_word_embeddings',
      'scale_decoder_output',
    )
  }
  numbers = recipe.only(
    'SEED',
    'MAX_INPUT_TOKENS',
    'TRAIN_STEPS',
    'TRAIN_BATCH_SIZE',
    'LEARNING_RATE',
    'DROPOUT_RATE',
    'Z_LOSS',
    'TRAIN_DTYPE',
    'CHECKPOINT_STEPS',
  )
  num_targets = 2 * recipe.TRAIN_BATCH_SIZE  # The label word and </s>.
  paths = {
    'VOCABULARY_FILE': vocabulary_file,
    'INITIAL_CHECKPOINT_PATH': start.checkpoint,
    'MODEL_DIR': checkpoints,
    'METRICS_FILE': metrics,
    'EVENTS_DIR': events,
  }
  places = {
    **{name: os.fspath(stores.absolute(path)) for name, path in paths.items()},
    'PRETRAINED_STEPS': start.step,
    'TARGET_TOKENS_PER_BATCH': num_targets,
    # Slots that came along are of gradients divided so; with fresh ones the
    # loss is a mean, as the embedded trainer has it.
    'LOSS_NORMALIZING_FACTOR': _MESH_FACTOR if start.step else num_targets,
    'monot5.RerankerSpec.template': spec.template,
    'monot5.RerankerSpec.label_words': spec.label_words,
    'tasks.register.dataset': dataset,
  }
  return _TEMPLATE + _bindings(sizes | others | numbers | places)


_TEMPLATE = """\
# What `inpars-tpu train --engine=t5x` runs t5x on:
#   python -m inpars_tpu.t5x_run train --gin_file=THIS --tfds_data_dir=PAIRS

from __gin__ import dynamic_registration

from inpars_tpu import monot5
from inpars_tpu import tasks
from inpars_tpu import t5x_data
from inpars_tpu.t5 import config

include 'gin/t5x/monot5.gin'
include 'gin/t5x/finetune.gin'
include 'gin/t5x/engine.gin'

MIXTURE_OR_TASK_NAME = @t5x_data.name_of()
t5x_data.name_of.task = @tasks.register()
tasks.register.spec = %SPEC
"""


def _bindings(values: Mapping[str, Any]) -> str:
  return ''.join(f'{name} = {value!r}\n' for name, value in values.items())


def load(checkpoint: epath.Path, config: config_lib.T5Config) -> dict[str, Any]:
  """The parameters of a t5x checkpoint, float32, on the host."""
  weights: weights_lib.Weights = t5_convert.open_weights(
    checkpoint, config.to_hf()
  )
  return traverse_util.unflatten_dict(
    {
      path: np.asarray(weights.read(path), np.float32)
      for path in t5_tensors.names(config).values()
    }
  )


def run_t5x(command: list[str], log: epath.Path, num_steps: int) -> None:
  """Runs t5x_run in a process of its own, which ends when this one does."""
  program = [sys.executable, '-m', 'inpars_tpu.t5x_run', '--stdin_is_parent']
  with _open_log(log) as stream:
    process = subprocess.Popen(
      [*program, *command],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=stream,
    )
    try:
      with tqdm.tqdm(desc='train', total=num_steps, unit='step') as progress:
        for line in process.stdout:
          _show(progress, line)
      code = process.wait()
    finally:
      if process.poll() is None:  # Interrupted: its checkpoints are whole.
        process.terminate()
        process.wait()
      process.stdin.close()
      process.stdout.close()
    if code:
      stream.seek(0)
      said = stream.read().decode(errors='replace')
      raise _failure(code, said.strip().splitlines() or [''], log)


def _open_log(path: epath.Path) -> BinaryIO:
  """A file that another process can write to: not one in a bucket."""
  if stores.is_remote(path):
    return tempfile.TemporaryFile()
  return open(path, 'wb+')


def _show(progress: tqdm.tqdm, line: bytes) -> None:
  """Moves the bar, where the line is one of t5x_log's."""
  try:
    record = json.loads(line)
  except ValueError:
    return
  if isinstance(record, dict) and 'step' in record:
    if progress.n == 0:  # Steps of an earlier call are not of this speed.
      progress.initial = progress.n = record['step'] - 1
    progress.set_postfix(loss=f'{record["loss"]:.4f}', refresh=False)
    progress.update()


def _failure(code: int, said: list[str], log: epath.Path) -> Exception:
  if code == _WRONG_INPUT:
    for line in reversed(said):
      if line.startswith(_ERROR):
        return errors.InputError(line.removeprefix(_ERROR))
  reason = f'signal {-code}' if code < 0 else said[-1]
  return RuntimeError(f't5x ended with {code}: {reason}; see {log}')
