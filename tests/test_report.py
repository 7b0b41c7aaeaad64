import html.parser
import json

import pytest

from inpars_tpu import errors, report

METRICS = {
  'bm25': {'nDCG@10': 0.6789, 'R@100': 0.9253},
  'reranked_base': {'nDCG@10': 0.5, 'R@100': 0.9253},
  'reranked': {'nDCG@10': 0.75, 'R@100': 0.9253},
}


class Reader(html.parser.HTMLParser):
  """Collects cells and headings; every tag must be closed."""

  VOID = ('meta', 'link')

  def __init__(self):
    super().__init__()
    self.open, self.cells, self.headings, self.links = [], [], [], []

  def handle_starttag(self, tag, attrs):
    self.links += [v for k, v in attrs if k in ('href', 'src')]
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] in ('td', 'th'):
      self.cells.append(data)
    if self.open and self.open[-1] in ('h1', 'h2'):
      self.headings.append(data)


def write_run(folder, metrics=METRICS, command='init'):
  """A dataset's folder as `run` leaves it, with the files that are read."""
  model = folder.parent / 'model'
  model.mkdir(parents=True, exist_ok=True)
  (model / 'manifest.json').write_text(json.dumps({'command': command}))
  folder.mkdir(parents=True)
  (folder / 'metrics.json').write_text(json.dumps(metrics))
  row = {
    'doc_id': 'd1',
    'query': 'which <b>mill</b> & why',
    'text': 'A | mill\nof sand.',
    'log_prob_true': -0.25,
  }
  (folder / 'filtered.jsonl').write_text(json.dumps(row) + '\n')
  record = {
    'command': 'filter',
    'settings': {'NUM_PAIRS': 10_000},
    'inputs': {},
    'counts': {'in': 12_345, 'dropped': {'too short': 3}},
    'versions': {'jax': '0.10.2'},
    'devices': ['cpu', 'cpu'],
    'seconds': 1.5,
  }
  (folder / 'filtered.jsonl.manifest.json').write_text(json.dumps(record))
  trained = dict(
    record, command='train', inputs={'model': {'path': str(model)}}
  )
  (folder / 'manifest.json').write_text(json.dumps(trained))
  return folder


def read(path) -> Reader:
  reader = Reader()
  reader.feed(path.read_text())
  reader.close()
  assert reader.open == []
  return reader


def test_page_of_one_dataset(tmp_path):
  folder = write_run(tmp_path / 'scifact')
  paths = report.write(folder)
  assert [path.name for path in paths] == ['report.html', 'report.md']
  page = read(folder / 'report.html')
  assert page.headings[0] == 'inpars_tpu: scifact'
  assert page.links == ['data:,']  # No other file and no network.
  for cell in ('BM25', '0.6789', 'reranker after', '0.7500', 'too short'):
    assert any(cell in text for text in page.cells)
  assert 'which <b>mill</b> & why' in page.cells
  assert '10000' in page.cells
  assert '12,345' in page.cells
  text = (folder / 'report.md').read_text()
  assert '| reranker before | 0.5000 | 0.9253 |' in text
  assert 'A \\| mill of sand.' in text


@pytest.mark.parametrize('command,is_said', [('init', True), ('train', False)])
def test_untrained_models_are_said_to_be_untrained(tmp_path, command, is_said):
  folder = write_run(tmp_path / 'scifact', command=command)
  report.write(folder)
  for name in ('report.html', 'report.md'):
    text = (folder / name).read_text()
    assert ('reranker had random, untrained weights' in text) == is_said


def test_page_of_several_datasets_has_the_mean(tmp_path):
  write_run(tmp_path / 'work' / 'scifact')
  other = {run: {'nDCG@10': 0.25, 'R@100': 0.1} for run in METRICS}
  write_run(tmp_path / 'work' / 'cranfield', other)
  report.write(tmp_path / 'work')
  text = (tmp_path / 'work' / 'report.md').read_text()
  assert '| cranfield | 0.2500 | 0.2500 | 0.2500 |' in text
  assert '| mean | 0.4644 | 0.3750 | 0.5000 |' in text


def test_folder_without_a_run(tmp_path):
  with pytest.raises(errors.InputError, match='holds no finished run'):
    report.write(tmp_path)
  with pytest.raises(errors.InputError, match='no work_dir at'):
    report.write(tmp_path / 'nowhere')
