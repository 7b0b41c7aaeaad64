import importlib.metadata
import json
import sys

import ftfy
import pytest

from inpars_tpu import errors, manifest


def begin(tmp_path, **settings):
  return manifest.begin_file(
    'sample',
    tmp_path / 'out.txt',
    settings=settings,
    inputs={'corpus': tmp_path / 'in.txt'},
  )


@pytest.fixture
def made(tmp_path):
  """A finished output of in.txt with SEED = 1."""
  (tmp_path / 'in.txt').write_text('input')
  job = begin(tmp_path, SEED=1)
  assert not job.is_complete
  (tmp_path / 'out.txt').write_text('output')
  job.finish(counts={'in': 3, 'out': 2})
  return tmp_path


def test_manifest_says_what_made_the_output(made):
  record = json.loads((made / 'out.txt.manifest.json').read_text())
  assert record['command'] == 'sample'
  assert record['settings'] == {'SEED': 1}
  assert record['inputs']['corpus']['size'] == 5
  # printf input | sha256sum
  assert record['inputs']['corpus']['sha256'].startswith('c96c6d5be8d08a12e7b5')
  assert record['counts'] == {'in': 3, 'out': 2}
  assert record['seconds'] >= 0


def test_same_call_again_is_complete(made):
  assert begin(made, SEED=1).is_complete


def test_output_without_manifest_is_not_complete(made):
  (made / 'out.txt.manifest.json').unlink()
  assert not begin(made, SEED=1).is_complete


def test_manifest_without_output_is_not_complete(made):
  (made / 'out.txt').unlink()
  assert not begin(made, SEED=1).is_complete


@pytest.mark.parametrize(
  'change,words',
  [
    ({'SEED': 2}, 'SEED = 1 there and 2 now'),
    ({'SEED': 1, 'NEW': 5}, 'NEW = None there and 5 now'),
  ],
)
def test_other_settings_are_named(made, change, words):
  with pytest.raises(errors.InputError, match=words):
    begin(made, **change)


def test_changed_input_is_named(made):
  (made / 'in.txt').write_text('other input')
  with pytest.raises(errors.InputError, match='the input corpus = '):
    begin(made, SEED=1)


def test_changed_output_is_refused(made):
  (made / 'out.txt').write_text('somebody else')
  with pytest.raises(errors.InputError, match='was changed after'):
    begin(made, SEED=1)


def test_moved_input_is_the_same_input(made):
  (made / 'in.txt').rename(made / 'moved.txt')
  job = manifest.begin_file(
    'sample',
    made / 'out.txt',
    settings={'SEED': 1},
    inputs={'corpus': made / 'moved.txt'},
  )
  assert job.is_complete


def test_output_that_is_its_own_input(made):
  with pytest.raises(errors.InputError, match='is also the input corpus'):
    manifest.begin_file(
      'sample',
      made / 'in.txt',
      settings={},
      inputs={'corpus': made / 'in.txt'},
    )


def begin_folder(tmp_path, seed=1, shared=False):
  return manifest.begin_directory(
    'generate',
    tmp_path / 'folder',
    settings={'SEED': seed},
    inputs={},
    shared=shared,
  )


def test_directory_resumes_only_what_it_began(tmp_path):
  begin_folder(tmp_path)
  (tmp_path / 'folder' / 'part').write_text('x')
  assert not begin_folder(tmp_path).is_complete
  with pytest.raises(errors.InputError, match='SEED = 1 there and 2 now'):
    begin_folder(tmp_path, seed=2)
  begin_folder(tmp_path).finish()
  assert sorted(p.name for p in (tmp_path / 'folder').iterdir()) == [
    'manifest.json',
    'part',
  ]
  assert begin_folder(tmp_path).is_complete


def test_folder_of_others_is_not_filled_unless_shared(tmp_path):
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'folder' / 'thesis.tex').write_text('x')
  with pytest.raises(errors.InputError, match='holds files that no inpars-tpu'):
    begin_folder(tmp_path)
  assert not (tmp_path / 'folder' / 'manifest.partial.json').exists()
  assert not begin_folder(tmp_path, shared=True).is_complete


def test_parts_go_when_the_output_is_finished(made):
  (made / 'out.txt').unlink()
  job = begin(made, SEED=1)
  (job.parts_dir() / 'part-0').write_text('x')
  with pytest.raises(errors.InputError, match='SEED = 1 there and 2 now'):
    begin(made, SEED=2).parts_dir()
  (made / 'out.txt').write_text('output')
  begin(made, SEED=1)
  job.finish()
  assert not (made / 'out.txt.parts').exists()


def test_digest_of_a_folder_leaves_manifests_out(tmp_path):
  (tmp_path / 'a').mkdir()
  (tmp_path / 'a' / 'x').write_text('1')
  before = manifest.digest(tmp_path / 'a')
  (tmp_path / 'a' / 'manifest.json').write_text('{"command": "init"}')
  assert manifest.digest(tmp_path / 'a') == before
  (tmp_path / 'a' / 'y').write_text('1')
  assert manifest.digest(tmp_path / 'a') != before


def test_killed_while_the_marker_was_written(tmp_path):
  (tmp_path / 'folder').mkdir()
  left = f'manifest.partial.json.{"0a" * 16}.tmp'
  (tmp_path / 'folder' / left).write_text('{"comm')
  job = begin_folder(tmp_path)
  assert not job.is_complete
  assert sorted(p.name for p in (tmp_path / 'folder').iterdir()) == [
    'manifest.partial.json', left
  ]  # fmt: skip
  job.finish()
  assert [p.name for p in (tmp_path / 'folder').iterdir()] == ['manifest.json']


def test_another_process_ends_it_while_this_one_begins(tmp_path, monkeypatch):
  begin_marker = manifest._begin_directory

  def be_late(directory, *args, **kwargs):
    monkeypatch.undo()
    other = begin_folder(tmp_path)
    (directory / 'shard').write_text('done')
    other.finish()
    begin_marker(directory, *args, **kwargs)

  monkeypatch.setattr(manifest, '_begin_directory', be_late)
  assert begin_folder(tmp_path).is_complete


def test_killed_between_manifest_and_clean_up(made):
  (made / 'out.txt.parts').mkdir()
  assert begin(made, SEED=1).is_complete
  assert not (made / 'out.txt.parts').exists()


def test_versions_do_not_depend_on_what_is_loaded(monkeypatch):
  before = manifest._versions()
  assert before['ftfy'] == ftfy.__version__
  assert before['numpy'] == importlib.metadata.version('numpy')
  monkeypatch.delitem(sys.modules, 'ftfy')
  assert manifest._versions() == before
