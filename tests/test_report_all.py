from etils import epath

from inpars_tpu import charts, page, report_all, report_record
from tests import report_runs


def write(folder, bm25, after):
  metrics = {'bm25': {'nDCG@10': bm25}, 'reranked': {'nDCG@10': after}}
  report_runs.write_metrics(folder, metrics)
  return report_record.read(epath.Path(folder))


def find(content, title):
  return next(
    block
    for section in content.sections
    for block in section.blocks
    if getattr(block, 'title', None) == title
  )


def test_datasets_beside_the_published(tmp_path):
  records = [
    write(tmp_path / 'scifact', 0.5, 0.75), write(tmp_path / 'mine', 0.25, 0.5)
  ]  # fmt: skip
  figures = {'scifact': {'bm25': 0.6789, 'inpars_v2': 0.774, 'rankt5': 0.76}}
  content = report_all.build('work', records, figures)
  assert content.title == 'inpars_tpu: 2 datasets of work'
  assert content.subtitle == 'mine, scifact'
  assert find(content, 'nDCG@10').rows == [
    ['scifact', '0.5000', '0.7500'], ['mine', '0.2500', '0.5000'],
    ['mean of 2', '0.3750', '0.6250'],
  ]  # fmt: skip
  table = find(content, 'reranker after, beside InPars-v2 as published')
  assert table.rows == [['scifact', '0.7500', '0.774', '-0.0240']]
  table = find(content, 'All that was published, nDCG@10')
  assert table.header == ['dataset', 'BM25', 'InPars-v2', 'RankT5']
  assert table.rows == [['scifact', '0.6789', '0.774', '0.760']]
  figure = find(content, 'nDCG@10 of each dataset')
  assert isinstance(figure, charts.Figure)
  assert figure.rows == [
    ['scifact', '0.500', '0.750', '0.774'], ['mine', '0.250', '0.500', ''],
  ]  # fmt: skip


def test_folders_of_one_name_are_seeds(tmp_path):
  records = [
    write(tmp_path / seed / 'scifact', 0.5, after)
    for seed, after in (('1', 0.75), ('2', 0.5))
  ]
  content = report_all.build('work', records, {}, price=2.0)
  assert content.title == 'inpars_tpu: 1 dataset of work'
  assert content.subtitle == 'scifact, 2 runs'
  # The deviation of 0.75 and 0.5 is 0.25 / sqrt(2).
  assert find(content, 'nDCG@10').rows == [
    ['scifact', '0.5000 ± 0.0000', '0.6250 ± 0.1768']
  ]
  # evaluate: 90 s, twice.
  assert find(content, 'All stages').rows[0] == [
    'scifact', '180.0', '0.0500', '0.10',
  ]  # fmt: skip


def test_a_run_that_one_dataset_lacks_is_left_out_of_the_mean(tmp_path):
  report_runs.write_metrics(tmp_path / 'a', {'bm25': {'nDCG@10': 0.5}})
  report_runs.write_making(tmp_path / 'quora')
  records = [
    report_record.read(epath.Path(tmp_path / 'a')),
    write(tmp_path / 'b', 0.25, 0.5),
    report_record.read(epath.Path(tmp_path / 'quora')),
  ]
  content = report_all.build(
    'work', records, {}, links=[('a', 'a/report.html')]
  )
  assert content.notes == ['Not evaluated yet: quora.']
  assert find(content, 'nDCG@10').rows == [
    ['a', '0.5000', ''], ['b', '0.2500', '0.5000'],
  ]  # fmt: skip
  assert content.sections[-1].blocks == [page.Links([('a', 'a/report.html')])]
  nothing = report_all.build('work', records[2:], {})
  assert [section.title for section in nothing.sections] == ['Time and cost']
