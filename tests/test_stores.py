import os

import pytest
from etils import epath

from inpars_tpu import cli, errors, files, manifest, stores


def test_a_copy_follows_the_store(bucket):
  path = bucket / 'copy' / 'a.txt'
  files.write_text(path, 'one')
  files.write_text(path.parent / 'b' / 'c.txt', 'two')
  copy = stores.local(path)
  assert not stores.is_remote(copy) and copy.read_text() == 'one'
  before = os.stat(copy)
  assert os.stat(stores.local(path)) == before  # Not fetched again.
  files.write_text(path, 'new')
  folder = stores.local(path.parent)
  assert files.list_files(folder) == [folder / 'a.txt', folder / 'b' / 'c.txt']
  assert (folder / 'a.txt').read_text() == 'new'
  path.unlink()
  assert files.list_files(stores.local(path.parent)) == [folder / 'b/c.txt']
  with pytest.raises(FileNotFoundError):
    stores.local(path)
  assert stores.local('/tmp') == epath.Path('/tmp')


@pytest.mark.parametrize('reason', [ValueError, KeyboardInterrupt, SystemExit])
def test_what_is_cut_off_leaves_the_old_object(bucket, reason):
  path = bucket / 'cut' / 'out.txt'
  files.write_text(path, 'old')
  with pytest.raises(reason), files.atomic_writer(path) as stream:
    stream.write(b'new')
    stream.flush()
    assert path.read_text() == 'old'
    raise reason
  assert path.read_text() == 'old'
  assert list(path.parent.iterdir()) == [path]


def test_a_folder_goes_up_with_what_tells_its_end_last(bucket, monkeypatch):
  uploaded, upload = [], stores.upload
  monkeypatch.setattr(
    stores,
    'upload',
    lambda source, target: (uploaded.append(target), upload(source, target)),
  )
  folder = bucket / 'folder'
  files.write_text(folder / 'old.txt', '')
  uploaded.clear()
  with files.directory_writer(folder, last=('config.json',)) as local:
    for name in ('config.json', 'z', 'a/b'):
      files.write_text(local / name, name)
    assert uploaded == []
  assert uploaded == [f'{folder}/{n}' for n in ('a/b', 'z', 'config.json')]
  assert {path.name for path in folder.iterdir()} == {'config.json', 'z', 'a'}
  with pytest.raises(ValueError), files.directory_writer(folder) as local:
    files.write_text(local / 'z', 'half')
    raise ValueError
  assert not folder.exists()


def test_a_manifest_is_written_last_and_known_again(bucket):
  source, output = bucket / 'm' / 'in.txt', bucket / 'm' / 'out'
  files.write_text(source, 'x')
  inputs = {'source': source}
  for is_complete in (False, True):
    job = manifest.begin_directory('v', output, settings={}, inputs=inputs)
    assert job.is_complete == is_complete
    if not is_complete:
      files.write_text(output / 'part', 'y')
      assert manifest.read(output) is None
      job.finish()
  assert sorted(path.name for path in output.iterdir()) == [
    'manifest.json',
    'part',
  ]
  files.write_text(source, 'z')
  with pytest.raises(errors.InputError, match='other settings: the input'):
    manifest.begin_directory('v', output, settings={}, inputs=inputs)


def test_a_store_out_of_reach_is_one_line(bucket, capsys, monkeypatch):
  assert cli.main(['evaluate', '--qrels=gs://none/q', '--run=r']) == 2
  assert 'gs://none: no such bucket' in capsys.readouterr().err

  def open_none(_):
    raise ImportError('Please install gcsfs')

  monkeypatch.setattr('fsspec.filesystem', open_none)
  stores._file_system.cache_clear()
  try:
    assert cli.main(['sample', f'--corpus={bucket}/c', '--output=o']) == 2
  finally:
    stores._file_system.cache_clear()
  assert 'gs:// needs gcsfs' in capsys.readouterr().err


def test_no_room_names_the_copy(bucket, monkeypatch):
  path = bucket / 'room'
  files.write_text(path, 'abc')
  usage = type('Usage', (), {'free': 2})
  monkeypatch.setattr(stores.shutil, 'disk_usage', lambda _: usage)
  with pytest.raises(OSError, match='No space left') as caught:
    stores.local(path)
  assert f'a copy of {path}' in str(caught.value.filename)
