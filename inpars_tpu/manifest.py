"""Manifests: what made an output, and the proof that it is complete.

Every output has a manifest, written last: `NAME.manifest.json` beside a file,
`manifest.json` in a directory. While a directory is being filled it holds
`manifest.partial.json` instead, with the same identity (verb, settings, inputs
by hash), so that work is only ever resumed under the settings it began with.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import logging
import platform
import sys
import time
from collections.abc import Mapping
from typing import Any

from etils import epath

from inpars_tpu import errors, files, stores

_log = logging.getLogger(__name__)

COMPLETE_NAME = 'manifest.json'
PARTIAL_NAME = 'manifest.partial.json'
_VERSIONED = (
  'inpars_tpu', 'jax', 'jaxlib', 'flax', 'optax', 'numpy', 'tensorflow',
  'seqio', 'tokenizers', 'sentencepiece', 'ftfy', 'pyserini',
  'pytrec-eval-terrier',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Job:
  """One output being made by one verb."""

  verb: str
  output: epath.Path
  is_directory: bool
  is_complete: bool  # Made by an earlier call with the same identity.
  identity: Mapping[str, Any]
  started: float

  def parts_dir(self) -> epath.Path:
    """The folder for finished parts of a file output, kept across a kill.

    Raises:
      InputError: its parts were begun with other settings or inputs.
    """
    _begin_directory(self._parts(), self.output, self.identity)
    return self._parts()

  def finish(self, **details: Any) -> None:
    """Writes the manifest; `details` (counts, ...) go into it as they are."""
    record = {
      **self.identity,
      **details,
      'versions': _versions(),
      'devices': _devices(),
      'seconds': round(time.time() - self.started, 3),
    }
    if not self.is_directory:
      record['sha256'] = files.sha256(self.output)
    path = manifest_path(self.output, self.is_directory)
    files.write_json(path, record, shared=self.is_directory)
    self._clean()
    _log.info(
      '%s: wrote %s in %.1f s', self.verb, self.output, record['seconds']
    )

  def _parts(self) -> epath.Path:
    return self.output.parent / f'{self.output.name}.parts'

  def _clean(self) -> None:
    """Removes what was only needed to resume, and what a kill left."""
    if self.is_directory:
      (self.output / PARTIAL_NAME).unlink(missing_ok=True)
      files.clear_temporaries(self.output)
    else:
      files.clear_temporaries(self.output.parent, self.output.name)
      with contextlib.suppress(FileNotFoundError):  # Two may clean at once.
        self._parts().rmtree()


def begin_file(
  verb: str,
  output: files.PathLike,
  *,
  settings: Mapping[str, Any],
  inputs: Mapping[str, files.PathLike],
) -> Job:
  """Starts, or finds complete, an output that is one file.

  Args:
    verb: the command that makes it.
    output: path of the file.
    settings: every number and flag that its content depends on.
    inputs: name -> path of each file or directory it is made from.

  Raises:
    InputError: it was made with other settings or inputs, was changed since,
      or is one of its own inputs.
  """
  return _begin(verb, output, False, settings, inputs)


def begin_directory(
  verb: str,
  output: files.PathLike,
  *,
  settings: Mapping[str, Any],
  inputs: Mapping[str, files.PathLike],
  shared: bool = False,
) -> Job:
  """As `begin_file`, for an output that is a directory.

  A directory that holds files and no manifest is not ours to fill, unless
  `shared` says that others keep files there too. Several processes may begin
  it, and end it, at the same moment.
  """
  job = _begin(verb, output, True, settings, inputs)
  if not job.is_complete:
    try:
      _begin_directory(job.output, job.output, job.identity, shared=shared)
    except errors.InputError:
      if read(output) is None:
        raise
      # Another process has ended it since.
      return _begin(verb, output, True, settings, inputs)
  return job


def manifest_path(output: files.PathLike, is_directory: bool) -> epath.Path:
  """Where an output's manifest is."""
  output = epath.Path(output)
  if is_directory:
    return output / COMPLETE_NAME
  return output.parent / f'{output.name}.manifest.json'


def read(output: files.PathLike) -> dict[str, Any] | None:
  """The manifest of a file or directory; None where it is not complete."""
  output = epath.Path(output)
  path = manifest_path(output, output.is_dir())
  return files.read_json(path, 'manifest') if path.exists() else None


def digest(path: files.PathLike) -> dict[str, Any]:
  """Size and sha256 of a file, or of all the files of a directory.

  A Lucene index differs in its bytes each time it is made, so one of ours is
  known by the identity in its manifest.
  """
  path = epath.Path(path)
  if not path.is_dir():
    path = stores.local(path)
    return {'size': path.stat().length, 'sha256': files.sha256(path)}
  record = read(path)
  if record and record['command'] == 'index':
    identity = {key: record[key] for key in ('settings', 'inputs')}
    text = repr(_comparable({**identity, 'command': 'index'}))
    return {'size': None, 'sha256': hashlib.sha256(text.encode()).hexdigest()}
  combined, size, path = hashlib.sha256(), 0, stores.local(path)
  for file in files.list_files(path):
    name = '/'.join(file.relative_to(path).parts)
    if file.name not in (COMPLETE_NAME, PARTIAL_NAME):
      combined.update(f'{name}\0{files.sha256(file)}\n'.encode())
      size += file.stat().length
  return {'size': size, 'sha256': combined.hexdigest()}


def _begin(verb, output, is_directory, settings, inputs) -> Job:
  output = epath.Path(output)
  if output.exists() and output.is_dir() != is_directory:
    wanted = 'directory' if is_directory else 'file'
    raise errors.InputError(f'--output {output} exists and is not a {wanted}')
  for name, path in inputs.items():
    if output == epath.Path(path):
      raise errors.InputError(f'--output {output} is also the input {name}')
  identity = {
    'command': verb,
    'settings': dict(settings),
    'inputs': {
      name: {'path': str(path), **digest(path)} for name, path in inputs.items()
    },
  }
  record = read(output) if output.exists() else None
  if record:
    _check_same(output, record, identity)
    if not is_directory and record['sha256'] != files.sha256(output):
      raise errors.InputError(
        f'{output} was changed after it was written; '
        'delete it to make it anew, or give another --output'
      )
    _log.info('%s: %s is complete', verb, output)
  job = Job(verb, output, is_directory, bool(record), identity, time.time())
  if job.is_complete:
    job._clean()  # Killed between its manifest and this.
  return job


def _begin_directory(directory, output, identity, *, shared=False) -> None:
  marker = directory / PARTIAL_NAME
  if marker.exists():
    _check_same(output, files.read_json(marker, 'manifest'), identity)
    return
  if (
    not shared
    and directory.exists()
    and not all(_is_marker(entry.name) for entry in directory.iterdir())
  ):
    raise errors.InputError(
      f'{directory} holds files that no inpars-tpu command began; '
      'give another --output'
    )
  directory.mkdir(parents=True, exist_ok=True)
  files.write_json(marker, identity, shared=True)


def _is_marker(name: str) -> bool:
  """The marker, or one half-written: another process, or one that is dead."""
  return name == PARTIAL_NAME or (
    name.startswith(f'{PARTIAL_NAME}.') and name.endswith('.tmp')
  )


def _comparable(identity: Mapping[str, Any]) -> dict[str, Any]:
  """Flat name -> value; paths are left out: a moved folder stays itself."""
  flat = {'command': identity['command'], **identity['settings']}
  for name, value in identity['inputs'].items():
    flat[f'the input {name}'] = value['sha256'][:12]
  return dict(sorted(flat.items()))


def _check_same(output, there: Mapping[str, Any], now: Mapping[str, Any]):
  old, new = _comparable(there), _comparable(now)
  differences = [
    f'{name} = {old.get(name)!r} there and {new.get(name)!r} now'
    for name in sorted(old.keys() | new.keys())
    if old.get(name) != new.get(name)
  ]
  if differences:
    raise errors.InputError(
      f'{output} was made with other settings: {"; ".join(differences)}. '
      'Give another output or work_dir, or delete it first'
    )


def _versions() -> dict[str, str]:
  """Of all that is installed here, whatever this process has loaded of it.

  What a process has loaded depends on the stages that it found complete, and a
  run that was killed would have another manifest.
  """
  versions = {'python': platform.python_version()}
  for package in _VERSIONED:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      if package == 'inpars_tpu':
        versions[package] = 'not installed'  # Run from a checkout.
  return versions


def _devices() -> list[str]:
  """Kinds of the devices, where a network of ours may have used them.

  Other libraries import jax too; asking it then would start an accelerator.
  """
  if not sys.modules.keys() & {
    'inpars_tpu.gptj.model',
    'inpars_tpu.t5.network',
  }:
    return []
  return [device.device_kind for device in sys.modules['jax'].devices()]
