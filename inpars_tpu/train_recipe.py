"""What of a recipe training reads: which macros, and what each is to it.

Knows no pairs and no files.
"""

from typing import Any

from inpars_tpu import errors, losses, trainer
from inpars_tpu import recipe as recipe_lib

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
  'LEARNING_RATE_SCHEDULE',
  'WARMUP_STEPS',
  'SCAN_LAYERS',
)
# Of these the result differs by rounding at most.
_PLACEMENT = ('SHARD_PARAMS', 'REMAT', 'CHECKPOINT_STEPS')


def check(recipe: recipe_lib.Recipe) -> None:
  """Raises InputError for numbers that do not go together."""
  recipe.only(*MACROS, *_PLACEMENT)
  size, in_list = recipe.TRAIN_BATCH_SIZE, list_size(recipe)
  if in_list == 1 and size % 2:
    raise errors.InputError(
      f'TRAIN_BATCH_SIZE must be even, half positive and half negative, not '
      f'{size}'
    )
  if size % in_list:
    below = size // in_list * in_list
    nearest = ' or '.join(map(str, filter(None, (below, below + in_list))))
    raise errors.InputError(
      f"with LOSS = 'rankt5' TRAIN_BATCH_SIZE counts the documents of whole "
      f'lists of 1 + NUM_NEGATIVES = {in_list}: {nearest}, not {size}'
    )
  if recipe.WARMUP_STEPS >= recipe.TRAIN_STEPS:
    raise errors.InputError(
      f'WARMUP_STEPS = {recipe.WARMUP_STEPS} must be below TRAIN_STEPS = '
      f'{recipe.TRAIN_STEPS}'
    )


def settings(recipe: recipe_lib.Recipe) -> dict[str, Any]:
  """The macros that decide the result; the two losses read unlike ones."""
  if recipe.LOSS == losses.MONOT5:
    return recipe.only(*MACROS)
  names = [name for name in MACROS if name != 'Z_LOSS']
  return recipe.only(*names, 'NUM_NEGATIVES')


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
    loss=recipe.LOSS,
    list_size=list_size(recipe),
    schedule=recipe.LEARNING_RATE_SCHEDULE,
    warmup_steps=recipe.WARMUP_STEPS,
  )


def layout_options(recipe: recipe_lib.Recipe) -> dict[str, Any]:
  """Of a recipe, what `layout.choose` and `choose_parts` go by."""
  return {
    'dtype': recipe.TRAIN_DTYPE,
    'max_tokens': recipe.MAX_INPUT_TOKENS,
    'batch_size': recipe.TRAIN_BATCH_SIZE,
    'list_size': list_size(recipe),
    'shard_params': recipe.SHARD_PARAMS,
    'scan_layers': recipe.SCAN_LAYERS,
    'remat': recipe.REMAT,
  }


def list_size(recipe: recipe_lib.Recipe) -> int:
  """Examples whose loss is one."""
  return 1 if recipe.LOSS == losses.MONOT5 else 1 + recipe.NUM_NEGATIVES
