"""Fine-tunes the reranker on the pairs.

Pairs in, a Hugging Face directory out; between them one of two engines.
"""

import functools
import logging
from typing import Any

import jax
from etils import epath

from inpars_tpu import (
  batches,
  embedded_engine,
  errors,
  files,
  layout,
  losses,
  manifest,
  model_card,
  model_dir,
  monot5,
  pairs,
  processes,
  t5x_engine,
  train_recipe,
  trainer,
)
from inpars_tpu import recipe as recipe_lib
from inpars_tpu import reranker as reranker_lib
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import convert

_log = logging.getLogger(__name__)

_SHORT_LISTS = 'lists with fewer negatives than NUM_NEGATIVES'
MODEL, CHECKPOINTS, EVENTS = 'model', 'checkpoints', 'tensorboard'
METRICS = 'metrics.jsonl'
T5X = 't5x'  # The other engine.


def main(args) -> None:
  """`inpars-tpu train`."""
  train(
    args.pairs,
    args.model,
    args.output,
    args.recipe,
    label_words=args.label_words,
    engine=args.engine,
    mesh=args.mesh,
    members=processes.from_flags(args),
  )


def check(recipe: recipe_lib.Recipe, engine: str = 'embedded') -> None:
  """Raises InputError for settings that no training can be run with."""
  if engine == T5X:
    t5x_engine.check(recipe)
  train_recipe.check(recipe)


def train(
  pairs_path: files.PathLike,
  model_path: files.PathLike,
  output: files.PathLike,
  recipe: recipe_lib.Recipe,
  *,
  label_words: str | None = None,
  engine: str = 'embedded',
  mesh: str | None = None,
  members: processes.Processes = processes.ALONE,
) -> None:
  """Fine-tunes a model on pairs; goes on from the last checkpoint.

  Args:
    pairs_path: TFDS data directory with one set of pairs.
    model_path: reranker to start from, a Hugging Face directory.
    output: others may keep files there too; `model/`, `checkpoints/`,
      `tensorboard/` and `metrics.jsonl` are written. Nothing is done where it
      is complete.
    recipe: of which `train_recipe.settings` decide the result.
    label_words: 'false,true', for a model that does not say so itself.
    engine: 'embedded' or 't5x': a training goes on with the one that began it.
    mesh: 'data=2,model=4', of all devices; None: all are `data`.
    members: the processes that train as one, this one among them; they may
      be together already.

  Raises:
    InputError: settings or input that cannot be trained with, an output that
      was begun with others, a loss that is no number.
  """
  check(recipe, engine)
  if engine == T5X and (mesh or members.coordinator_address):
    raise errors.InputError(
      '--mesh and several processes are of --engine=embedded: t5x parts its '
      'own program, by gin/t5x'
    )
  pairs.find(pairs_path)
  spec, vocabulary_file, token_ids = _check_model(
    model_path, label_words, recipe
  )
  with members.together():
    _train(
      pairs_path, model_path, output, recipe,
      spec=spec, vocabulary_file=vocabulary_file, token_ids=token_ids,
      engine=engine, mesh=mesh,
    )  # fmt: skip


def _train(
  pairs_path: files.PathLike,
  model_path: files.PathLike,
  output: files.PathLike,
  recipe: recipe_lib.Recipe,
  *,
  spec: monot5.RerankerSpec,
  vocabulary_file: epath.Path,
  token_ids: list[int],
  engine: str,
  mesh: str | None,
) -> None:
  """`train`, of input that is right and processes that are together."""
  config = convert.check(model_path)
  where = layout.choose(
    config, mesh=mesh, **train_recipe.layout_options(recipe)
  )
  job = manifest.begin_directory(
    'train',
    output,
    settings=train_recipe.settings(recipe)
    | _says(spec)
    | ({'engine': engine} if engine == T5X else {}),
    inputs={'pairs': pairs_path, 'model': model_path},
    shared=True,
  )
  if job.is_complete:
    return
  examples, held_out, counts = _read(pairs_path, vocabulary_file, spec, recipe)
  num_epochs = _count_epochs(recipe, counts)
  _log.info(
    'train: %d steps of %d: %s; %d documents cut to %d tokens',
    recipe.TRAIN_STEPS,
    recipe.TRAIN_BATCH_SIZE,
    ', '.join(f'{n} epochs of {counts[k]} {k}' for k, n in num_epochs.items()),
    counts[monot5.DOCUMENTS_CUT],
    recipe.MAX_INPUT_TOKENS,
  )
  params, scores = _run(
    engine,
    trainer.Trainer(
      config, train_recipe.make_settings(recipe), token_ids, where
    ),
    (examples, held_out),
    pairs_path,
    model_path,
    job.output,
    recipe,
    spec,
  )
  if jax.process_index():
    return  # The first process writes what is left to write.
  card = model_card.write(
    base_model=epath.Path(model_path).name,
    pairs=pairs.find(pairs_path),
    settings=train_recipe.settings(recipe),
    counts=counts,
    epochs=min(num_epochs.values()),
    spec=spec,
    scores=scores,
  )
  export(job.output / MODEL, model_path, config, params, spec, card)
  job.finish(counts=counts, epochs=num_epochs, validation=scores)


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
  hf_config = files.read_json(epath.Path(source) / 'config.json', 'config.json')
  with files.directory_writer(directory, last=('config.json',)) as folder:
    convert.save_hf(folder, config, params, hf_config)
    model_dir.copy_tokenizer(source, folder)
    monot5.write_spec(folder, spec)
    files.write_text(folder / 'README.md', card)


def _check_model(
  model_path: files.PathLike,
  label_words: str | None,
  recipe: recipe_lib.Recipe,
) -> tuple[monot5.RerankerSpec, epath.Path, list[int]]:
  becomes_rankt5 = recipe.LOSS == losses.RANKT5
  spec, tokenizer, token_ids = reranker_lib.check(
    model_path, label_words, becomes_rankt5=becomes_rankt5
  )
  if becomes_rankt5:
    _log.info(
      'train: the reranker reads %r, and its score is the logit of token %d',
      spec.template, spec.logit_id,
    )  # fmt: skip
  elif spec.label_words is None:
    raise errors.InputError(
      f"{model_path} says a logit and no label words; LOSS = 'monot5' needs "
      'two words'
    )
  # Is there room for the template?
  monot5.build_inputs(spec, tokenizer, [''], [''], recipe.MAX_INPUT_TOKENS)
  vocabulary_file = epath.Path(model_path) / 'spiece.model'
  if not vocabulary_file.exists():
    raise errors.InputError(
      f'{model_path} has no spiece.model, which training tokenises with'
    )
  return spec, vocabulary_file, token_ids


def _read(
  pairs_path: files.PathLike,
  vocabulary_file: epath.Path,
  spec: monot5.RerankerSpec,
  recipe: recipe_lib.Recipe,
) -> tuple[batches.Examples, batches.Examples | None, dict[str, int]]:
  """The training and validation pairs, None where no split has those."""
  from inpars_tpu import training_data  # TensorFlow: seconds.

  read = functools.partial(
    training_data.read,
    pairs_path,
    vocabulary_file=vocabulary_file,
    spec=spec,
    max_input_tokens=recipe.MAX_INPUT_TOKENS,
  )
  is_listwise, held_out = recipe.LOSS == losses.RANKT5, None
  examples, counts = read(training_data.TRAIN, has_lists=is_listwise)
  if is_listwise:
    counts[_SHORT_LISTS] = _count_short_lists(examples, recipe, pairs_path)
  if training_data.VALIDATION in pairs.split_names(pairs_path):
    held_out, found = read(training_data.VALIDATION, has_lists=True)
    counts |= {f'validation {kind}': n for kind, n in found.items()}
  else:
    _log.info('train: the pairs have no validation split: none is measured')
  return examples, held_out, counts


def _run(
  engine: str,
  model_trainer: trainer.Trainer,
  splits: tuple[batches.Examples, batches.Examples | None],
  pairs_path: files.PathLike,
  model_path: files.PathLike,
  output: epath.Path,
  recipe: recipe_lib.Recipe,
  spec: monot5.RerankerSpec,
) -> tuple[trainer.Params, dict[str, float]]:
  """The parameters at the end, and what the held-out pairs say of them."""
  examples, held_out = splits
  folder, metrics, events = (
    output / name for name in (CHECKPOINTS, METRICS, EVENTS)
  )
  if engine != T5X:
    return embedded_engine.run(
      model_trainer,
      examples,
      held_out,
      model_path,
      checkpoint_steps=recipe.CHECKPOINT_STEPS,
      checkpoint_dir=folder,
      metrics=metrics,
      events=events,
    )
  params = t5x_engine.run(
    pairs_path,
    model_path,
    output,
    recipe,
    spec,
    checkpoints=folder,
    metrics=metrics,
    events=events,
  )
  if held_out is None:
    return params, {}
  placed = model_trainer.place(params)
  return params, embedded_engine.measure(model_trainer, placed, held_out)


def _says(spec: monot5.RerankerSpec) -> dict[str, Any]:
  """For the manifest: what the model is taught to say."""
  if spec.label_words is not None:
    return {'label_words': list(spec.label_words)}
  return {'template': spec.template, 'logit_id': spec.logit_id}


def _count_short_lists(
  examples: batches.Examples,
  recipe: recipe_lib.Recipe,
  pairs_path: files.PathLike,
) -> int:
  """How many lists have fewer negatives than NUM_NEGATIVES."""
  num_longest = examples.lists.shape[1]
  list_size = train_recipe.list_size(recipe)
  if num_longest > list_size:
    raise errors.InputError(
      f'{pairs_path} has up to {num_longest - 1} negatives of a positive, more '
      f'than {recipe.NUM_NEGATIVES}: train with --gin.NUM_NEGATIVES='
      f'{num_longest - 1}'
    )
  sizes = (examples.lists != batches.NO_EXAMPLE).sum(axis=1)
  return int((sizes < list_size).sum())


def _count_epochs(
  recipe: recipe_lib.Recipe, counts: dict[str, int]
) -> dict[str, float]:
  """How often each class, or the lists, are read, 4 digits."""
  num_examples = recipe.TRAIN_STEPS * recipe.TRAIN_BATCH_SIZE
  kinds, share = ('positive', 'negative'), 2
  if recipe.LOSS == losses.RANKT5:
    kinds, share = ('lists',), train_recipe.list_size(recipe)
  return {
    kind: float(f'{num_examples // share / counts[kind]:.4g}') for kind in kinds
  }
