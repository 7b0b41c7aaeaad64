"""Fine-tunes the reranker on the pairs.

The files around `trainer`: pairs in; checkpoints, metrics and a Hugging Face
directory out.
"""

import logging
from typing import Any

import jax
import tqdm
from etils import epath

from inpars_tpu import (
  batches,
  checkpoints,
  errors,
  files,
  manifest,
  metrics_log,
  model_card,
  model_dir,
  monot5,
  pairs,
  trainer,
)
from inpars_tpu import recipe as recipe_lib
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import convert

_log = logging.getLogger(__name__)

MACROS = (
  'SEED',
  'MAX_INPUT_TOKENS',
  'TRAIN_STEPS',
  'TRAIN_BATCH_SIZE',
  'LEARNING_RATE',
  'LOSS',
  'DROPOUT_RATE',
  'Z_LOSS',
  'TRAIN_DTYPE',
  'LENGTH_BUCKETS',
)
MODEL, CHECKPOINTS, EVENTS = 'model', 'checkpoints', 'tensorboard'
METRICS = 'metrics.jsonl'


def main(args) -> None:
  """`inpars-tpu train`."""
  train(
    args.pairs,
    args.model,
    args.output,
    args.recipe,
    label_words=args.label_words,
    engine=args.engine,
  )


def check(recipe: recipe_lib.Recipe, engine: str = 'embedded') -> None:
  """Raises InputError for settings that no training can be run with."""
  if engine != 'embedded':
    raise errors.InputError(
      f'--engine={engine} is not in this version yet; use --engine=embedded'
    )
  recipe.only(*MACROS, 'CHECKPOINT_STEPS')
  if recipe.TRAIN_BATCH_SIZE % 2:
    raise errors.InputError(
      f'TRAIN_BATCH_SIZE must be even, half positive and half negative, not '
      f'{recipe.TRAIN_BATCH_SIZE}'
    )


def train(
  pairs_path: files.PathLike,
  model_path: files.PathLike,
  output: files.PathLike,
  recipe: recipe_lib.Recipe,
  *,
  label_words: str | None = None,
  engine: str = 'embedded',
) -> None:
  """Fine-tunes a model on pairs; goes on from the last checkpoint.

  Args:
    pairs_path: TFDS data directory with one set of pairs.
    model_path: reranker to start from, a Hugging Face directory.
    output: others may keep files there too; `model/`, `checkpoints/`,
      `tensorboard/` and `metrics.jsonl` are written. Nothing is done where it
      is complete.
    recipe: of which `MACROS` decide the result and CHECKPOINT_STEPS does not.
    label_words: 'false,true', for a model that does not say so itself.
    engine: 'embedded'.

  Raises:
    InputError: settings or input that cannot be trained with, an output that
      was begun with others, a loss that is no number.
  """
  check(recipe, engine)
  pairs.find(pairs_path)
  spec, vocabulary_file, label_ids = _check_model(
    model_path, label_words, recipe.MAX_INPUT_TOKENS
  )
  job = manifest.begin_directory(
    'train',
    output,
    settings=recipe.only(*MACROS) | {'label_words': list(spec.label_words)},
    inputs={'pairs': pairs_path, 'model': model_path},
    shared=True,
  )
  if job.is_complete:
    return
  from inpars_tpu import training_data  # TensorFlow: seconds.

  examples, counts = training_data.read(
    pairs_path,
    training_data.TRAIN,
    vocabulary_file=vocabulary_file,
    spec=spec,
    max_input_tokens=recipe.MAX_INPUT_TOKENS,
  )
  num_epochs = _count_epochs(recipe, counts)
  _log.info(
    'train: %d steps of %d, %s epochs of %d positive and %s of %d negative '
    'pairs; %d documents cut to %d tokens',
    recipe.TRAIN_STEPS, recipe.TRAIN_BATCH_SIZE,
    num_epochs['positive'], counts['positive'],
    num_epochs['negative'], counts['negative'],
    counts[monot5.DOCUMENTS_CUT], recipe.MAX_INPUT_TOKENS,
  )  # fmt: skip
  config = convert.check(model_path)
  model_trainer = trainer.Trainer(
    config, make_settings(recipe), tuple(label_ids)
  )
  params = _run(model_trainer, examples, model_path, job.output, recipe)
  card = model_card.write(
    base_model=epath.Path(model_path).name,
    pairs=pairs.find(pairs_path),
    settings=recipe.only(*MACROS),
    counts=counts,
    epochs=num_epochs['positive'],
    template=spec.template,
    label_words=spec.label_words,
  )
  export(job.output / MODEL, model_path, config, params, spec, card)
  job.finish(counts=counts, epochs=num_epochs)


def make_settings(recipe: recipe_lib.Recipe) -> trainer.Settings:
  """The trainer's numbers, of a recipe."""
  return trainer.Settings(
    seed=recipe.SEED,
    num_steps=recipe.TRAIN_STEPS,
    batch_size=recipe.TRAIN_BATCH_SIZE,
    learning_rate=recipe.LEARNING_RATE,
    dropout_rate=recipe.DROPOUT_RATE,
    z_loss=recipe.Z_LOSS,
    dtype=recipe.TRAIN_DTYPE,
    max_input_tokens=recipe.MAX_INPUT_TOKENS,
    has_length_buckets=recipe.LENGTH_BUCKETS,
  )


def export(
  directory: epath.Path,
  source: files.PathLike,
  config: config_lib.T5Config,
  params: trainer.Params,
  spec: monot5.RerankerSpec,
  card: str,
) -> None:
  """Writes the fine-tuned model as a Hugging Face directory, whole or not.

  Args:
    directory: is replaced.
    source: the model it comes from, for the tokenizer and config.json.
    config: sizes.
    params: the 'params' of `network.Transformer`.
    spec: what it reads and says.
    card: README.md.
  """
  temporary = directory.parent / f'{directory.name}.tmp'
  for left in (temporary, directory):
    if left.exists():
      left.rmtree()
  hf_config = files.read_json(epath.Path(source) / 'config.json', 'config.json')
  convert.save_hf(temporary, config, params, hf_config)
  model_dir.copy_tokenizer(source, temporary)
  monot5.write_spec(temporary, spec)
  files.write_text(temporary / 'README.md', card)
  temporary.rename(directory)


def _check_model(
  model_path: files.PathLike, label_words: str | None, max_input_tokens: int
) -> tuple[monot5.RerankerSpec, epath.Path, list[int]]:
  spec, tokenizer, label_ids = monot5.check(model_path, label_words)
  if spec.label_words is None:
    raise errors.InputError(
      f"{model_path} says a logit and no label words; LOSS = 'monot5' needs "
      'two words'
    )
  monot5.build_inputs(spec, tokenizer, [''], [''], max_input_tokens)  # Room?
  vocabulary_file = epath.Path(model_path) / 'spiece.model'
  if not vocabulary_file.exists():
    raise errors.InputError(
      f'{model_path} has no spiece.model, which training tokenises with'
    )
  return spec, vocabulary_file, label_ids


def _run(
  model_trainer: trainer.Trainer,
  examples: batches.Examples,
  model_path: files.PathLike,
  output: epath.Path,
  recipe: recipe_lib.Recipe,
) -> trainer.Params:
  """Trains from the newest checkpoint, or from the model, to the end."""
  if jax.device_count() > 1:
    _log.info('train: uses one of %d devices', jax.device_count())
  with checkpoints.Checkpoints(output / CHECKPOINTS) as kept:
    restored = kept.restore(model_trainer.abstract_state())
    if restored:
      last_step, state = restored
      _log.info('train: goes on after step %d', last_step)
    else:
      last_step, state = 0, model_trainer.init(convert.load(model_path)[1])
    with (
      metrics_log.MetricsLog(
        output / METRICS, output / EVENTS, last_step
      ) as log,
      tqdm.tqdm(
        desc='train', initial=last_step, total=recipe.TRAIN_STEPS, unit='step'
      ) as progress,
    ):

      def log_step(record: dict[str, float]) -> None:
        log.write(record)
        progress.set_postfix(loss=f'{record["loss"]:.4f}', refresh=False)
        progress.update()

      state = trainer.fit(
        model_trainer,
        state,
        examples,
        last_step=last_step,
        checkpoint_steps=recipe.CHECKPOINT_STEPS,
        log=log_step,
        save=kept.save,
      )
  return state.params


def _count_epochs(
  recipe: recipe_lib.Recipe, counts: dict[str, int]
) -> dict[str, Any]:
  """How often each class is read, 4 digits."""
  num_drawn = recipe.TRAIN_STEPS * recipe.TRAIN_BATCH_SIZE // 2
  return {
    kind: float(f'{num_drawn / counts[kind]:.4g}')
    for kind in ('positive', 'negative')
  }
