"""A dataset of two forums: its parts, and the whole loop over it."""

import dataclasses
import json

import pytest

from inpars_tpu import (
  beir,
  bm25,
  errors,
  files,
  forums,
  manifest,
  report,
  report_record,
  run,
  trec,
)
from inpars_tpu.demo import world
from tests import test_run, world_models

NAMES = ('birds', 'boats')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """Both models, and two worlds whose ids are partly the same."""
  folder = tmp_path_factory.mktemp('forums')
  for seed, name in enumerate(NAMES, 1):
    world.write(
      folder / 'data' / 'cqadupstack' / name, seed,
      num_things=60, num_questions=8 * seed,
    )  # fmt: skip
  world_models.make(folder / 'demo')
  return folder


@pytest.fixture(scope='module')
def known():
  """CQADupStack has these two forums."""
  with pytest.MonkeyPatch.context() as patch:
    dataset = dataclasses.replace(
      beir.DATASETS['cqadupstack'],
      forums=dict.fromkeys(NAMES, beir.Counts(60, 8, 8, 8)),
    )
    patch.setattr(beir, 'DATASETS', beir.DATASETS | {'cqadupstack': dataset})
    yield


@pytest.fixture(scope='module')
def done(place, known):
  """The dataset's folder after a run."""
  run.run(plan(place))
  return place / 'demo' / 'cqadupstack'


def plan(place, **changes) -> run.Plan:
  return test_run.plan(place, **{'dataset': 'cqadupstack'} | changes)


def read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_pool_has_every_document_under_its_forum(place, done):
  pooled = read(done / 'corpus.jsonl')
  (birds, boats) = (
    read(place / 'data' / 'cqadupstack' / name / 'corpus.jsonl')
    for name in NAMES
  )
  assert {d['_id'] for d in birds} & {d['_id'] for d in boats}
  assert len(pooled) == len(birds) + len(boats)
  assert pooled[0] == birds[0] | {'_id': f'birds/{birds[0]["_id"]}'}
  assert pooled[-1] == boats[-1] | {'_id': f'boats/{boats[-1]["_id"]}'}
  record = manifest.read(done / 'corpus.jsonl')
  assert record['counts']['in'] == {'birds': len(birds), 'boats': len(boats)}
  assert forums.names(done / 'corpus.jsonl') == list(NAMES)


def test_negatives_are_of_the_own_forum(done):
  from inpars_tpu import pairs

  rows = [
    pair for split in pairs.read(done / 'pairs').values() for pair in split
  ]
  by_group = {}
  for pair in rows:
    by_group.setdefault(pair.group, set()).add(forums.split(pair.doc_id)[0])
  assert all(len(found) == 1 for found in by_group.values())
  assert set.union(*by_group.values()) == set(NAMES)
  texts = {d['_id']: d['text'] for d in read(done / 'corpus.jsonl')}
  for pair in rows:
    assert pair.document.endswith(texts[pair.doc_id])


def test_each_forum_has_its_runs_and_metrics(place, done):
  for name in NAMES:
    queries = read(place / 'data' / 'cqadupstack' / name / 'queries.jsonl')
    for stem in ('bm25', 'reranked_base', 'reranked'):
      found = trec.read_run(done / name / f'{stem}.trec')
      assert set(found) <= {query['_id'] for query in queries}
    assert (done / name / 'metrics.json').exists()


def test_the_mean_is_over_forums_and_not_over_queries(done):
  metrics = files.read_json(done / 'metrics.json', 'metrics')
  assert list(metrics) == ['bm25', 'reranked_base', 'reranked']
  own = [files.read_json(done / n / 'metrics.json', 'metrics') for n in NAMES]
  for name, values in metrics.items():
    a, b = (found[name]['nDCG@10'] for found in own)
    assert values['nDCG@10'] == pytest.approx((a + b) / 2)
    assert values['forums']['boats']['nDCG@10'] == b
  assert metrics['reranked']['versus']['baseline'] == 'bm25'
  difference = metrics['reranked']['nDCG@10'] - metrics['bm25']['nDCG@10']
  versus = metrics['reranked']['versus']['nDCG@10']
  assert versus['difference'] == pytest.approx(difference)
  per_query = files.read_json(done / 'metrics.per_query.json', 'metrics')
  assert {name.split('/')[0] for name in per_query['bm25']} == set(NAMES)


def test_the_report_shows_the_mean_and_the_forums(done):
  text = (done / 'report.md').read_text()
  assert 'nDCG@10 of each forum' in text
  assert '| boats |' in text
  assert 'Means over the forums of means over all judged queries' in text
  record = report_record.read(done)
  assert not record.missing and not record.begun
  published = [line for line in text.splitlines() if 'InPars-v2' in line]
  mean = record.metrics['reranked']['nDCG@10']
  assert any(f'{mean:.4f}' in line and '0.448' in line for line in published)
  assert record.stages['index']['counts']['in'] == len(
    read(done / 'corpus.jsonl')
  )
  seconds = [manifest.read(done / n / 'bm25.trec')['seconds'] for n in NAMES]
  assert record.stages['search']['seconds'] == pytest.approx(sum(seconds))
  assert set(record.questions) >= set(record.per_query['bm25'])
  assert report.find_folders(done.parent) == [done]


def test_a_second_call_changes_nothing(place, done, capsys):
  times = {p: p.stat().st_mtime_ns for p in done.rglob('*') if p.is_file()}
  run.run(plan(place))
  assert times == {p: p.stat().st_mtime_ns for p in times}
  assert 'reranker after' in capsys.readouterr().out


def test_a_forum_half_done_is_not_complete(done, tmp_path):
  folder = tmp_path / 'half'
  for name in ('corpus.jsonl', 'birds/bm25.trec', 'boats/index'):
    for suffix in ('', '.manifest.json'):
      path = folder / f'{name}{suffix}'
      path.parent.mkdir(parents=True, exist_ok=True)
      if (done / f'{name}{suffix}').is_file():
        path.write_bytes((done / f'{name}{suffix}').read_bytes())
  record = report_record.read(folder)
  assert record.begun == ['search']
  assert {'index', 'rerank after', 'evaluate'} <= set(record.missing)


def test_what_cannot_be_run(place, known, tmp_path):
  work = tmp_path / 'work'
  with pytest.raises(errors.InputError, match='2 forums with a run each'):
    run.run(plan(place, work_dir=work, first_stage_run=tmp_path / 'x.trec'))
  (tmp_path / 'cqadupstack').mkdir()
  with pytest.raises(errors.InputError, match='has no birds/corpus.jsonl'):
    run.run(plan(place, work_dir=work, dataset=str(tmp_path / 'cqadupstack')))
  partial = tmp_path / 'partial' / 'cqadupstack'
  for path in (place / 'data' / 'cqadupstack' / 'birds').rglob('*.*'):
    name = path.relative_to(place / 'data' / 'cqadupstack')
    (partial / name).parent.mkdir(parents=True, exist_ok=True)
    (partial / name).write_bytes(path.read_bytes())
  with pytest.raises(errors.InputError, match='no corpus at .*boats/corpus'):
    run.run(plan(place, work_dir=work, dataset=str(partial)))
  assert not work.exists()


class Counting(bm25.Index):
  """Draws its name and the number of the query."""

  def __init__(self, name):
    self._name = name

  def draw(self, queries, *, hits, num, seed):
    assert (hits, num, seed) == (5, 2, 3)
    for i, (query_id, _, source) in enumerate(queries):
      yield query_id, [f'{self._name}-{i}', f'not-{source}']


def test_draws_are_in_the_order_of_the_queries():
  indexes = forums.Indexes({name: Counting(name) for name in NAMES})
  queries = [('q1', 't', 'boats/7'), ('q2', 't', 'birds/7'),
             ('q3', 't', 'boats/a/b')]  # fmt: skip
  assert list(indexes.draw(queries, hits=5, num=2, seed=3)) == [
    ('q1', ['boats/boats-0', 'boats/not-7']),
    ('q2', ['birds/birds-0', 'birds/not-7']),
    ('q3', ['boats/boats-1', 'boats/not-a/b']),
  ]


def values(number):
  return dict.fromkeys(('nDCG@10', 'R@100', 'R@1000', 'MRR@10', 'MAP'), number)


def test_means_of_forums():
  metrics, per_query = forums.combine(
    {
      'a': {'bm25': values(0.5), 'mine': values(0.75)},
      'b': {'bm25': values(0.0), 'mine': values(0.5)},
    },
    {
      'a': {
        'bm25': {'1': values(0.25), '2': values(0.75), '3': values(0.5)},
        'mine': {'1': values(1.0), '2': values(0.75), '3': values(0.5)},
      },
      'b': {'bm25': {'1': values(0.0)}, 'mine': {'1': values(0.5)}},
    },
  )
  assert metrics['bm25'] == values(0.25) | {
    'forums': {'a': values(0.5), 'b': values(0.0)}
  }
  assert metrics['mine']['MAP'] == 0.625
  versus = metrics['mine']['versus']
  assert versus['baseline'] == 'bm25'
  # Not 0.3125, the mean over the queries.
  assert versus['MAP']['difference'] == pytest.approx(0.375)
  assert per_query['mine'] == {
    'a/1': values(1.0), 'a/2': values(0.75), 'a/3': values(0.5),
    'b/1': values(0.5),
  }  # fmt: skip
