import errno
import pathlib

import pytest

from inpars_tpu import errors, files


def test_a_file_appears_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'new' / 'out.txt'
  with files.atomic_writer(path) as stream:
    stream.write(b'half')
    stream.flush()
    assert [p.name for p in path.parent.iterdir()] == ['out.txt.tmp']
    stream.write(b' and half')
  assert [p.name for p in path.parent.iterdir()] == ['out.txt']
  assert path.read_text() == 'half and half'


@pytest.mark.parametrize('reason', [ValueError, KeyboardInterrupt, SystemExit])
def test_what_is_cut_off_leaves_the_old_file(tmp_path, reason):
  path = tmp_path / 'out.txt'
  path.write_text('old')
  with pytest.raises(reason), files.atomic_writer(path) as stream:
    stream.write(b'new')
    raise reason
  assert path.read_text() == 'old'
  assert list(tmp_path.iterdir()) == [path]


def test_two_processes_write_one_file(tmp_path):
  path = tmp_path / 'out.txt'
  with files.atomic_writer(path, shared=True) as stream:
    stream.write(b'one')
    files.write_text(path, 'two', shared=True)
    assert path.read_text() == 'two'
  assert path.read_text() == 'one'
  assert list(tmp_path.iterdir()) == [path]


def test_another_process_clears_what_it_takes_for_left(tmp_path):
  path = tmp_path / 'out.txt'
  (tmp_path / 'other.tmp').touch()
  with pytest.raises(FileNotFoundError):
    with files.atomic_writer(path, shared=True):
      files.clear_temporaries(tmp_path)
  with files.atomic_writer(path, shared=True) as stream:
    stream.write(b'one')
    files.write_text(path, 'two', shared=True)
    files.clear_temporaries(tmp_path)
  assert path.read_text() == 'two'
  assert (tmp_path / 'other.tmp').exists()


def test_full_disk_names_the_file(tmp_path):
  path = tmp_path / 'out.txt'
  with pytest.raises(OSError) as caught, files.atomic_writer(path):
    raise OSError(errno.ENOSPC, 'No space left on device')
  assert caught.value.filename == str(path)
  assert list(tmp_path.iterdir()) == []


def test_json_lines_keep_their_letters(tmp_path):
  path = tmp_path / 'a.jsonl'
  records = [{'text': 'é\u2028\n'}, {'text': '\N{ROCKET}', 'n': 1}]
  assert files.write_jsonl(path, iter(records)) == 2
  assert path.read_bytes().count(b'\n') == 2
  assert 'é\u2028\\n' in path.read_text()
  assert list(files.read_jsonl(path, 'texts', ['text'])) == [
    (1, records[0]),
    (2, records[1]),
  ]


def test_write_json_is_read_back(tmp_path):
  files.write_json(tmp_path / 'a.json', {'b': [1, 0.5, None, 'é']})
  assert (tmp_path / 'a.json').read_text().startswith('{\n "b": [')
  assert files.read_json(tmp_path / 'a.json', 'a')['b'] == [1, 0.5, None, 'é']
  (tmp_path / 'b.json').write_text('{')
  with pytest.raises(errors.InputError, match=r'b\.json: not JSON: '):
    files.read_json(tmp_path / 'b.json', 'b')


def test_lines_are_numbered_as_in_the_file(tmp_path):
  path = tmp_path / 'lines'
  path.write_bytes(b'\xef\xbb\xbfone\r\n\n \t\ntwo\x0b\xc2\x85\n three')
  assert list(files.read_lines(path, 'lines')) == [
    (1, 'one'),
    (4, 'two\x0b\x85'),
    (5, ' three'),
  ]


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('{"a": "x"} {', ':2: not JSON: '),
    ('"a"', ':2: not a JSON object'),
    ('{"b": "x"}', ":2: field 'a' is missing"),
    ('{"a": 1}', ":2: field 'a' is not a string"),
  ],
)
def test_wrong_json_lines_are_said_with_their_number(tmp_path, line, message):
  path = tmp_path / 'a.jsonl'
  path.write_text(f'{{"a": "x"}}\n{line}\n')
  with pytest.raises(errors.InputError) as caught:
    list(files.read_jsonl(path, 'texts', ['a']))
  assert str(caught.value).startswith(f'{path}{message}')


def test_missing_files_say_what_they_are_for(tmp_path):
  with pytest.raises(errors.InputError, match='^no corpus at .*/nowhere$'):
    files.must_exist(tmp_path / 'nowhere', 'corpus')
  with pytest.raises(errors.InputError, match='is a folder; corpus is a file'):
    files.must_be_file(tmp_path, 'corpus')
  assert files.must_exist(tmp_path, 'work_dir') == tmp_path


def test_sha256_follows_the_content(tmp_path):
  path = tmp_path / 'a'
  path.write_text('abc')
  # The test vector of FIPS 180-2.
  assert files.sha256(path).startswith('ba7816bf8f01cfea414140de5dae2223b00361')
  path.write_text('abcd')
  assert files.sha256(path).startswith('88d4266fd4e6338d13b845fcf289579d209c89')


def test_files_below_a_folder_are_in_order(tmp_path):
  for name in ('b/2', 'b/1', 'a', 'c/d/e'):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text('')
  found = [path.relative_to(tmp_path) for path in files.list_files(tmp_path)]
  assert found == [pathlib.Path(name) for name in ('a', 'b/1', 'b/2', 'c/d/e')]
