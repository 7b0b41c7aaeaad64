"""The programs of t5x, here a few lines of our own in a package of its name."""

import os
import subprocess
import sys

import pytest

from inpars_tpu import t5x_run


@pytest.fixture
def run(tmp_path):
  (tmp_path / 't5x').mkdir()
  (tmp_path / 't5x' / '__init__.py').touch()

  def start(program: str, *words: str, **options) -> subprocess.Popen:
    (tmp_path / 't5x' / 'train.py').write_text(program)
    paths = [str(tmp_path), os.getcwd()]
    return subprocess.Popen(
      [sys.executable, '-m', 'inpars_tpu.t5x_run', *words],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      env=os.environ | {'PYTHONPATH': os.pathsep.join(paths)},
      text=True,
    )

  return start


def test_runs_it_as_main_with_its_flags(run):
  process = run('import sys; print(__name__, sys.argv[1:])', 'train', '--a=1')
  assert process.communicate(timeout=60)[0] == "__main__ ['--a=1']\n"
  assert process.returncode == 0


def test_finds_the_gin_files_of_the_package(run, tmp_path):
  program = (
    'import gin, os; os.chdir("/")\n'
    'gin.parse_config_file("gin/inpars_v2.gin")\n'
    'print(gin.query_parameter("%TRAIN_STEPS"))'
  )
  assert run(program, 'train').communicate(timeout=60)[0] == '156\n'


def test_wrong_input_is_one_line_also_where_gin_wraps_it(run):
  program = (
    'from inpars_tpu import errors\n'
    'try:\n'
    '  raise errors.InputError("no such file")\n'
    'except ValueError as error:\n'
    '  raise RuntimeError("in gin") from error\n'
  )
  process = run(program, 'train')
  assert process.communicate(timeout=60)[1] == 'inpars-tpu: no such file\n'
  assert process.returncode == 2


def test_any_other_error_has_its_traceback(run):
  process = run('1 / 0', 'train')
  assert 'ZeroDivisionError' in process.communicate(timeout=60)[1]
  assert process.returncode == 1


def test_ends_when_its_parent_does(run):
  program = 'import time; print("begun", flush=True); time.sleep(600)'
  process = run(program, '--stdin_is_parent', 'train')
  assert process.stdout.readline() == 'begun\n'
  process.stdin.close()
  assert process.wait(timeout=60) == 75
  process.stdout.close()
  process.stderr.close()


def test_unknown_program(capsys):
  assert t5x_run.main(['trian']) == 2
  assert capsys.readouterr().err == (
    "inpars-tpu: unknown program of t5x 'trian'; did you mean train?\n"
  )
