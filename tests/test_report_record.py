import json

from etils import epath

from inpars_tpu import report_record
from tests import report_runs


def read(folder):
  return report_record.read(epath.Path(folder))


def test_whole_run(tmp_path):
  record = read(report_runs.write_run(tmp_path / 'scifact'))
  assert record.name == 'scifact'
  assert list(record.stages) == [
    'sample', 'generate', 'filter', 'index', 'negatives', 'train', 'search',
    'rerank before', 'rerank after', 'evaluate',
  ]  # fmt: skip
  assert (record.begun, record.missing) == ([], [])
  assert record.metrics['reranked']['nDCG@10'] == 0.625
  assert record.questions['q4'] == 'text of 4'
  assert record.tokens == {0: 10, 1: 10, 2: 10, 3: 10}
  assert [step['step'] for step in record.steps] == [1, 2, 3, 4]
  assert record.untrained == ['reranker']
  kept = record.kept
  assert (kept.count, kept.score_name) == (30, 'log_prob_true')
  assert kept.lowest_score == -0.25 - 29 / 64
  assert [query.doc_id for query in kept.worst] == [
    f'd{i}' for i in range(29, 19, -1)
  ]
  assert kept.worst[0] == report_record.Query(
    report_runs.QUERY, 'd29', 'A | mill\nof 29.', -0.25 - 29 / 64
  )


def test_samples_are_drawn_by_the_seed(tmp_path):
  folder = report_runs.write_run(tmp_path / 'scifact')
  first, second = (
    [query.doc_id for query in read(folder).kept.chosen] for _ in range(2)
  )
  assert first == second
  assert len(set(first)) == 20
  assert first == sorted(first, key=lambda doc_id: int(doc_id[1:]))
  sample = folder / 'documents.jsonl.manifest.json'
  record = json.loads(sample.read_text())
  sample.write_text(json.dumps(record | {'settings': {'SEED': 8}}))
  assert [query.doc_id for query in read(folder).kept.chosen] != first


def test_half_done_run(tmp_path):
  folder = tmp_path / 'quora'
  report_runs.write_making(folder)
  (folder / 'queries' / 'manifest.json').rename(
    folder / 'queries' / 'manifest.partial.json'
  )
  (folder / 'manifest.partial.json').write_text('{}')
  (folder / 'metrics.jsonl').write_text('{"step": 1, "loss": 2.0}\n{"step": 2,')
  for name in ('filtered.jsonl', 'filtered.jsonl.manifest.json'):
    (folder / name).unlink()
  (folder / 'filtered.jsonl.parts').mkdir()
  record = read(folder)
  assert list(record.stages) == ['sample', 'index', 'negatives']
  assert record.begun == ['generate', 'filter', 'train']
  assert record.missing == list(report_record.TESTING.values())
  assert record.tokens == {0: 10, 1: 10, 2: 10, 3: 10}
  assert record.kept is None
  assert record.steps == [{'step': 1, 'loss': 2.0}]  # One is being written.
  assert (record.metrics, record.per_query, record.questions) == ({}, {}, {})


def test_first_stage_of_others_is_not_missing(tmp_path):
  folder = report_runs.write_run(tmp_path / 'scifact')
  (folder / 'bm25.trec').unlink()
  assert read(folder).missing == ['search']
  report_runs.write_metrics(folder, {'dense': {}, 'reranked': {}})
  assert read(folder).missing == []


def test_scores_of_other_filters(tmp_path):
  def kept_by(filter_by, line):
    folder = tmp_path / filter_by
    report_runs.write_making(folder)
    report_runs.write_jsonl(folder / 'filtered.jsonl', [line])
    report_runs.write_manifest(
      folder / 'filtered.jsonl.manifest.json', 'filter',
      settings={'FILTER_BY': filter_by},
    )  # fmt: skip
    return read(folder).kept

  line = {'query': 'q', 'doc_id': 'd', 'log_probs': [-1.0, -2.0], 'text': ''}
  by_log_probs = kept_by('log_probs', line)
  assert by_log_probs.score_name == 'mean log_prob'
  assert by_log_probs.worst[0].score == -1.5
  by_nothing = kept_by('none', line)
  assert by_nothing.score_name is None
  assert (by_nothing.worst, by_nothing.chosen[0].score) == ([], None)
  by_rankt5 = kept_by('reranker', line | {'logit': 3.5})
  assert (by_rankt5.score_name, by_rankt5.lowest_score) == ('logit', 3.5)
