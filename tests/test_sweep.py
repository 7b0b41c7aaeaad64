"""A sweep of six tiny runs, whole and interrupted; what its file may say."""

import contextlib
import fcntl
import json
import logging
import pathlib
import threading

import jax
import pytest
import yaml
from jax.experimental.compilation_cache import compilation_cache

from inpars_tpu import cli, errors, recipe
from launch import sweep, sweep_plan, sweep_share
from tests import tiny_models

ROOT = pathlib.Path(__file__).parent.parent
# What all runs have in common: little of everything.
TINY = {
  'PROMPT': "'gbq'", 'NUM_DOCUMENTS': '12', 'MAX_NEW_TOKENS': '16',
  'GENERATOR_DTYPE': "'float32'", 'MIN_QUERY_TOKENS': '1', 'NUM_PAIRS': '4',
  'MAX_INPUT_TOKENS': '64', 'RERANKER_DTYPE': "'float32'", 'TRAIN_STEPS': '2',
  'TRAIN_BATCH_SIZE': '4', 'TRAIN_DTYPE': "'float32'", 'RERANK_HITS': '3',
  'FIRST_STAGE_HITS': '5', 'NEGATIVE_HITS': '9', 'LENGTH_BUCKETS': 'False',
}  # fmt: skip
FLAGS = ['--generator=g', '--reranker=r', '--data_dir=data']


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sweep')
  tiny_models.write(folder, num_things=12)  # All are drawn: equal shapes.
  return folder


@pytest.fixture
def programs_are_kept(tmp_path):
  """Six runs compile the same programs; `inpars-tpu` keeps them on disk."""
  names = ('jax_compilation_cache_dir',
           'jax_persistent_cache_min_compile_time_secs')  # fmt: skip
  before = {name: getattr(jax.config, name) for name in names}
  compilation_cache.reset_cache()
  jax.config.update(names[0], str(tmp_path / 'programs'))
  jax.config.update(names[1], 0)
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def write(tmp_path, **content):
  path = tmp_path / 'mine.yaml'
  path.write_text(yaml.safe_dump({'datasets': ['world']} | content))
  return path


class InProcess:
  """Runs command lines here, and fails as asked; imports are paid once."""

  def __init__(self, stop_at=None, fail=()):
    self.names = []
    self.stop_at = stop_at
    self.fail = fail

  def __call__(self, words, log_path):
    self.names.append(log_path.parent.parent.name + log_path.parent.name)
    if len(self.names) - 1 == self.stop_at:
      raise KeyboardInterrupt
    with log_path.open('w') as log, contextlib.redirect_stdout(log):
      with contextlib.redirect_stderr(log):
        if self.names[-1] in self.fail:
          print('inpars-tpu: it broke')
          return 1
        try:
          return cli.main(words)
        finally:  # Its log is this file.
          logging.getLogger('inpars_tpu').handlers = []


def call(place, tmp_path, path, execute):
  return sweep.main(
    [
      f'--sweep={path}', f'--work_dir={tmp_path}/work',
      f'--data_dir={place}/data', f'--generator={place}/models/gptj',
      f'--reranker={place}/models/monot5',
      *(f'--gin.{name}={value}' for name, value in TINY.items()),
    ],
    execute,
  )  # fmt: skip


def test_six_runs_end_in_one_table_and_none_is_repeated(
  place, tmp_path, capsys, programs_are_kept
):
  filters = ['reranker', 'log_probs', 'none']
  path = write(tmp_path, seeds=[1, 2], gin={'FILTER_BY': filters})
  first = InProcess(stop_at=2)
  assert call(place, tmp_path, path, first) == cli.INTERRUPTED
  second = InProcess(fail=['FILTER_BY=rerankerseed2'])
  assert call(place, tmp_path, path, second) == cli.FAILED
  third = InProcess()
  assert call(place, tmp_path, path, third) == cli.DONE
  names = [f'FILTER_BY={name}' for name in filters]
  assert first.names == [f'{name}seed1' for name in names]
  assert second.names == [
    f'{names[2]}seed1', *(f'{name}seed2' for name in names),
  ]  # fmt: skip
  assert third.names == [f'{names[0]}seed2']

  work = tmp_path / 'work'
  out = capsys.readouterr().out
  log = work / names[0] / 'seed2' / 'world.log'
  assert f'failed: {names[0]}/seed2/world: exit code 1, {log}: inpars' in out
  assert '6 runs, 5 of them done' in out
  table = out[out.rindex('dataset ') :].splitlines()
  assert table[0].split('  ')[0] == 'dataset'
  assert [line.split()[:3] for line in table[1:4]] == [
    ['world', name, '2'] for name in names
  ]
  assert all(line.count('±') == 3 for line in table[1:4])
  assert table[4] == str(work / 'sweep.html')
  page = (work / 'sweep.md').read_text()
  assert f'({names[1]}/report.html)' in page
  assert (work / names[1] / 'report.html').exists()

  # GPT-J wrote each seed's queries once, and each filter kept others.
  for seed in ('seed1', 'seed2'):
    folders = [work / name / seed / 'world' for name in names]
    shared = {(f / 'queries' / 'manifest.json').stat().st_ino for f in folders}
    assert len(shared) == 1
    kept = {(f / 'filtered.jsonl').read_bytes() for f in folders}
    assert len(kept) == 3


def test_a_process_of_this_machine_has_its_log(tmp_path):
  log = tmp_path / 'base' / 'seed1' / 'x.log'
  assert sweep.run_here(['datasets'], log) == cli.DONE
  assert sweep.run_here(['smaple'], log) == cli.WRONG_INPUT
  assert 'scifact' in log.read_text()
  assert log.read_text().endswith('did you mean sample?\n')


def test_process_of_a_killed_sweep_is_waited_for(tmp_path):
  log = tmp_path / 'x.log'
  ended = threading.Event()

  def run():
    assert sweep.run_here(['--version'], log) == cli.DONE
    ended.set()

  with log.open('ab') as held:
    fcntl.flock(held, fcntl.LOCK_EX)  # As its process does.
    thread = threading.Thread(target=run)
    thread.start()
    assert not ended.wait(0.2)
    assert log.read_text() == ''
  assert ended.wait(60)
  thread.join()


def plan(tmp_path, content, *flags):
  path = tmp_path / 'mine.yaml'
  path.write_text(content)
  return sweep_plan.load(str(path), 'work', [*FLAGS, *flags])


def test_names_do_not_depend_on_the_files_order(tmp_path):
  runs = plan(
    tmp_path,
    'datasets: [scifact, data/mine/]\n'
    'gin: {NUM_PAIRS: [1_000, 5], LEARNING_RATE: [1e-3]}\n',
  )
  assert [run.name for run in runs] == [
    'LEARNING_RATE=0.001+NUM_PAIRS=1000/seed1/scifact',
    'LEARNING_RATE=0.001+NUM_PAIRS=5/seed1/scifact',
    'LEARNING_RATE=0.001+NUM_PAIRS=1000/seed1/mine',
    'LEARNING_RATE=0.001+NUM_PAIRS=5/seed1/mine',
  ]
  assert runs[0].words == [
    'run', '--dataset=scifact',
    '--work_dir=work/LEARNING_RATE=0.001+NUM_PAIRS=1000/seed1', *FLAGS,
    '--gin.LEARNING_RATE=1e-3', '--gin.NUM_PAIRS=1000',
  ]  # fmt: skip
  assert runs[0].recipe.LEARNING_RATE == 1e-3


def test_settings_by_name_and_texts(tmp_path):
  runs = plan(
    tmp_path,
    'datasets: [scifact]\nseeds: [7]\n'
    "settings:\n  v1: {PROMPT: vanilla, FILTER_BY: log_probs}\n"
    '  list: {LOSS: rankt5, NUM_NEGATIVES: 7}\ngin: {SCAN_LAYERS: [null]}\n',
  )  # fmt: skip
  assert [run.name for run in runs] == [
    'v1+SCAN_LAYERS=None/seed7/scifact', 'list+SCAN_LAYERS=None/seed7/scifact'
  ]  # fmt: skip
  assert (runs[0].recipe.PROMPT, runs[1].recipe.LOSS) == ('vanilla', 'rankt5')
  assert runs[0].recipe.SEED == 7


def test_without_numbers_it_is_called_base(tmp_path):
  (run,) = plan(tmp_path, 'datasets: [scifact]\n', '--gin.SEED=3')
  assert run.name == 'base/seed3/scifact'


@pytest.mark.parametrize('content,words', [
  ('datsets: [a]', "unknown key in mine.yaml 'datsets'; did you mean datasets"),
  ('seeds: [1]', 'datasets must be a list of names'),
  ('datasets: []', 'datasets must be a list of names'),
  ('datasets: [a]\nseeds: [one]', 'seeds must be a list of integers'),
  ('datasets: [a]\ngin: {LERNING_RATE: [1]}', 'did you mean LEARNING_RATE'),
  ('datasets: [a]\ngin: {NUM_PAIRS: 5}', 'NUM_PAIRS must be a list'),
  ('datasets: [a]\ngin: {NUM_PAIRS: [x]}', "NUM_PAIRS must be an integer"),
  ('datasets: [a]\ngin: [NUM_PAIRS]', 'gin must be a mapping'),
  ('datasets: [a]\nsettings: {s: {NUM: 1}}', "unknown gin name in mine.yaml"),
  ('datasets: [a]\nseeds: [1]\ngin: {SEED: [1]}', 'SEED is in gin, and there'),
  ('datasets: [a]\ngin: {NUM_PAIRS: [1]}\nsettings: {s: {NUM_PAIRS: 1}}',
   'NUM_PAIRS is in gin and in s'),
  ('datasets: [a, a]', 'two runs are called base/seed1/a'),
  ('datasets: [x/a, y/a]', 'two runs are called base/seed1/a'),
  ('datasets: [a]\ngin: {LEARNING_RATE: [1e-3, 0.001]}',
   'two runs are called LEARNING_RATE=0.001/seed1/a'),
  ('datasets: [a]\ndatasets: [b]', 'datasets stands twice'),
  ('datasets: [a', 'mine.yaml: not YAML: '),
  ('a', 'a mapping with datasets'),
])  # fmt: skip
def test_wrong_file_is_refused_before_anything_starts(
  tmp_path, monkeypatch, capsys, content, words
):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('mine.yaml').write_text(content)
  execute = InProcess()
  argv = ['--sweep=mine.yaml', '--work_dir=work', *FLAGS]
  assert sweep.main(argv, execute) == cli.WRONG_INPUT
  captured = capsys.readouterr()
  assert captured.err.count('\n') == 1
  assert captured.err.startswith('sweep: ')
  assert words in captured.err
  assert (execute.names, captured.out) == ([], '')
  assert not pathlib.Path('work').exists()


@pytest.mark.parametrize('flags,words', [
  (['--sweep=mine.yaml'], 'sweep needs --sweep=FILE and --work_dir'),
  (['--sweep=no.yaml', '--work_dir=w'], 'no sweep at no.yaml'),
  (['--sweep=mine.yaml', '--work_dir=w', '--dataset=x'], 'mine.yaml says it'),
  (['--sweep=mine.yaml', '--work_dir=w', '--gin.NUM_PAIRS=1'], 'says it'),
  (['--sweep=mine.yaml', '--work_dir=w', '--langage=de'], 'language'),
  (['--sweep=mine.yaml', '--work_dir=w', *FLAGS], "unknown dataset 'nowhere'"),
  (['--sweep=mine.yaml', '--work_dir=w', *FLAGS, '--tpus=a', '--zone=z',
    '--type=v3-8'], 'with --tpus it must be on gs://'),
])  # fmt: skip
def test_wrong_flags(tmp_path, monkeypatch, capsys, flags, words):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('mine.yaml').write_text(
    'datasets: [nowhere]\ngin: {NUM_PAIRS: [1, 2]}\n'
  )
  assert sweep.main(flags, InProcess()) == cli.WRONG_INPUT
  assert words in capsys.readouterr().err


@pytest.mark.parametrize(
  'path', sorted((ROOT / 'launch/sweeps').glob('*.yaml'))
)
def test_sweeps_that_ship(path):
  runs = sweep_plan.load(str(path), 'work', FLAGS)
  counts = {'beir': 14, 'learning_rate': 18, 'filters': 27, 'num_pairs': 36}
  assert len(runs) == counts[path.stem]


def make_turns(tmp_path, content):
  return sweep.Turns(plan(tmp_path, content))


def test_first_run_of_a_seed_goes_alone(tmp_path):
  turns = make_turns(
    tmp_path, 'datasets: [a]\nseeds: [1, 2]\ngin: {NUM_PAIRS: [1, 2, 3]}\n'
  )
  first, second = turns.take(), turns.take()
  assert (first.seed, second.seed) == (1, 2)  # Not seed 1 again.
  taken = []
  thread = threading.Thread(target=lambda: taken.append(turns.take()))
  thread.start()
  thread.join(0.05)
  assert thread.is_alive()
  turns.end(second)
  thread.join(5)
  assert [run.seed for run in taken] == [2]
  assert turns.take().seed == 2  # Two at once, now that one has ended.
  turns.end(first)
  assert [turns.take().seed, turns.take().seed, turns.take()] == [1, 1, None]


def put(folder, name, settings, inputs=(), text='x'):
  """An output with its manifest; of a folder's name a folder."""
  path = folder / name
  record = {
    'command': 'x', 'settings': settings, 'sha256': text,
    'inputs': {key: {'sha256': value} for key, value in dict(inputs).items()},
  }  # fmt: skip
  if '.' in name:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path = path.with_name(f'{name}.manifest.json')
  else:
    (path / 'below').mkdir(parents=True)
    (path / 'below' / 'file').write_text(text)
    path = path / 'manifest.json'
  path.write_text(json.dumps(record))


def test_borrows_only_what_it_would_make_itself(tmp_path):
  import hashlib

  sha = hashlib.sha256(b'x').hexdigest()
  other, mine = tmp_path / 'other' / 'd', tmp_path / 'mine' / 'd'
  settings = {'SEED': 1, 'NUM_DOCUMENTS': 5, 'MIN_DOCUMENT_CHARS': 0}
  put(other, 'documents.jsonl', settings)
  put(other, 'queries', {'PROMPT': 'gbq'}, {'documents': sha, 'model': 'm'})
  put(other, 'index', {'language': 'en'})
  put(other, 'bm25.trec', {'BM25_K1': 0.5}, {'index': 'another'})
  borrow = sweep_share.borrow
  other_seed = recipe.load([], {'SEED': '2', 'PROMPT': "'gbq'"})
  assert borrow(mine, other_seed, [other, mine]) == ['index']
  same = recipe.load([], {'NUM_DOCUMENTS': '5', 'PROMPT': "'gbq'"})
  assert borrow(mine, same, [other]) == ['documents.jsonl', 'queries']
  assert borrow(mine, same, [other]) == []
  assert (mine / 'queries' / 'below' / 'file').read_text() == 'x'
  assert not list(mine.glob('*.taking'))
  (other / 'queries' / 'below' / 'file').unlink()  # It is there by itself.
  assert (mine / 'queries' / 'below' / 'file').exists()


def test_what_was_being_taken_is_taken_again(tmp_path):
  other, mine = tmp_path / 'other' / 'd', tmp_path / 'mine' / 'd'
  put(other, 'index', {})
  (mine / 'index').mkdir(parents=True)
  (mine / 'index.taking').write_text('')
  assert sweep_share.borrow(mine, recipe.load(), [other]) == ['index']
  (mine / 'index' / 'manifest.json').unlink()
  assert sweep_share.borrow(mine, recipe.load(), [other]) == []  # Work.


def test_unknown_value_of_yaml(tmp_path):
  with pytest.raises(errors.InputError, match='could not determine'):
    plan(tmp_path, 'datasets: !!python/name:os.system\n')
