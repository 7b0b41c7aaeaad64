import argparse
import itertools
import json
import math
import subprocess
import sys

import ir_measures
import numpy as np
import pytest

from inpars_tpu import errors, evaluate, recipe, trec

QRELS = {
  'q1': {'a': 1, 'b': 2},
  'q2': {'a': 1},
  'q3': {'z': 1},  # No run has this query.
  'q4': {'a': 0},  # Judged, and nothing is relevant.
}
RUN = {
  'q1': [('x', 3.0), ('b', 2.0), ('a', 1.0)],
  'q2': [('a', 9.0)],
  'q4': [('a', 1.0)],
  'q5': [('a', 1.0)],  # Not judged.
}


def write_qrels(path, qrels):
  lines = [
    f'{query_id}\t{doc_id}\t{relevance}\n'
    for query_id, judged in qrels.items()
    for doc_id, relevance in judged.items()
  ]
  path.write_text('query-id\tcorpus-id\tscore\n' + ''.join(lines))
  return path


def write_run(path, run):
  path.write_text(
    ''.join(
      line
      for query_id, ranking in run.items()
      for line in trec.format_ranking(query_id, ranking, 'tag')
    )
  )
  return path


@pytest.fixture
def files(tmp_path):
  qrels = write_qrels(tmp_path / 'test.tsv', QRELS)
  bm25 = write_run(tmp_path / 'bm25.trec', RUN)
  better = {**RUN, 'q1': [('b', 2.0), ('a', 1.0)]}
  return qrels, bm25, write_run(tmp_path / 'reranked.trec', better)


def test_values_by_hand(caplog):
  with caplog.at_level('INFO', 'inpars_tpu'):
    means, per_query = evaluate.evaluate_runs(QRELS, {'bm25': RUN})
  assert (
    "bm25: 4 judged queries, of which the run leaves out 1 ('q3'); of the run "
    "1 ('q5') are not judged\n"
  ) in caplog.text
  assert list(per_query['bm25']) == ['q1', 'q2', 'q3', 'q4']
  assert per_query['bm25']['q1'] == pytest.approx(
    {
      'nDCG@10': (2 / math.log2(3) + 1 / 2) / (2 + 1 / math.log2(3)),
      'R@100': 1.0,
      'R@1000': 1.0,
      'MRR@10': 1 / 2,
      'MAP': (1 / 2 + 2 / 3) / 2,
    }
  )
  assert set(per_query['bm25']['q2'].values()) == {1.0}
  assert set(per_query['bm25']['q3'].values()) == {0.0}
  assert set(per_query['bm25']['q4'].values()) == {0.0}
  # A query that is missing counts 0; one without judgements does not count.
  assert means['bm25']['R@100'] == 2 / 4
  assert means['bm25']['MRR@10'] == (1 / 2 + 1) / 4


def test_reciprocal_rank_ends_at_ten():
  hits = [(f'x{i}', 99.0 - i) for i in range(9)]
  run = {'q': [*hits, ('a', 1.0)]}
  late = {'q': [*hits, ('x', 2.0), ('a', 1.0)]}
  means, _ = evaluate.evaluate_runs({'q': {'a': 1}}, {'r': run, 'late': late})
  assert means['r']['MRR@10'] == 0.1
  assert means['late']['MRR@10'] == 0.0
  assert means['late']['MAP'] == pytest.approx(1 / 11)


def random_collection(seed):
  """40 queries, 1 in 8 missing from the run, scores full of ties."""
  rng = np.random.default_rng(seed)
  qrels, run = {}, {}
  for q in range(40):
    judged = rng.choice(400, 12, replace=False)
    grades = rng.integers(0, 3, 12)
    qrels[f'q{q}'] = {
      f'd{d}': int(g) for d, g in zip(judged, grades, strict=True)
    }
    if q % 8:
      found = rng.choice(400, 300, replace=False)
      scores = rng.integers(0, 40, 300) / 4 + 1e-9 * rng.integers(0, 2, 300)
      run[f'q{q}'] = {
        f'd{d}': float(s) for d, s in zip(found, scores, strict=True)
      }
  return qrels, run


@pytest.mark.parametrize('seed', range(5))
def test_agrees_with_trec_eval_on_ties_and_missing_queries(tmp_path, seed):
  qrels, scores = random_collection(seed)
  lines = [
    f'{query_id} Q0 {doc_id} 1 {score!r} tag\n'
    for query_id, hits in scores.items()
    for doc_id, score in hits.items()
  ]
  (tmp_path / 'run.trec').write_text(''.join(lines))
  run = trec.read_run(tmp_path / 'run.trec')
  means, _ = evaluate.evaluate_runs(qrels, {'run': run})
  names = {
    'nDCG@10': ir_measures.nDCG @ 10,
    'R@100': ir_measures.R @ 100,
    'R@1000': ir_measures.R @ 1000,
    'MAP': ir_measures.AP,
  }
  expected = ir_measures.calc_aggregate(names.values(), qrels, scores)
  # trec_eval has no cut-off for this one: give it ten documents.
  ten = {name: dict(ranking[:10]) for name, ranking in run.items()}
  expected |= ir_measures.calc_aggregate([ir_measures.RR], qrels, ten)
  names['MRR@10'] = ir_measures.RR
  for name in evaluate.MEASURES:
    assert means['run'][name] == pytest.approx(expected[names[name]], abs=1e-9)


def test_order_of_ties_is_trec_evals(tmp_path):
  # 1 + 1e-9 is 1 as a 32-bit float: tied, and then the last id is first.
  (tmp_path / 'run').write_text(
    'q Q0 a 1 1.000000001 t\nq Q0 b 2 1.0 t\nq Q0 c 3 1.0 t\n'
  )
  run = trec.read_run(tmp_path / 'run')
  means, _ = evaluate.evaluate_runs({'q': {'a': 1}}, {'run': run})
  assert means['run']['MRR@10'] == pytest.approx(1 / 3)
  assert means['run']['MAP'] == pytest.approx(1 / 3)


def test_main_prints_the_table_and_writes_the_metrics(files, capsys):
  qrels, bm25, reranked = files
  output = qrels.parent / 'metrics.json'
  evaluate.main(
    argparse.Namespace(
      qrels=str(qrels), run=[str(bm25), str(reranked)], baseline=None,
      seeds=False, output=str(output), recipe=recipe.load(),
    )
  )  # fmt: skip
  assert capsys.readouterr().out == (
    'run       nDCG@10    R@100   R@1000   MRR@10      MAP\n'
    'bm25       0.4174   0.5000   0.5000   0.3750   0.3958\n'
    'reranked   0.5000   0.5000   0.5000   0.5000   0.5000\n'
  )
  metrics = json.loads(output.read_text())
  assert list(metrics) == ['bm25', 'reranked']
  assert list(metrics['bm25']) == list(evaluate.MEASURES)
  assert metrics['reranked']['nDCG@10'] == 0.5
  per_query = json.loads((qrels.parent / 'metrics.per_query.json').read_text())
  assert per_query['bm25']['q1']['MRR@10'] == 0.5
  record = json.loads((qrels.parent / 'metrics.json.manifest.json').read_text())
  assert list(record['inputs']) == ['qrels', 'run bm25', 'run reranked']
  assert record['counts'] == {
    'queries': 4, 'queries without a relevant document': 1, 'runs': 2,
  }  # fmt: skip


def test_without_output_nothing_is_written(files):
  qrels, bm25, _ = files
  before = sorted(qrels.parent.iterdir())
  metrics = evaluate.evaluate_files(qrels, [bm25])
  assert metrics['bm25']['R@100'] == 0.5
  assert sorted(qrels.parent.iterdir()) == before


def test_metrics_have_equal_bytes_and_stay(files):
  qrels, *runs = files
  paths = [qrels.parent / name for name in ('one.json', 'two.json')]
  for path in paths:
    evaluate.evaluate_files(qrels, runs, path, baseline=runs[0], seed=3)
  assert paths[0].read_bytes() == paths[1].read_bytes()
  before = paths[0].stat().st_mtime_ns
  evaluate.evaluate_files(qrels, runs, paths[0], baseline=runs[0], seed=3)
  assert paths[0].stat().st_mtime_ns == before
  with pytest.raises(errors.InputError, match='seed = 3 there and 4 now'):
    evaluate.evaluate_files(qrels, runs, paths[0], baseline=runs[0], seed=4)


def test_baseline_comes_first_and_the_others_are_compared(files, tmp_path):
  qrels, bm25, reranked = files
  metrics = evaluate.evaluate_files(qrels, [reranked, bm25], baseline=bm25)
  assert list(metrics) == ['bm25', 'reranked']
  assert 'versus' not in metrics['bm25']
  versus = metrics['reranked']['versus']
  assert versus['baseline'] == 'bm25'
  # One query of four differs, so every flip is as far from 0: p = 1.
  assert versus['MRR@10'] == {'difference': 0.125, 'p_value': 1.0}
  assert versus['R@100'] == {'difference': 0.0, 'p_value': 1.0}
  assert evaluate.format_table(metrics).splitlines()[2:] == [
    'reranked   0.5000   0.5000   0.5000   0.5000   0.5000',
    '  - bm25  +0.0826  +0.0000  +0.0000  +0.1250  +0.1042',
    '  p        1.0000   1.0000   1.0000   1.0000   1.0000',
  ]


def test_p_value_is_that_of_all_sign_flips():
  differences = [0.5, 0.3, -0.1, 0.2, 0.4, 0.0, 0.25, -0.3, 0.1]
  total = abs(sum(differences))
  flips = itertools.product((-1, 1), repeat=len(differences))
  sums = [
    abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
    for signs in flips
  ]
  exact = sum(value >= total - 1e-9 for value in sums) / len(sums)
  assert 0.05 < exact < 0.2
  zero = dict.fromkeys(evaluate.MEASURES, 0.0)
  base = {f'q{i}': zero for i in range(9)}
  other = {
    f'q{i}': dict.fromkeys(evaluate.MEASURES, d)
    for i, d in enumerate(differences)
  }
  there = evaluate.compare(base, other, seed=1)['nDCG@10']
  back = evaluate.compare(other, base, seed=2)['nDCG@10']
  assert there['difference'] == pytest.approx(sum(differences) / 9)
  assert back['difference'] == -there['difference']
  assert there['p_value'] == pytest.approx(exact, abs=0.015)
  assert back['p_value'] == pytest.approx(exact, abs=0.015)
  assert evaluate.compare(base, other, seed=1)['nDCG@10'] == there


def test_a_clear_difference_has_the_smallest_p_value():
  base = {f'q{i}': dict.fromkeys(evaluate.MEASURES, 0.1) for i in range(40)}
  other = {f'q{i}': dict.fromkeys(evaluate.MEASURES, 0.6) for i in range(40)}
  found = evaluate.compare(base, other)['MAP']
  assert found == {'difference': pytest.approx(0.5), 'p_value': 1 / 10_001}


def test_runs_of_one_name_are_told_apart_by_folder(tmp_path):
  qrels = write_qrels(tmp_path / 'test.tsv', QRELS)
  paths = []
  for name in ('one', 'two', 'two/one'):
    (tmp_path / name).mkdir()
    paths.append(write_run(tmp_path / name / 'bm25.k1=0.9.trec', RUN))
  metrics = evaluate.evaluate_files(qrels, paths[:2] * 2)
  assert list(metrics) == ['one/bm25.k1=0.9', 'two/bm25.k1=0.9']
  with pytest.raises(errors.InputError, match="both called 'one/bm25.k1=0.9'"):
    evaluate.evaluate_files(qrels, [paths[0], paths[2]])


def test_seeds_give_mean_and_deviation(files, tmp_path, caplog):
  qrels, bm25, _ = files
  best = {name: [('a', 1.0)] for name in ('q1', 'q2')}
  for seed, run in (('1', RUN), ('2', best)):
    (tmp_path / seed).mkdir()
    write_run(tmp_path / seed / 'reranked.trec', run)
  runs = [tmp_path / seed / 'reranked.trec' for seed in ('1', '2')]
  output = tmp_path / 'metrics.json'
  with caplog.at_level('INFO', 'inpars_tpu'):
    metrics = evaluate.evaluate_files(
      qrels, runs, output, baseline=bm25, has_seeds=True
    )
  assert '1 of 4 judged queries have no relevant document' in caplog.text
  assert "count 0: 'q4'\n" in caplog.text
  name = 'reranked, 2 seeds'
  assert list(metrics) == ['bm25', '1/reranked', '2/reranked', name]
  # MRR@10 is (1/2 + 1) / 4 = 0.375 and (1 + 1) / 4 = 0.5.
  assert metrics[name]['MRR@10'] == 0.4375
  assert metrics[name]['deviation']['MRR@10'] == pytest.approx(
    0.125 / math.sqrt(2)
  )
  assert metrics[name]['deviation']['R@100'] == pytest.approx(
    0.125 / math.sqrt(2)  # 2 / 4, and 1.5 / 4.
  )
  assert metrics[name]['versus']['MRR@10']['difference'] == 0.0625
  per_query = json.loads((tmp_path / 'metrics.per_query.json').read_text())
  assert per_query[name]['q1']['MRR@10'] == 0.75
  lines = evaluate.format_table(metrics).splitlines()
  assert [line.split()[-2] for line in lines[-4:]] == [
    '0.4375', '0.0884', '+0.0625', '1.0000',
  ]  # fmt: skip
  assert lines[-3].startswith('  deviation ')


def test_seeds_need_two_runs_of_one_name(files):
  qrels, *runs = files
  with pytest.raises(errors.InputError, match='differ: bm25, reranked$'):
    evaluate.evaluate_files(qrels, runs, has_seeds=True)


def check_refused(qrels, run, message):
  output = qrels.parent / 'metrics.json'
  before = sorted(qrels.parent.iterdir())
  with pytest.raises(errors.InputError, match=message):
    evaluate.evaluate_files(qrels, [run], output)
  assert sorted(qrels.parent.iterdir()) == before


def test_wrong_input_writes_nothing(files):
  qrels, bm25, _ = files
  bm25.write_text('other Q0 a 1 1.0 tag\n')
  check_refused(qrels, bm25, 'run bm25: none of its 1 queries is judged; are')
  bm25.write_text('q1 Q0 a 1 1.0\n')
  check_refused(qrels, bm25, 'bm25.trec:1: 5 columns, not six')
  check_refused(qrels, bm25.parent / 'no.trec', '^no run at .*no.trec$')
  qrels.write_text('query\tdocument\trelevance\nq1\ta\t1\n')
  check_refused(qrels, bm25, 'test.tsv:1: the header must be query-id<tab>')


def test_the_command_imports_nothing_heavy(files):
  program = (
    'import sys\n'
    'from inpars_tpu import cli\n'
    'assert cli.main(sys.argv[1:]) == 0\n'
    'heavy = {"jax", "tensorflow", "torch", "scipy", "pandas", "jnius"}\n'
    'assert not heavy & set(sys.modules), heavy & set(sys.modules)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', program, 'evaluate', f'--qrels={files[0]}',
     f'--run={files[1]}'],
    check=True, capture_output=True, text=True,
  )  # fmt: skip
  assert done.stdout.splitlines()[1].startswith('bm25   0.4174')


@pytest.mark.shared_data
def test_a_perfect_run_of_scifact(shared_data, tmp_path):
  folder = shared_data / 'data' / 'beir' / 'scifact'
  lines = (folder / 'qrels' / 'test.tsv').read_text().splitlines()[1:]
  columns = [line.split('\t') for line in lines]
  (tmp_path / 'qrels.trec').write_text(
    ''.join(f'{q} Q0 {d} 1 {score}.0 oracle\n' for q, d, score in columns)
  )
  metrics = evaluate.evaluate_files(
    folder / 'qrels' / 'test.tsv', [tmp_path / 'qrels.trec']
  )
  assert metrics == {'qrels': dict.fromkeys(evaluate.MEASURES, 1.0)}
