"""gcloud, run and shown; what it complains of, as one line.

Every command is printed before it runs; in a dry run it is only printed.
"""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

from inpars_tpu import errors

CAPACITY, NOT_FOUND, EXISTS, GONE, UNREACHABLE, NO_OBJECTS, OTHER = (
  'capacity', 'not found', 'exists', 'gone', 'unreachable', 'no objects',
  'other',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Complaint:
  """What gcloud writes, and what a user is to do."""

  pattern: str
  kind: str
  remedy: str


# In this order: the first that is found counts.
_COMPLAINTS = (
  Complaint(
    r'do not currently have an active account selected|Reauthentication failed'
    r'|There was a problem refreshing your current auth tokens',
    OTHER,
    'not logged in: run gcloud auth login',
  ),
  Complaint(
    r'Failed to find attribute \[project\]|\[core/project\] .*not set',
    OTHER,
    'no project: give --project=NAME, or run gcloud config set project NAME',
  ),
  Complaint(
    r'API has not been used in project|SERVICE_DISABLED',
    OTHER,
    'run gcloud services enable tpu.googleapis.com',
  ),
  Complaint(
    r'[Qq]uota limit|Quota .* exceeded|quota metrics? exceed',
    OTHER,
    'the project may not have so many TPUs of this type there: ask for quota '
    'on the Cloud console (IAM, Quotas), or give another --zone or --type',
  ),
  Complaint(
    r'no more capacity in the zone|Insufficient (reserved )?capacity'
    r'|Stockout|does not have enough resources',
    CAPACITY,
    'all are taken: try again later, in another --zone, or wait in the queue '
    'with --queued',
  ),
  Complaint(
    r'accelerator \S+ was not found in zone'
    r'|[Aa]ccelerator ?[Tt]ype "?\S+"? (is not|was not|not) '
    r'|acceleratorTypes/\S+ .*not found',
    OTHER,
    'the zone has no such type: gcloud compute tpus accelerator-types list '
    '--zone=ZONE says which it has',
  ),
  Complaint(
    r'[Rr]untime ?[Vv]ersion "?\S+"? (is|was) not|version \S+ was not found',
    OTHER,
    'give --version as gcloud compute tpus tpu-vm versions list --zone=ZONE '
    'has it',
  ),
  Complaint(
    r'permission to access locations? |Location \S+ is not found'
    r'|Unexpected location|Invalid value.*\bzone\b',
    OTHER,
    'there is no such --zone, or it is not open to this project',
  ),
  Complaint(
    r'ALREADY_EXISTS|already exists',
    EXISTS,
    'the name is taken: give another --name, or delete that one',
  ),
  Complaint(
    r'terminal state "?(PREEMPTED|TERMINATED)|state "?(STOPPED|STOPPING|'
    r'DELETING|HIDDEN)"?, so it cannot',
    GONE,
    'the VM was taken away: `all` creates it again',
  ),
  Complaint(
    r'is still busy with',
    OTHER,
    '`stop` ends it, `logs` follows it',
  ),
  Complaint(
    r'was given no command',
    OTHER,
    '`run` gives it one',
  ),
  Complaint(
    r'matched no objects',
    NO_OBJECTS,
    'nothing is there',
  ),
  Complaint(
    r'storage\.objects\.\w+|storage\.buckets\.\w+|bucket does not exist'
    r'|gs://\S+ not found|Provided scope\(s\) are not authorized',
    OTHER,
    'the bucket is not there, or not to be read and written by this account: '
    'give it the role Storage Object Admin',
  ),
  Complaint(
    r'NOT_FOUND|was not found',
    NOT_FOUND,
    'there is no such VM: create it first',
  ),
  Complaint(
    r'PERMISSION_DENIED|does not have permission',
    OTHER,
    'this account may not: it needs the roles TPU Admin and Service Account '
    'User',
  ),
  Complaint(
    r'SSH Key is not present in the SSH agent',
    OTHER,
    'run eval "$(ssh-agent)" and ssh-add ~/.ssh/google_compute_engine, which '
    'gcloud asks for where there is more than one worker',
  ),
  Complaint(
    r'Connection (timed out|refused|reset|closed)|No route to host'
    r'|Permission denied \(publickey'
    r'|exited with return code \[255\]|exit status 255'
    r'|going through a maintenance event',
    UNREACHABLE,
    'a worker is not to be reached by ssh: is port 22 open to it? Behind a '
    'firewall give --ssh_flag=--tunnel-through-iap',
  ),
)  # fmt: skip


class Failed(errors.InputError):
  """A command of gcloud's failed; `kind` is one of the words above."""

  def __init__(self, message: str, kind: str):
    super().__init__(message)
    self.kind = kind


class Unknown(Exception):
  """A command failed for a reason that is none of `_COMPLAINTS`."""


class Gcloud:
  """Runs gcloud; use one for all commands of a call."""

  def __init__(self, *, dry_run: bool = False):
    """Nothing is run yet.

    Raises:
      Failed: there is no gcloud, and this is no dry run.
    """
    self.dry_run = dry_run
    if not dry_run and shutil.which('gcloud') is None:
      raise Failed(
        'no gcloud on the PATH: install the Google Cloud CLI, '
        'cloud.google.com/sdk/docs/install',
        OTHER,
      )

  def run(
    self, *words: str, on_line: Callable[[str], bool] | None = None
  ) -> None:
    """Runs one command to its end, and shows what it says.

    Args:
      *words: what follows `gcloud`.
      on_line: is given each line of its output, and says whether it took it;
        what it leaves is shown on stderr.

    Raises:
      Failed, Unknown: the command failed.
    """
    self._show(words)
    if self.dry_run:
      return
    said = []
    with subprocess.Popen(
      ['gcloud', *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT, text=True, errors='replace', env=_env(),
    ) as process:  # fmt: skip
      try:
        for line in process.stdout:
          if on_line is None or not on_line(line.rstrip('\n')):
            sys.stderr.write(line)
            said = [*said[-49:], line]
      except BaseException:
        process.terminate()
        raise
    if process.returncode:
      raise explain(words, process.returncode, ''.join(said))

  def ask(self, *words: str) -> str:
    """What a command that changes nothing says; '' in a dry run.

    Raises:
      Failed, Unknown: the command failed.
    """
    self._show(words)
    if self.dry_run:
      return ''
    done = subprocess.run(
      ['gcloud', *words], stdin=subprocess.DEVNULL, capture_output=True,
      text=True, errors='replace', check=False, env=_env(),
    )  # fmt: skip
    if done.returncode:
      raise explain(words, done.returncode, done.stderr)
    return done.stdout

  def _show(self, words: Sequence[str]) -> None:
    """In a dry run on stdout, to be pasted; else on stderr."""
    command = shlex.join(['gcloud', *words])
    if self.dry_run:
      print(command, flush=True)
    else:
      print(f'+ {command}', file=sys.stderr, flush=True)


def _env() -> dict[str, str]:
  """In which gcloud asks nothing, as there may be nobody."""
  return os.environ | {'CLOUDSDK_CORE_DISABLE_PROMPTS': '1'}


def explain(words: Sequence[str], code: int, said: str) -> Exception:
  """The error of a command that failed.

  Args:
    words: what followed `gcloud`.
    code: its exit code.
    said: what it wrote.
  """
  what = ' '.join(word for word in words[:5] if not word.startswith('-'))
  for complaint in _COMPLAINTS:
    found = re.search(complaint.pattern, said)
    if found:
      line = said[said.rfind('\n', 0, found.start()) + 1 :].split('\n')[0]
      line = re.sub(r'^ERROR: \(\S+\) ', '', line.strip())
      return Failed(
        f'gcloud {what}: {complaint.remedy} ({line})', complaint.kind
      )
  last = said.strip().splitlines()[-1:] or ['it said nothing']
  return Unknown(f'gcloud {what} failed with exit code {code}: {last[0]}')
