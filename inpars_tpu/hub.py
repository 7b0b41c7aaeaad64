"""Models of the Hugging Face hub: only files that are read, size said first.

`huggingface_hub` fetches, resumes and checks; here is which files.
"""

import logging
import pathlib
import re
import shutil
from collections.abc import Iterable

import huggingface_hub
from huggingface_hub import errors as hub_errors

from inpars_tpu import errors, manifest, monot5

_log = logging.getLogger(__name__)

# Our name of a model -> owner/name there.
KNOWN = {
  'gpt-j-6b': 'EleutherAI/gpt-j-6b',
  **{
    name: f'castorini/{name}'
    for name in (
      'monot5-3b-msmarco-10k', 'monot5-3b-msmarco', 'monot5-large-msmarco-10k',
      'monot5-large-msmarco', 'monot5-base-msmarco-10k', 'monot5-base-msmarco',
      'monot5-small-msmarco-10k', 'monot5-small-msmarco-100k',
    )
  },
}  # fmt: skip

_SMALL = (
  'config.json', 'tokenizer.json', 'tokenizer_config.json', 'vocab.json',
  'merges.txt', 'added_tokens.json', 'special_tokens_map.json', 'spiece.model',
  monot5.SPEC_NAME,
)  # fmt: skip
# Weights by what reads them with the least: the first kind that is there.
_WEIGHTS = (
  r'model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?',
  r'flax_model(-\d{5}-of-\d{5})?\.msgpack(\.index\.json)?',
  r'pytorch_model(-\d{5}-of-\d{5})?\.bin(\.index\.json)?',
)


def download(
  name: str, models_dir: pathlib.Path, *, endpoint: str | None = None
) -> pathlib.Path:
  """Makes models_dir/NAME, a directory that `--model` takes.

  Args:
    name: one of `KNOWN`, or owner/name of the hub.
    models_dir: a local folder; a call that was cut off goes on there.
    endpoint: another hub than huggingface.co.

  Raises:
    InputError: an unknown name, no network, no weights, no room on the disk.
  """
  if name not in KNOWN and name.count('/') != 1:
    raise errors.unknown('model', name, KNOWN)
  repo = KNOWN.get(name, name)
  folder = models_dir / repo.partition('/')[2]
  try:
    api = huggingface_hub.HfApi(endpoint=endpoint)
    job = manifest.begin_directory(
      'download', folder, settings={'model': repo}, inputs={}
    )
    if job.is_complete:
      return folder
    info = api.model_info(repo, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings}
    chosen = choose(repo, sizes)
    _check_room(repo, folder, sum(sizes[file] for file in chosen))
    for file in chosen:
      api.hf_hub_download(repo, file, revision=info.sha, local_dir=folder)
    # Its notes, with times in them: the directory is known by its files.
    shutil.rmtree(folder / '.cache', ignore_errors=True)
    job.finish(revision=info.sha)
  except hub_errors.RepositoryNotFoundError:
    raise errors.InputError(
      f'the hub has no model {repo}, or not for you (then: hf auth login)'
    ) from None
  except (hub_errors.HfHubHTTPError, hub_errors.LocalEntryNotFoundError,
          OSError, *_network_errors()) as error:  # fmt: skip
    if isinstance(error, OSError) and error.errno is not None:
      raise  # A full disk, a folder that cannot be written.
    reason = type(error).__name__
    raise errors.InputError(
      f'{repo} cannot be fetched from the hub ({reason}): fetch config.json, '
      f'the tokenizer files and the weights elsewhere, and put them into '
      f'{folder}'
    ) from None
  return folder


def _check_room(repo: str, folder: pathlib.Path, num_bytes: int) -> None:
  """Says how much it is; what an earlier call fetched needs no room again."""
  _log.info('download: %s, %.2f GB, into %s', repo, num_bytes / 1e9, folder)
  there = sum(
    file.stat().st_size
    for file in folder.rglob('*')
    if file.is_file() and not file.name.startswith('manifest.')
  )
  free = shutil.disk_usage(folder).free
  if num_bytes - there > free:
    raise errors.InputError(
      f'{repo} needs {num_bytes / 1e9:.1f} GB, and {folder} has '
      f'{free / 1e9:.1f} GB free'
    )


def choose(repo: str, names: Iterable[str]) -> list[str]:
  """Files to fetch: config, tokenizer, and one kind of weights.

  ['config.json', 'pytorch_model.bin', 'tf_model.h5', 'model.safetensors'] ->
    ['config.json', 'model.safetensors']
  """
  names = sorted(names)
  for pattern in _WEIGHTS:
    weights = [name for name in names if re.fullmatch(pattern, name)]
    if weights:
      if weights[0].startswith('pytorch'):
        _log.info('download: %s has torch files only: torch reads them', repo)
      return [name for name in names if name in _SMALL] + weights
  raise errors.InputError(
    f'{repo} holds no model.safetensors, flax_model.msgpack or '
    'pytorch_model.bin'
  )


def _network_errors() -> tuple[type[Exception], ...]:
  """Of the HTTP client that the installed huggingface_hub brings."""
  found = []
  for module in ('httpx2', 'httpx'):
    try:
      found.append(__import__(module).HTTPError)
    except ImportError:
      continue
  return tuple(found)
