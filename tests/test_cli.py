import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from inpars_tpu import cli, errors, sample, verbs


def refuse(capsys, *argv) -> str:
  """The one line that a wrong command prints; checks that it exits with 2."""
  assert cli.main(argv) == cli.WRONG_INPUT
  captured = capsys.readouterr()
  assert captured.out == ''
  assert captured.err.count('\n') == 1
  assert captured.err.startswith('inpars-tpu: ')
  return captured.err


def test_help_names_every_verb(capsys):
  assert cli.main([]) == cli.main(['--help']) == cli.DONE
  out = capsys.readouterr().out
  assert all(f'\n  {name} ' in out for name in verbs.VERBS)


@pytest.mark.parametrize('name', verbs.VERBS)
def test_help_of_a_verb_names_its_flags(capsys, name):
  assert cli.main([name, '--help']) == cli.DONE
  out = capsys.readouterr().out
  assert all(f'--{flag.name}' in out for flag in verbs.VERBS[name].flags)


def test_wrong_words(capsys):
  assert "unknown verb 'smaple'; did you mean sample?" in refuse(
    capsys, 'smaple'
  )
  assert "unknown flag 'corpsu'; did you mean corpus?" in refuse(
    capsys, 'sample', '--corpsu=x'
  )
  assert 'sample needs --output' in refuse(capsys, 'sample', '--corpus=x')
  assert "'corpus.jsonl' is not a flag" in refuse(
    capsys, 'sample', 'corpus.jsonl'
  )
  assert '--corpus is given twice' in refuse(
    capsys, 'sample', '--corpus=x', '--corpus=y', '--output=z'
  )
  assert '--corpus needs a value' in refuse(capsys, 'sample', '--corpus')
  assert '--corpus is empty' in refuse(capsys, 'sample', '--corpus=')
  assert 'unknown --engine' in refuse(capsys, 'train', '--engine=t6x')
  assert 'plan needs --dataset, --machine' in refuse(capsys, 'plan')


def test_wrong_gin(capsys):
  flags = ['sample', '--corpus=x', '--output=y']
  assert 'did you mean NUM_PAIRS' in refuse(capsys, *flags, '--gin.NUM_PAIR=1')
  assert 'no gin file at nowhere.gin' in refuse(
    capsys, *flags, '--gin_file=nowhere.gin'
  )
  assert 'RERANK_HITS must be' in refuse(capsys, *flags, '--gin.RERANK_HITS=0')


def test_missing_input_file(capsys, tmp_path):
  message = refuse(
    capsys, 'sample', f'--corpus={tmp_path}/no.jsonl', f'--output={tmp_path}/o'
  )
  assert f'no corpus at {tmp_path}/no.jsonl' in message
  assert not list(tmp_path.iterdir())


def test_flags_take_an_equals_sign_or_a_blank():
  args = cli.parse(
    'evaluate', ['--qrels', 'q', '--run=a', '--run', 'b', '--gin.SEED', '5']
  )
  assert (args.qrels, args.run, args.output) == ('q', ['a', 'b'], None)
  assert args.recipe.SEED == 5


def test_switches():
  flags = ['--documents=d', '--model=m', '--output=o']
  assert not cli.parse('generate', flags).save_prompts
  assert cli.parse('generate', [*flags, '--save_prompts']).save_prompts
  assert not cli.parse(
    'generate', [*flags, '--save_prompts=false']
  ).save_prompts
  with pytest.raises(errors.InputError, match='true or false'):
    cli.parse('generate', [*flags, '--save_prompts=maybe'])


@pytest.mark.parametrize('error,code,words', [
  (OSError(errno.ENOSPC, 'No space', 'out.jsonl'), 1, 'no space left on the'),
  (OSError(errno.EDQUOT, 'Quota', 'out.jsonl'), 1, 'on the disk: out.jsonl'),
  (MemoryError('8 GB'), 1, 'out of memory: 8 GB'),
  (RuntimeError('RESOURCE_EXHAUSTED: 9 GB\nmore'), 1, 'GENERATOR_BATCH_SIZE'),
  (KeyboardInterrupt(), 75, 'give the same command again'),
  (FileNotFoundError(2, 'No such file', 'x'), 2, 'No such file: x'),
])  # fmt: skip
def test_failures_of_the_machine_are_one_line(
  monkeypatch, capsys, error, code, words
):
  def fail(args):
    raise error

  monkeypatch.setattr(sample, 'main', fail)
  assert cli.main(['sample', '--corpus=x', '--output=y']) == code
  captured = capsys.readouterr()
  assert captured.err.count('\n') == 1
  assert words in captured.err


def test_a_bug_is_not_hidden(monkeypatch):
  def fail(args):
    raise ValueError('a bug')

  monkeypatch.setattr(sample, 'main', fail)
  with pytest.raises(ValueError, match='a bug'):
    cli.main(['sample', '--corpus=x', '--output=y'])


LOADED = """
import sys, json
from inpars_tpu import cli
code = cli.main(sys.argv[1:])
heavy = ['jax', 'tensorflow', 'torch', 'jnius', 'seqio', 'flax']
print(json.dumps([name for name in heavy if name in sys.modules]))
sys.exit(code)
"""


def loaded_by(*argv) -> list[str]:
  """Heavy modules that a command imports, in a process of its own."""
  done = subprocess.run(
    [sys.executable, '-c', LOADED, *argv], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


INTERRUPTED_IN_A_CALLBACK = """
import gc, os, signal, sys, time
from inpars_tpu import cli, sample

number = int(sys.argv.pop())

def interrupt(phase, info):
  gc.callbacks.remove(interrupt)
  os.kill(os.getpid(), number)

def main(args):
  gc.callbacks.append(interrupt)
  gc.collect()
  time.sleep(5)

sample.main = main
cli.run_and_exit()
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signal_in_a_callback_is_not_lost(number):
  done = subprocess.run(
    [
      sys.executable, '-c', INTERRUPTED_IN_A_CALLBACK,
      'sample', '--corpus=x', '--output=y', str(number.value),
    ],
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == cli.INTERRUPTED
  assert done.stderr.startswith('inpars-tpu: interrupted')


def test_help_and_evaluate_import_nothing_heavy(tmp_path):
  (tmp_path / 'test.tsv').write_text('query-id\tcorpus-id\tscore\nq1\td1\t1\n')
  (tmp_path / 'bm25.trec').write_text('q1 Q0 d1 1 2.0 bm25\n')
  assert loaded_by('--help') == []
  assert loaded_by('run', '--help') == []
  assert loaded_by(
    'evaluate', f'--qrels={tmp_path}/test.tsv', f'--run={tmp_path}/bm25.trec'
  ) == []  # fmt: skip


def test_python_m_is_the_same_program():
  done = subprocess.run(
    [sys.executable, '-m', 'inpars_tpu', '--version'],
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stdout) == (0, '0.1.0\n')


def test_compiled_programs_are_kept_where_there_is_a_home(
  tmp_path, monkeypatch
):
  for name in ('DIR', 'MIN_COMPILE_TIME_SECS'):
    monkeypatch.delenv(f'JAX_COMPILATION_CACHE_{name}', raising=False)
    monkeypatch.delenv(f'JAX_PERSISTENT_CACHE_{name}', raising=False)
  (tmp_path / 'file').touch()
  monkeypatch.setenv('HOME', str(tmp_path / 'file'))
  cli._keep_compiled_programs()
  assert 'JAX_COMPILATION_CACHE_DIR' not in os.environ
  monkeypatch.setenv('HOME', str(tmp_path))
  cli._keep_compiled_programs()
  kept = pathlib.Path(os.environ['JAX_COMPILATION_CACHE_DIR'])
  assert kept.is_dir()
  assert kept.is_relative_to(tmp_path / '.cache' / 'inpars_tpu')
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
  monkeypatch.delenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS')


def test_a_signal_after_the_end_changes_no_code():
  """It comes while Python takes itself apart, after all exit handlers."""
  program = """
import os, signal
from inpars_tpu import cli
class Late:
  def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGTERM):
    kill(pid, number)
cli.late = Late()
cli.run_and_exit()
"""
  done = subprocess.run([sys.executable, '-c', program, '--version'])
  assert done.returncode == cli.DONE
