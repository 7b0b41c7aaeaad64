"""The models of a plan: a directory, or a name whose sizes are known.

Of a directory config.json is read, and no weight; nothing is downloaded.
"""

import dataclasses
from collections.abc import Mapping

from etils import epath

from inpars_tpu import errors, files, hub, init, model_dir
from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.t5 import config as t5_config

# Hub's names -> init's: the sizes of their config.json.
_SIZES: Mapping[str, str] = {
  name: next(
    (size for word, size in (
      ('gpt-j', 'gptj_6b'), ('-3b-', 't5_3b'), ('-large-', 't5_large'),
      ('-base-', 't5_base'), ('-small-', 't5_small'),
    ) if word in name)
  )
  for name in hub.KNOWN
}  # fmt: skip
_NAMED = (*_SIZES, *init.SIZE_NAMES)


@dataclasses.dataclass(frozen=True)
class Model:
  """A model that a run would use."""

  name: str
  config: gptj_config.GPTJConfig | t5_config.T5Config
  directory: epath.Path | None = None  # None: only its sizes are known.
  num_bytes: int | None = None  # Of the directory's files.

  def has(self, *names: str) -> bool:
    """Whether the directory has all these files."""
    return self.directory is not None and all(
      (self.directory / name).exists() for name in names
    )


def generator(name: files.PathLike) -> Model:
  """A GPT-J.

  Raises:
    InputError: no such directory or name, or another architecture.
  """
  return _find(name, ('gptj',), gptj_config.GPTJConfig, 'the generator')


def reranker(name: files.PathLike) -> Model:
  """A T5; raises as `generator`."""
  return _find(name, t5_config.MODEL_TYPES, t5_config.T5Config, 'the reranker')


def _find(name, model_types, config_class, purpose: str) -> Model:
  path = epath.Path(name)
  if path.exists():
    config = model_dir.read_config(path, model_types, purpose)
    num_bytes = None
    if path.is_dir():
      num_bytes = sum(file.stat().length for file in files.list_files(path))
    directory = path if path.is_dir() else None
    return Model(path.name, config_class.from_hf(config), directory, num_bytes)
  name = str(name)
  if '/' in name or name not in _NAMED:
    raise errors.unknown('model', name, _NAMED)
  config = init.named_config(_SIZES.get(name, name))
  if config['model_type'] not in model_types:
    raise errors.InputError(
      f'{name} is a {config["model_type"]!r} model; {purpose} needs '
      f'{" or ".join(model_types)}'
    )
  return Model(name, config_class.from_hf(config))
