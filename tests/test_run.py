"""The whole loop on a small world, undisturbed and killed at every stage."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from inpars_tpu import cli, errors, files, recipe, run, stores, trec
from inpars_tpu.demo import world
from tests import store, world_models

BINDINGS = {
  'PROMPT': "'gbq'",
  'NUM_DOCUMENTS': '24',
  'MAX_NEW_TOKENS': '16',
  'GENERATOR_DTYPE': "'float32'",
  'MIN_QUERY_TOKENS': '1',
  'NUM_PAIRS': '16',
  'MAX_INPUT_TOKENS': '64',
  'RERANKER_DTYPE': "'float32'",
  'TRAIN_STEPS': '3',
  'TRAIN_BATCH_SIZE': '4',
  'TRAIN_DTYPE': "'float32'",
  'CHECKPOINT_STEPS': '1',
  'RERANK_HITS': '4',
}
# Every file of the design's data flow, in the order in which it is made.
FILES = (
  'documents.jsonl',
  'queries/queries-00000-of-00001.jsonl',
  'filtered.jsonl',
  'validation.jsonl',
  'pairs/inpars_world/1.0.0/dataset_info.json',
  'model/model.safetensors',
  'metrics.jsonl',
  'bm25.trec',
  'reranked_base.trec',
  'reranked.trec',
  'metrics.json',
  'plan.json',
  'report.html',
  'report.md',
)
# What appears when a stage has begun: the run is killed there. At random
# moments it is by benchmarks/kills.py.
BEGUN = (
  'queries/manifest.partial.json',
  'filtered.jsonl.parts',
  'index/manifest.partial.json',
  'pairs/manifest.partial.json',
  'metrics.jsonl',
  'checkpoints/2',
  'reranked_base.trec.parts',
)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A folder with the world in data/world and both models."""
  folder = tmp_path_factory.mktemp('run')
  world.write(folder / 'data' / 'world', 1, num_things=240, num_questions=40)
  world_models.make(folder / 'demo')
  return folder


def plan(place, work_dir='demo', **changes) -> run.Plan:
  bindings = BINDINGS | changes.pop('gin', {})
  fields = {
    'dataset': 'world',
    'data_dir': place / 'data',
    'work_dir': place / work_dir,
    'generator': place / 'demo' / 'models' / 'gptj',
    'reranker': place / 'demo' / 'models' / 'monot5',
    'recipe': recipe.load([], bindings),
  }
  return run.Plan(**(fields | changes))


@pytest.fixture(scope='module')
def done(place):
  """The dataset's folder after an undisturbed run."""
  run.run(plan(place))
  return place / 'demo' / 'world'


def outputs(folder: pathlib.Path) -> dict[str, bytes]:
  """Everything that must have equal bytes, by its relative path."""
  kept = (
    'documents',
    'filtered',
    'validation',
    'queries/',
    'pairs/',
    'metrics',
  )
  found = {}
  for path in sorted(folder.rglob('*')):
    name = path.relative_to(folder).as_posix()
    is_kept = name.startswith(kept) or name.endswith('.trec')
    if path.is_file() and is_kept and 'manifest' not in name:
      found[name] = path.read_bytes()
  weights = folder / 'model' / 'model.safetensors'
  return found | {'model': weights.read_bytes()}


def test_writes_every_file_of_the_design(done):
  missing = [name for name in FILES if not (done / name).exists()]
  assert missing == []
  assert not list(done.rglob('*.tmp')) + list(done.rglob('*.parts'))
  assert not list(done.rglob('*partial*'))


def test_report_sets_the_plan_beside_what_was_measured(done):
  table = (done / 'report.md').read_text().partition('Planned and measured')[2]
  plan = json.loads((done / 'plan.json').read_text())
  assert plan['stages']['generate']['flops'] > 1e8
  # A CPU's speed is nobody's to know.
  assert plan['stages']['generate']['seconds'] is None
  for verb in ('generate', 'filter', 'train', 'rerank before', 'rerank after'):
    assert f'| {verb} |' in table


def test_first_stage_is_deeper_than_the_reranking(done):
  first = trec.read_run(done / 'bm25.trec')
  after = trec.read_run(done / 'reranked.trec')
  assert set(first) == set(after)
  for query_id, ranking in first.items():
    assert len(ranking) > 4
    ids = [doc_id for doc_id, _ in ranking]
    reranked = [doc_id for doc_id, _ in after[query_id]]
    assert sorted(reranked[:4]) == sorted(ids[:4])
    assert reranked[4:] == ids[4:]


def test_metrics_name_the_three_runs(done):
  metrics = json.loads((done / 'metrics.json').read_text())
  assert list(metrics) == ['bm25', 'reranked_base', 'reranked']
  assert set(metrics['bm25']) == {'nDCG@10', 'R@100', 'R@1000', 'MRR@10', 'MAP'}
  for name in ('reranked_base', 'reranked'):
    assert metrics[name]['versus']['baseline'] == 'bm25'


def test_second_call_changes_nothing_and_says_so(place, done, capsys, caplog):
  times = {p: p.stat().st_mtime_ns for p in done.rglob('*') if p.is_file()}
  with caplog.at_level('INFO', 'inpars_tpu'):
    run.run(plan(place))
  assert f'all of {done} is complete' in caplog.text
  assert times == {p: p.stat().st_mtime_ns for p in done.rglob('*')
                   if p.is_file()}  # fmt: skip
  out = capsys.readouterr().out
  assert 'random, untrained weights' in out
  assert out.splitlines()[-1] == str(done / 'report.html')


def test_other_settings_are_named(place, done):
  with pytest.raises(errors.InputError, match='NUM_PAIRS = 16 there and 8 now'):
    run.run(plan(place, gin={'NUM_PAIRS': '8'}))


def test_without_qrels_ends_with_the_reranker(place, tmp_path, capsys):
  folder = tmp_path / 'mine'
  folder.mkdir()
  corpus = (place / 'data' / 'world' / 'corpus.jsonl').read_text()
  (folder / 'corpus.jsonl').write_text(corpus)
  run.run(plan(place, dataset=str(folder), work_dir=tmp_path / 'work'))
  work = tmp_path / 'work' / 'mine'
  assert (work / 'model' / 'config.json').exists()
  assert (work / 'report.html').exists()
  assert not (work / 'bm25.trec').exists()
  out = capsys.readouterr().out
  assert 'nothing to evaluate' in out
  assert f'the reranker is {work / "model"}' in out


def test_first_stage_run_of_others(place, done, tmp_path):
  mine = tmp_path / 'dense.trec'
  lines = (done / 'bm25.trec').read_text().splitlines(keepends=True)
  mine.write_text(''.join(line for line in lines if line.split()[3] < '4'))
  run.run(plan(place, work_dir=tmp_path / 'work', first_stage_run=mine))
  work = tmp_path / 'work' / 'world'
  metrics = json.loads((work / 'metrics.json').read_text())
  assert list(metrics) == ['dense', 'reranked_base', 'reranked']
  assert not (work / 'bm25.trec').exists()


@pytest.mark.parametrize('changes,words', [
  ({'dataset': 'wurld'}, "unknown dataset 'wurld'"),
  ({'dataset': 'scifact'}, 'inpars-tpu download --dataset=scifact'),
  ({'dataset': 'bioasq'}, 'register at participants-area.bioasq.org'),
  ({'dataset': 'no/where'}, 'no dataset folder at no/where'),
  ({'generator': 'monot5'}, "is a 't5' model; the generator needs gptj"),
  ({'reranker': 'gptj'}, "is a 'gptj' model"),
  ({'gin': {'PROMPT': "'paper_gbq'"}}, 'InPars (commit 9865521) there'),
  ({'gin': {'TRAIN_BATCH_SIZE': '5'}}, 'TRAIN_BATCH_SIZE'),
  ({'engine': 't5x'}, 't5x'),
  ({'language': 'xx'}, "'xx'"),
])  # fmt: skip
def test_wrong_input_is_found_before_anything_is_written(
  place, tmp_path, changes, words
):
  for name in ('generator', 'reranker'):
    if name in changes:
      changes = changes | {name: place / 'demo' / 'models' / changes[name]}
  with pytest.raises(errors.InputError) as caught:
    run.run(plan(place, work_dir=tmp_path / 'work', **changes))
  assert words in str(caught.value)
  assert not (tmp_path / 'work').exists()


def command(place, work_dir) -> list[str]:
  bindings = [f'--gin.{name}={value}' for name, value in BINDINGS.items()]
  return [
    sys.executable, '-m', 'inpars_tpu', 'run', '--dataset=world',
    f'--data_dir={place}/data', f'--work_dir={work_dir}',
    f'--generator={place}/demo/models/gptj',
    f'--reranker={place}/demo/models/monot5', *bindings,
  ]  # fmt: skip


def test_killed_at_every_stage_ends_in_equal_bytes(place, done, tmp_path):
  work = tmp_path / 'work' / 'world'
  killed = []
  for begun in BEGUN:
    process = subprocess.Popen(
      command(place, tmp_path / 'work'),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      env=dict(os.environ),
    )
    while not (work / begun).exists() and process.poll() is None:
      time.sleep(0.002)
    number = (signal.SIGKILL, signal.SIGTERM)[len(killed) % 2]
    if process.poll() is None:
      process.send_signal(number)
      killed.append(begun)
    stderr = process.communicate()[1].decode()
    wanted = cli.INTERRUPTED if number == signal.SIGTERM else -number
    assert process.returncode in (wanted, cli.DONE), stderr
  assert len(killed) > 3
  last = subprocess.run(
    command(place, tmp_path / 'work'), capture_output=True, text=True
  )
  assert last.returncode == cli.DONE, last.stderr
  got, expected = outputs(work), outputs(done)
  assert list(got) == list(expected)
  assert [name for name in got if got[name] != expected[name]] == []


def test_two_processes_run_it_together(place, done, tmp_path):
  address = f'127.0.0.1:{store.free_port()}'
  started = [
    subprocess.Popen(
      [*command(place, tmp_path), f'--process_id={i}', '--num_processes=2',
       f'--coordinator_address={address}'],
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    )
    for i in range(2)
  ]  # fmt: skip
  said = [process.communicate(timeout=500) for process in started]
  assert [process.returncode for process in started] == [0, 0], said
  for verb in ('generate', 'filter', 'rerank'):
    assert f'{verb} (process 0 of 2)' in said[0][1]
    assert 'wrote' not in said[1][1]  # The first one writes what is whole.
  assert 'run: index' in said[1][1] and 'nDCG@10' not in said[1][0]
  got, expected = outputs(tmp_path / 'world'), outputs(done)
  assert list(got) == list(expected)
  unlike = {name for name in got if got[name] != expected[name]}
  # A gradient is added up in another order.
  assert unlike <= {'metrics.jsonl', 'model', 'reranked.trec', 'metrics.json',
                    'metrics.per_query.json'}  # fmt: skip
  losses = [
    [json.loads(line)['loss'] for line in found['metrics.jsonl'].splitlines()]
    for found in (got, expected)
  ]
  assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_in_a_store_it_is_the_same(place, done, bucket):
  for name in ('data', 'demo/models'):
    for file in files.list_files(place / name):
      files.copy(file, bucket / 'run' / name / file.relative_to(place / name))
  for _ in range(2):  # Made, and then found complete.
    run.run(
      plan(
        bucket / 'run',
        data_dir=bucket / 'run' / 'data',
        work_dir=bucket / 'run' / 'work',
      )
    )
  got = outputs(pathlib.Path(stores.local(bucket / 'run' / 'work' / 'world')))
  expected = outputs(done)
  assert list(got) == list(expected)
  assert [name for name in got if got[name] != expected[name]] == []


def test_example_of_the_readme(place, done, monkeypatch, capsys):
  readme = pathlib.Path(__file__).parent.parent / 'README.md'
  (code,) = re.findall(r'```python\n(.*?)```', readme.read_text(), re.DOTALL)
  (place / 'demo' / 'data').symlink_to(place / 'data')  # As `demo` has it.
  monkeypatch.chdir(place)
  names = {}
  exec(code, names)
  assert len(names['hits']) == len(names['texts']) == 10
  scores = names['scores']
  assert len(scores) == 10 and max(scores) < 0
  ranked = [names['best'], *names['others']]
  assert sorted(hit.index for hit in ranked) == list(range(10))
  assert [hit.score for hit in ranked] == sorted(scores, reverse=True)
  assert len(names['queries']) == 2
  best = names['texts'][names['best'].index]
  assert capsys.readouterr().out.splitlines()[0].endswith(best)


@pytest.mark.parametrize('given', ['.', '../world', 'world'])
def test_dataset_is_called_by_its_folder(place, monkeypatch, given):
  monkeypatch.chdir(place / 'data' / 'world')
  folder = run.find_dataset(given, place / 'data')
  assert folder == place / 'data' / 'world'


def test_folder_of_the_same_name_without_a_corpus(place, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'world').mkdir()
  assert run.find_dataset('world', place / 'data') == place / 'data' / 'world'
  with pytest.raises(errors.InputError, match='world has no corpus.jsonl'):
    run.find_dataset('world', tmp_path / 'data')
