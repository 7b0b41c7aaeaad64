import hashlib

import pytest

from inpars_tpu import errors, fetch
from tests import web

DATA = bytes(range(256)) * 640  # Ten blocks.


@pytest.fixture
def server(tmp_path):
  folder = tmp_path / 'served'
  folder.mkdir()
  (folder / 'a.zip').write_bytes(DATA)
  with web.serve(folder) as running:
    yield running


def get(server, path, name='a.zip', checksum=None):
  waits = []
  fetch.fetch(
    f'{server.url}/{name}', path, checksum=checksum, instead='give --zip=FILE',
    sleep=waits.append,
  )  # fmt: skip
  return waits


def test_whole_file_with_either_sum(server, tmp_path):
  path = tmp_path / 'new' / 'a.zip'
  for algorithm in ('md5', 'sha256'):
    digest = hashlib.new(algorithm, DATA).hexdigest()
    assert get(server, path, checksum=f'{algorithm}:{digest}') == []
    assert path.read_bytes() == DATA
  assert [p.name for p in path.parent.iterdir()] == ['a.zip']


def test_goes_on_after_a_break(server, tmp_path):
  server.failures += [50_000, '503', 20_000]
  waits = get(server, tmp_path / 'a.zip')
  assert (tmp_path / 'a.zip').read_bytes() == DATA
  assert [asked for _, asked in server.requests] == [
    None, 'bytes=49152-', 'bytes=49152-', 'bytes=65536-',
  ]  # fmt: skip
  assert waits == [2, 4, 2]  # Longer in a row; what comes counts anew.


def test_goes_on_where_a_killed_call_was(server, tmp_path):
  (tmp_path / 'a.zip.part').write_bytes(DATA[:7])
  get(server, tmp_path / 'a.zip')
  assert (tmp_path / 'a.zip').read_bytes() == DATA
  assert server.requests == [('/a.zip', 'bytes=7-')]


def test_all_had_come_or_more(server, tmp_path):
  (tmp_path / 'a.zip.part').write_bytes(DATA)
  get(server, tmp_path / 'a.zip')
  assert (tmp_path / 'a.zip').read_bytes() == DATA
  (tmp_path / 'a.zip.part').write_bytes(DATA + b'x')
  get(server, tmp_path / 'a.zip')
  assert (tmp_path / 'a.zip').read_bytes() == DATA


def test_server_without_ranges(server, tmp_path):
  (tmp_path / 'a.zip.part').write_bytes(b'other')
  server.failures += ['no range']
  get(server, tmp_path / 'a.zip')
  assert (tmp_path / 'a.zip').read_bytes() == DATA


def test_wrong_sum_leaves_nothing(server, tmp_path):
  with pytest.raises(errors.InputError, match='not the published file: its md'):
    get(server, tmp_path / 'a.zip', checksum=f'md5:{"0" * 32}')
  assert [p.name for p in tmp_path.iterdir()] == ['served']


def test_no_such_file_is_not_tried_again(server, tmp_path):
  with pytest.raises(errors.InputError, match='HTTP 404.*: give --zip=FILE'):
    get(server, tmp_path / 'b.zip', 'b.zip')
  assert len(server.requests) == 1


def test_no_network(tmp_path):
  waits = []
  with pytest.raises(errors.InputError) as caught:
    fetch.fetch(
      'http://127.0.0.1:9/a.zip', tmp_path / 'a.zip',
      instead='give --zip=FILE', sleep=waits.append,
    )  # fmt: skip
  assert str(caught.value) == (
    'http://127.0.0.1:9/a.zip cannot be fetched (ConnectionError): '
    'give --zip=FILE'
  )
  assert len(waits) == 2
