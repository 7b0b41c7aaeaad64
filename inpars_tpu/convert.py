"""Converts a T5 between Hugging Face, t5x and Mesh TensorFlow.

Tensor by tensor, in the dtype that they have; their bytes are not changed.
config.json, the tokenizer and reranker.json come along. Adafactor's slots and
the step do where t5x is written; a checkpoint that has none gets those that
t5x starts with, at step 0.
"""

import logging
from typing import Any

import numpy as np
from etils import epath

from inpars_tpu import (
  errors,
  files,
  init,
  manifest,
  mesh_checkpoint,
  model_dir,
  monot5,
  t5x_checkpoint,
  tokenizer,
)
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import convert as t5_convert
from inpars_tpu.t5 import tensors as t5_tensors
from inpars_tpu.t5 import weights as weights_lib

_log = logging.getLogger(__name__)

HF, T5X, MESH = 'hf', 't5x', 'mesh_tf'
_CONFIG = 'config.json'


def main(args) -> None:
  """`inpars-tpu convert`."""
  convert(
    args.model,
    args.output,
    from_format=args.from_format,
    to_format=args.to_format,
    config=args.config,
    tokenizer_dir=args.tokenizer,
    label_words=args.label_words,
  )


def convert(
  model: files.PathLike,
  output: files.PathLike,
  *,
  from_format: str,
  to_format: str,
  config: str | None = None,
  tokenizer_dir: files.PathLike | None = None,
  label_words: str | None = None,
) -> None:
  """Writes a model directory with the weights of another.

  Args:
    model: a model directory; a t5x checkpoint; of Mesh TensorFlow a prefix, or
      a folder with one checkpoint.
    output: the model directory.
    from_format: 'hf', 't5x' or 'mesh_tf'.
    to_format: 'hf' or 't5x'.
    config: a named size or a config.json, for a model that has none.
    tokenizer_dir: with the tokenizer's files, for a model that has none.
    label_words: 'false,true', written into reranker.json where there is none.

  Raises:
    InputError: another format or architecture, tensors that do not fit, no
      config.json or tokenizer, or two that contradict each other.
  """
  folder, inputs = _find(model, from_format)
  if (folder / _CONFIG).exists():  # Before what another model lacks.
    model_dir.read_config(folder, config_lib.MODEL_TYPES, 'convert')
  tokenizer_dir = _find_tokenizer(folder, tokenizer_dir)
  hf_config = _find_config(folder, config, tokenizer_dir)
  spec = _find_spec(folder, label_words)
  if from_format == MESH:
    weights = t5_convert.open_mesh(model, hf_config)
  else:
    weights = t5_convert.open_weights(model, hf_config)
  model_dir.check_vocabulary(
    tokenizer_dir,
    tokenizer.T5Tokenizer(tokenizer_dir).num_tokens,
    weights.config.vocab_size,
  )
  job = manifest.begin_directory(
    'convert',
    output,
    settings={
      'from_format': from_format,
      'to_format': to_format,
      'config': hf_config,
      'reranker': spec and _settings(spec),
    },
    inputs=inputs | _tokenizer_files(tokenizer_dir),
  )
  if job.is_complete:
    return
  write = _write_hf if to_format == HF else _write_t5x
  counts = write(job.output, weights)
  model_dir.copy_tokenizer(tokenizer_dir, job.output)
  if (folder / monot5.SPEC_NAME).exists():
    _copy(folder, job.output, monot5.SPEC_NAME)
  elif spec:
    monot5.write_spec(job.output, spec)
  if (folder / _CONFIG).exists():  # With fields that are not ours.
    _copy(folder, job.output, _CONFIG)
  else:
    files.write_json(job.output / _CONFIG, hf_config)
  job.finish(counts=counts)


def _find(
  model: files.PathLike, from_format: str
) -> tuple[epath.Path, dict[str, files.PathLike]]:
  """The folder of config.json, and the inputs of the manifest.

  Raises:
    InputError: the model is not there, or of another format.
  """
  if from_format == MESH:
    prefix = mesh_checkpoint.find(model)
    data = mesh_checkpoint.data_files(prefix)
    return prefix.parent, {f'model{f.suffix}': f for f in data}
  folder = files.must_exist(model, 'model directory')
  is_t5x = t5x_checkpoint.find(folder) is not None
  if from_format == T5X and not is_t5x:
    raise errors.InputError(f'{folder} is, and holds, no t5x checkpoint')
  if from_format == HF and is_t5x:
    raise errors.InputError(f'{folder} is a t5x checkpoint: --from_format=t5x')
  return folder, {'model': folder}


def _find_tokenizer(
  folder: epath.Path, given: files.PathLike | None
) -> files.PathLike:
  found = _tokenizer_files(folder)
  is_whole = found.keys() & {'spiece.model', 'tokenizer.json'}
  if given and is_whole:
    raise errors.InputError(
      f'--tokenizer={given}, but {folder} has {", ".join(found)}'
    )
  if not given and not is_whole:
    raise errors.InputError(
      f'{folder} has no spiece.model and no tokenizer.json: give --tokenizer=, '
      'a directory that has the one that the model was trained with'
    )
  return given or folder


def _tokenizer_files(folder: files.PathLike) -> dict[str, epath.Path]:
  paths = {
    name: epath.Path(folder) / name for name in model_dir.TOKENIZER_FILES
  }
  return {name: path for name, path in paths.items() if path.exists()}


def _find_config(
  folder: epath.Path, given: str | None, tokenizer_dir: files.PathLike
) -> dict[str, Any]:
  """The config.json of the model, or the one that is given for it."""
  if (folder / _CONFIG).exists():
    if given:
      raise errors.InputError(
        f'--config={given}, but {folder} has a {_CONFIG}: leave the flag out, '
        'or move the file away'
      )
    given = str(folder / _CONFIG)
  if not given:
    raise errors.InputError(
      f'{folder} has no {_CONFIG}, and its sizes alone do not tell the '
      'architecture: give --config=, a named size (t5_small t5_base t5_3b) or '
      'the path of a config.json'
    )
  if epath.Path(given).exists():
    return model_dir.read_config(given, config_lib.MODEL_TYPES, 'convert')
  return init.resolve_config(given, tokenizer_dir)


def _find_spec(
  folder: epath.Path, label_words: str | None
) -> monot5.RerankerSpec | None:
  """What a reranker reads and says; None: nobody says that it is one."""
  if (folder / monot5.SPEC_NAME).exists() or label_words:
    return monot5.read_spec(folder, label_words)
  try:
    return monot5.read_spec(folder)  # A published name.
  except errors.InputError:
    _log.info(
      'convert: no %s in %s, and no --label_words: none is written',
      monot5.SPEC_NAME, folder,
    )  # fmt: skip
    return None


def _settings(spec: monot5.RerankerSpec) -> dict[str, Any]:
  """A reranker's fields as JSON has them."""
  return {
    name: list(value) if isinstance(value, tuple) else value
    for name, value in vars(spec).items()
  }


def _copy(source: epath.Path, target: epath.Path, name: str) -> None:
  files.copy(source / name, target / name)


def _write_hf(
  output: epath.Path, weights: weights_lib.Weights
) -> dict[str, int]:
  writer = model_dir.TensorWriter(output)
  names = t5_tensors.names(weights.config)
  for name, path in names.items():
    array = weights.read(path)
    is_turned = t5_tensors.is_transposed(path)
    writer.add(name, array.T if is_turned else array)
  writer.close()
  return {'tensors': len(names)}


def _write_t5x(
  output: epath.Path, weights: weights_lib.Weights
) -> dict[str, int]:
  writer = t5x_checkpoint.Writer(output, weights.step)
  paths = t5_tensors.names(weights.config).values()
  for path in paths:
    name = '/'.join(path)
    array = weights.read(path)
    writer.add(f'{t5x_checkpoint.TARGET}/{name}', array)
    slots = weights.read_slots(path) or t5x_checkpoint.empty_slots(array.shape)
    for slot, values in slots.items():
      writer.add(f'{t5x_checkpoint.SLOTS}/{name}/{slot}', values)
  writer.add(t5x_checkpoint.STEP, np.array(weights.step, np.int32))
  writer.close()
  return {'tensors': len(paths), 'step': weights.step}
