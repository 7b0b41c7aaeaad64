import hashlib
import json
import pathlib

import pytest

from inpars_tpu import errors, hub, manifest
from tests import web

SHA = 'a' * 40
FILES = {
  'config.json': b'{}',
  'spiece.model': b'pieces',
  'README.md': b'no',
  'pytorch_model.bin': b'torch',
  'flax_model.msgpack': b'flax weights',
  'tf_model.h5': b'tf',
}


class Hub(web.Handler):
  """What huggingface_hub asks of the hub, for one model."""

  def do_HEAD(self):
    self.respond(False)

  def do_GET(self):
    self.respond(True)

  def respond(self, with_body):
    path = self.path.partition('?')[0]
    self.server.requests.append(path)
    headers = {}
    if path.startswith('/api/models/castorini/monot5-small-msmarco-10k'):
      body = json.dumps(
        {
          'id': 'castorini/monot5-small-msmarco-10k',
          'sha': SHA,
          'siblings': [
            {'rfilename': name, 'size': len(data)}
            for name, data in FILES.items()
          ],
        }
      ).encode()
      headers['Content-Type'] = 'application/json'
    elif '/resolve/' in path:
      body = FILES[pathlib.PurePosixPath(path).name]
      headers['ETag'] = f'"{hashlib.sha1(body).hexdigest()}"'
      headers['X-Repo-Commit'] = SHA
    else:
      return self.send_error(404)
    self.send_response(200)
    for name, value in headers.items():
      self.send_header(name, value)
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    if with_body:
      self.wfile.write(body)
    return None


def test_only_the_files_that_are_read(tmp_path, caplog):
  with web.serve(tmp_path, Hub) as server, caplog.at_level('INFO'):
    folder = hub.download(
      'monot5-small-msmarco-10k', tmp_path / 'models', endpoint=server.url
    )
  assert folder == tmp_path / 'models' / 'monot5-small-msmarco-10k'
  names = {p.name for p in folder.iterdir()}
  assert names == {'config.json', 'spiece.model', 'flax_model.msgpack',
                   'manifest.json'}  # fmt: skip
  assert manifest.read(folder)['revision'] == SHA
  assert (folder / 'flax_model.msgpack').read_bytes() == b'flax weights'
  assert '10k, 0.00 GB, into' in caplog.text
  assert not any('pytorch' in path for path in server.requests)
  # Complete: nothing is asked, so it works without a network.
  assert folder == hub.download(
    'monot5-small-msmarco-10k', tmp_path / 'models', endpoint=server.url
  )


def test_no_room_is_said_before_a_byte(tmp_path, monkeypatch):
  monkeypatch.setattr(hub.shutil, 'disk_usage', lambda _: _Usage())
  with web.serve(tmp_path, Hub) as server:
    with pytest.raises(errors.InputError, match='10k needs 0.0 GB, and .* 0.0'):
      hub.download(
        'monot5-small-msmarco-10k', tmp_path / 'models', endpoint=server.url
      )
    assert not any('/resolve/' in path for path in server.requests)


class _Usage:
  free = 3


def test_no_such_model_and_no_network(tmp_path):
  with pytest.raises(errors.InputError, match="unknown model 'monot5'; did"):
    hub.download('monot5', tmp_path)
  with pytest.raises(
    errors.InputError, match='a/b cannot be fetched .*put the'
  ):
    hub.download('a/b', tmp_path, endpoint='http://127.0.0.1:9')


def test_choice_of_weights():
  many = ['config.json', 'model-00001-of-00002.safetensors',
          'model-00002-of-00002.safetensors', 'model.safetensors.index.json',
          'pytorch_model.bin', 'tokenizer.json']  # fmt: skip
  assert hub.choose('a/b', many) == [
    'config.json', 'tokenizer.json', 'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors', 'model.safetensors.index.json',
  ]  # fmt: skip
  assert hub.choose('a/b', ['pytorch_model.bin']) == ['pytorch_model.bin']
  with pytest.raises(errors.InputError, match='a/b holds no model.safetensors'):
    hub.choose('a/b', ['config.json', 'tf_model.h5'])
