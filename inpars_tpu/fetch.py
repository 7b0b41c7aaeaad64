"""Files from a web server: resumed, checked, whole or absent.

`requests` speaks HTTP. The packages that fetch data sets (pooch, TFDS) check
sums but begin anew after a break, which a zip of 5 GB from a slow server does
not bear; so the loop over Range requests is here.
"""

import hashlib
import logging
import pathlib
import time
from collections.abc import Callable

import requests
import tqdm

from inpars_tpu import errors

_log = logging.getLogger(__name__)

_TRIES = 3  # In a row without a byte; whatever comes counts anew.
_TIMEOUT_SECONDS = 60
_BLOCK = 1 << 14  # What a break may lose.


def fetch(
  url: str,
  path: pathlib.Path,
  *,
  checksum: str | None = None,
  instead: str,
  sleep: Callable[[float], None] = time.sleep,
) -> None:
  """Makes `path` the file at `url`, from where an earlier call was cut off.

  What has come so far is in `path.part`, which a kill leaves for the next call.

  Args:
    url: http or https.
    path: where it shall be.
    checksum: 'md5:...' or 'sha256:...'; None: nothing is known of it, and only
      its length is checked.
    instead: what to do where there is no network, for the message.
    sleep: waits some seconds before another try.

  Raises:
    InputError: no network, no such file, a wrong checksum; `path` is not there
      then.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.parent / f'{path.name}.part'
  tries = 0
  while True:
    before = part.stat().st_size if part.exists() else 0
    try:
      _receive(url, part)
      break
    except requests.RequestException as error:
      status = getattr(error.response, 'status_code', None)
      after = part.stat().st_size if part.exists() else 0
      tries = 1 if after > before else tries + 1
      is_final = status is not None and 400 <= status < 500
      if is_final or tries >= _TRIES:
        reason = f'HTTP {status}' if status else type(error).__name__
        raise errors.InputError(
          f'{url} cannot be fetched ({reason}): {instead}'
        ) from None
      _log.info('fetch: %s; again from byte %d', type(error).__name__, after)
      sleep(2.0**tries)
  if checksum is not None and not has_checksum(part, checksum):
    part.unlink()
    raise errors.InputError(
      f'{url} is not the published file: its {checksum} differs; what came is '
      f'deleted. Try again, or {instead}'
    )
  part.replace(path)


def has_checksum(path: pathlib.Path, checksum: str) -> bool:
  """Whether a file has the sum 'md5:...' or 'sha256:...'."""
  algorithm, _, expected = checksum.partition(':')
  with path.open('rb') as stream:
    return hashlib.file_digest(stream, algorithm).hexdigest() == expected


def _receive(url: str, part: pathlib.Path) -> None:
  """Appends what is missing; a RequestException leaves what came."""
  start = part.stat().st_size if part.exists() else 0
  headers = {'Accept-Encoding': 'identity'}  # Or a range would mean less.
  if start:
    headers['Range'] = f'bytes={start}-'
  with requests.get(
    url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS
  ) as response:
    if start and response.status_code == requests.codes.range_not_satisfiable:
      if response.headers.get('Content-Range') == f'bytes */{start}':
        return  # All of it came before.
      part.unlink()  # Longer than the file: of another one.
      return _receive(url, part)
    response.raise_for_status()
    is_rest = response.status_code == requests.codes.partial_content
    start = start if is_rest else 0
    length = response.headers.get('Content-Length')
    total = start + int(length) if length else None
    with (
      part.open('ab' if is_rest else 'wb') as stream,
      tqdm.tqdm(
        desc=part.name.removesuffix('.part'), initial=start, total=total,
        unit='B', unit_scale=True, mininterval=1,
      ) as bar,
    ):  # fmt: skip
      for block in response.iter_content(_BLOCK):
        stream.write(block)
        bar.update(len(block))
  if total is not None and part.stat().st_size != total:
    raise requests.ConnectionError('the server ended too early')
