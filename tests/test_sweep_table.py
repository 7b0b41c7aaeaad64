from etils import epath

from inpars_tpu import page
from launch import sweep_table
from tests import report_runs


def write(folder, after, bm25=0.5):
  metrics = {'bm25': {'nDCG@10': bm25}, 'reranked': {'nDCG@10': after}}
  report_runs.write_metrics(folder, metrics)
  report_runs.write_making(folder)
  return epath.Path(folder)


def test_table_of_seeds_settings_and_datasets(tmp_path):
  folders = {
    'a': [
      write(tmp_path / 'a' / 'seed1' / 'scifact', 0.75),
      write(tmp_path / 'a' / 'seed2' / 'scifact', 0.5),
      write(tmp_path / 'a' / 'seed1' / 'fiqa', 0.25, 0.125),
    ],
    'b': [
      write(tmp_path / 'b' / 'seed1' / 'scifact', 0.5),
      write(tmp_path / 'b' / 'seed1' / 'fiqa', 0.5, 0.125),
    ],
    'c': [],
  }
  text, path = sweep_table.write(
    'mine', epath.Path(tmp_path), folders, [('c/seed1/fiqa', 'not run')]
  )
  # The deviation of 0.75 and 0.5 is 0.25 / sqrt(2).
  assert text.splitlines() == [
    'dataset    setting  seeds  BM25             reranker after',
    'scifact    a        2      0.5000 ± 0.0000  0.6250 ± 0.1768  best',
    'scifact    b        1      0.5000           0.5000',
    'fiqa       a        1      0.1250           0.2500',
    'fiqa       b        1      0.1250           0.5000           best',
    'mean of 2  a               0.3125           0.4375',
    'mean of 2  b               0.3125           0.5000           best',
  ]
  assert path == epath.Path(tmp_path) / 'sweep.html'
  written = (tmp_path / 'sweep.md').read_text()
  assert '| c/seed1/fiqa | not run |' in written
  assert '(b/report.html)' in written
  assert '(c/report.html)' not in written


def test_nothing_is_complete():
  content = sweep_table.build('mine', {}, [('a/seed1/fiqa', 'exit code 1')], [])
  assert [section.title for section in content.sections] == ['Not complete']
  (table,) = content.sections[0].blocks
  assert isinstance(table, page.Table)
  assert sweep_table.to_text({}) == 'dataset  setting  seeds'


def test_nothing_is_best_of_equals(tmp_path):
  folders = {
    name: [write(tmp_path / name / 'seed1' / 'scifact', after)]
    for name, after in (('a', 0.25), ('b', 0.5), ('c', 0.5))
  }
  text, _ = sweep_table.write('x', epath.Path(tmp_path), folders, [])
  assert [line.split()[1:] for line in text.splitlines()[1:]] == [
    ['a', '1', '0.5000', '0.2500'], ['b', '1', '0.5000', '0.5000'],
    ['c', '1', '0.5000', '0.5000'],
  ]  # fmt: skip


def test_one_setting_is_not_the_best_of_anything(tmp_path):
  folder = write(tmp_path / 'base' / 'seed1' / 'scifact', 0.75)
  text, _ = sweep_table.write(
    'beir', epath.Path(tmp_path), {'base': [folder]}, []
  )
  assert text.splitlines()[1:] == ['scifact  base     1      0.5000  0.7500']
