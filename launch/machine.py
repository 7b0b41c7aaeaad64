"""A Cloud TPU VM: what it is made of, and the gcloud commands around it.

Commands are those of the reference of gcloud compute tpus; none has been run
against a real TPU.
"""

import dataclasses
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence

from inpars_tpu import errors
from launch import gcloud as gcloud_lib

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Generation -> the image that JAX is to be installed on, as
# cloud.google.com/tpu/docs/runtimes lists them.
VERSIONS = {
  'v2': 'tpu-ubuntu2204-base',
  'v3': 'tpu-ubuntu2204-base',
  'v4': 'tpu-ubuntu2204-base',
  'v5litepod': 'v2-alpha-tpuv5-lite',
  'v5p': 'v2-alpha-tpuv5',
  'v6e': 'v2-alpha-tpuv6e',
}
CLONE = 'inpars_tpu'  # In the VM's home; where a verb's paths start from.
_ARCHIVE = 'inpars_tpu.tar.gz'
_GONE = ('PREEMPTED', 'TERMINATED', 'DELETING', 'STOPPED', 'STOPPING')
_WAITING = ('CREATING', 'STARTING', 'RESTARTING', 'REIMAGING', 'REPAIRING')
_QUEUED = ('ACCEPTED', 'WAITING_FOR_RESOURCES', 'PROVISIONING', 'CREATING')
POLL_SECONDS = 20.0


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the flags and the env file say of a VM."""

  name: str
  zone: str
  type: str
  project: str | None = None
  version: str | None = None  # None: by the generation.
  spot: bool = False
  queued: bool = False
  bucket: str | None = None
  idle_minutes: float = 60.0  # 0: an idle VM stays.
  create_flags: Sequence[str] = ()
  ssh_flags: Sequence[str] = ()

  def __post_init__(self):
    """Checks what can be checked without gcloud.

    Raises:
      InputError: see the messages.
    """
    generation, dash, size = self.type.partition('-')
    if generation not in VERSIONS:
      raise errors.unknown('generation of --type', generation, VERSIONS)
    if not dash or not size.isdecimal():
      raise errors.InputError(
        f'--type={self.type}: a generation and a size: v3-8, v5litepod-64'
      )
    if not re.fullmatch(r'[a-z]([-a-z0-9]{0,61}[a-z0-9])?', self.name):
      raise errors.InputError(
        f'--name={self.name}: lower case letters, digits and -, first a letter'
      )
    if self.bucket and not re.fullmatch(r'gs://[^/]+.*', self.bucket):
      raise errors.InputError(f'--bucket={self.bucket}: gs://NAME or below it')

  @property
  def runtime(self) -> str:
    """Name of the image."""
    return self.version or VERSIONS[self.type.partition('-')[0]]

  @property
  def is_pod(self) -> bool:
    """Whether it has several workers: more than 8 cores, or v5e's 8 chips."""
    return int(self.type.partition('-')[2]) > 8


@dataclasses.dataclass(frozen=True)
class Status:
  """What describe says."""

  state: str  # 'READY', ...; '' where there is no such VM.
  type: str = ''
  num_workers: int = 0

  @property
  def is_ready(self) -> bool:
    """Whether commands can be run on it."""
    return self.state == 'READY'

  @property
  def is_gone(self) -> bool:
    """Whether it will never be ready again."""
    return not self.state or self.state in _GONE


class Machine:
  """One VM, on which every method runs gcloud."""

  def __init__(self, settings: Settings, gcloud: gcloud_lib.Gcloud):
    """Does nothing yet."""
    self.settings = settings
    self.gcloud = gcloud

  def status(self) -> Status:
    """Asks for it. A dry run finds none."""
    words = self._words('tpu-vm', 'describe', self.settings.name)
    try:
      text = self.gcloud.ask(*words, '--format=json')
    except gcloud_lib.Failed as error:
      if error.kind != gcloud_lib.NOT_FOUND:
        raise
      return Status('')
    if not text:
      return Status('')
    record = json.loads(text)
    return Status(
      record.get('state', 'UNKNOWN'),
      record.get('acceleratorType', '').rpartition('/')[2],
      max(1, len(record.get('networkEndpoints', ()))),
    )

  def create(self) -> None:
    """Rents the VM and waits until it is there.

    Raises:
      gcloud.Failed: name taken, quota, capacity, zone or type unknown, ...
    """
    s = self.settings
    spot = ['--spot'] * s.spot
    if not s.queued:
      self.gcloud.run(
        *self._words('tpu-vm', 'create', s.name),
        f'--accelerator-type={s.type}', f'--version={s.runtime}', *spot,
        *s.create_flags,
      )  # fmt: skip
      return
    self.gcloud.run(
      *self._words('queued-resources', 'create', s.name),
      f'--node-id={s.name}', f'--accelerator-type={s.type}',
      f'--runtime-version={s.runtime}', *spot, *s.create_flags,
    )  # fmt: skip
    self._wait_in_queue()

  def ensure(self) -> bool:
    """Creates it unless it is there; what was taken away is deleted first.

    Returns:
      Whether it was created.

    Raises:
      InputError: a VM of that name has another type.
    """
    status = self.status()
    while status.state in _WAITING:
      time.sleep(POLL_SECONDS)
      status = self.status()
    if status.is_ready:
      if status.type and status.type != self.settings.type:
        raise errors.InputError(
          f'{self.settings.name} is there, and a {status.type}: '
          'give another --name'
        )
      return False
    place = self._place_in_queue() if self.settings.queued else ''
    if place in _QUEUED:  # Asked for before.
      self._wait_in_queue()
      return True
    if status.state or place:
      self.delete()
    self.create()
    return True

  def install(self) -> None:
    """Copies this clone to all workers and installs it there."""
    s = self.settings
    with tempfile.TemporaryDirectory() as folder:
      archive = pathlib.Path(folder) / _ARCHIVE
      if self.gcloud.dry_run:
        print(f'# {archive}: what git ls-files lists of {ROOT}')
      else:
        pack(archive)
      self.gcloud.run(
        *self._words('tpu-vm', 'scp'), str(archive), f'{s.name}:',
        '--worker=all', *s.ssh_flags,
      )  # fmt: skip
    self.ssh(
      f'mkdir -p {CLONE} && tar -xzf {_ARCHIVE} -C {CLONE} && '
      f'bash {CLONE}/launch/install.sh'
    )
    if s.bucket:
      check = shlex.join(['gcloud', *_writing_to(s.bucket, CLONE)])
      self.ssh(check, worker='0')
    if s.idle_minutes:
      self.ssh(
        f'python3 {CLONE}/launch/worker.py guard '
        f'--minutes={s.idle_minutes:g} -- {shlex.join(self._deletion())}',
        worker='0',
      )

  def ssh(
    self,
    command: str,
    *,
    worker: str = 'all',
    flags: Sequence[str] = (),
    on_line: Callable[[str], bool] | None = None,
  ) -> None:
    """Runs a command of the VM's shell on its workers, in their home."""
    self.gcloud.run(
      *self._words('tpu-vm', 'ssh', self.settings.name), f'--worker={worker}',
      *self.settings.ssh_flags, *flags, f'--command={command}',
      on_line=on_line,
    )  # fmt: skip

  def copy(self, source: str, to: str) -> None:
    """Copies a folder of the bucket, or of worker 0, to this machine.

    Args:
      source: gs://..., or a path of the VM, from the clone there on.
      to: local folder, which is made.
    """
    if not self.gcloud.dry_run:
      pathlib.Path(to).mkdir(parents=True, exist_ok=True)
    if source.startswith('gs://'):
      self.gcloud.run('storage', 'rsync', '--recursive', source, to)
      return
    path = source if source.startswith(('/', '~')) else f'{CLONE}/{source}'
    self.gcloud.run(
      *self._words('tpu-vm', 'scp'), f'{self.settings.name}:{path}', to,
      '--recurse', '--worker=0', *self.settings.ssh_flags,
    )  # fmt: skip

  def delete(self) -> None:
    """Deletes the VM, and its place in the queue; not being there is done."""
    words = self._deletion()[1:]
    try:
      self.gcloud.run(*words)
    except gcloud_lib.Failed as error:
      if error.kind != gcloud_lib.NOT_FOUND:
        raise

  def list_files(self, path: str) -> str:
    """Names, sizes and times below a folder of the bucket; '' for none."""
    try:
      text = self.gcloud.ask('storage', 'ls', '--recursive', '--long', path)
    except gcloud_lib.Failed as error:
      if error.kind != gcloud_lib.NO_OBJECTS:
        raise
      return ''
    # What a killed process was writing is no progress.
    lines = (line.strip() for line in text.splitlines())
    return '\n'.join(line for line in lines if not line.endswith('.tmp'))

  def check_bucket(self) -> None:
    """Writes a small object, before anything is rented."""
    if self.settings.bucket:
      self.gcloud.run(*_writing_to(self.settings.bucket, ROOT))

  def _place_in_queue(self) -> str:
    """'WAITING_FOR_RESOURCES', ...; '' where it was not asked for."""
    words = self._words('queued-resources', 'describe', self.settings.name)
    try:
      text = self.gcloud.ask(*words, '--format=json')
    except gcloud_lib.Failed as error:
      if error.kind != gcloud_lib.NOT_FOUND:
        raise
      return ''
    return json.loads(text)['state']['state'] if text else ''

  def _wait_in_queue(self) -> None:
    if self.gcloud.dry_run:
      return
    before = ''
    while (state := self._place_in_queue()) in _QUEUED:
      if state != before:
        print(f'{self.settings.name}: {state}', file=sys.stderr)
        before = state
      time.sleep(POLL_SECONDS)
    if state != 'ACTIVE':
      self.delete()
      raise gcloud_lib.Failed(
        f'{self.settings.name} is {state} in the queue, and was deleted: ask '
        'again, perhaps in another --zone',
        gcloud_lib.CAPACITY,
      )

  def _words(self, group: str, verb: str, *names: str) -> list[str]:
    words = ['compute', 'tpus', group, verb, *names]
    words.append(f'--zone={self.settings.zone}')
    if self.settings.project:
      words.append(f'--project={self.settings.project}')
    return words

  def _deletion(self) -> list[str]:
    """With it goes, where it was queued for, the VM of a queued resource."""
    name = self.settings.name
    if self.settings.queued:
      words = self._words('queued-resources', 'delete', name)
      return ['gcloud', *words, '--force', '--quiet']
    return ['gcloud', *self._words('tpu-vm', 'delete', name), '--quiet']


def pack(archive: pathlib.Path) -> None:
  """Writes what git knows of this clone, changed or new, and not ignored.

  Raises:
    InputError: this is no clone.
  """
  listed = subprocess.run(
    ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    cwd=ROOT, capture_output=True, text=True, check=False,
  )  # fmt: skip
  if listed.returncode:
    raise errors.InputError(
      f'{ROOT} is no clone of git, so what to install is not known'
    )
  with tarfile.open(archive, 'w:gz') as tar:
    for name in listed.stdout.split('\0'):
      if name and (ROOT / name).exists():  # Not what was deleted.
        tar.add(ROOT / name, arcname=name, recursive=False)


def _writing_to(bucket: str, clone: object) -> list[str]:
  """A command of gcloud's that fails where the account may not write there."""
  source = f'{clone}/launch/install.sh'
  return ['storage', 'cp', source, f'{bucket.rstrip("/")}/.inpars_tpu_check']
