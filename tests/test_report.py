import argparse
import json
import os
import pathlib
import random
import re
import shutil
import subprocess

import pytest
from etils import epath

from inpars_tpu import errors, report
from tests import html_reader, report_runs


def test_page_of_one_dataset(tmp_path):
  folder = report_runs.write_run(tmp_path / 'scifact')
  paths = report.write(folder)
  assert [path.name for path in paths] == ['report.html', 'report.md']
  page = html_reader.Reader((folder / 'report.html').read_text())
  assert page.headings[0] == 'inpars_tpu: scifact'
  assert page.tags.count('svg') == page.tags.count('figure') == 9
  assert all(link == 'data:,' or link[0] == '#' for link in page.links)
  for cell in ('BM25', '0.5000', 'reranker after', '12,345', '0.774'):
    assert cell in page.cells
  text = (folder / 'report.md').read_text()
  assert '| reranker after | InPars-v2 | 0.6250 | 0.774 | -0.1490 |' in text
  assert 'which \\<b\\>mill\\</b\\> & why' in text
  assert 'A \\| mill of 29.' in text


@pytest.mark.parametrize('command,is_said', [('init', True), ('train', False)])
def test_untrained_models_are_said_to_be_untrained(tmp_path, command, is_said):
  folder = report_runs.write_run(tmp_path / 'scifact')
  report_runs.write_manifest(tmp_path / 'monot5' / 'manifest.json', command)
  report.write(folder)
  assert report.untrained(epath.Path(folder)) == ['reranker'] * is_said
  for name in ('report.html', 'report.md'):
    text = (folder / name).read_text()
    assert ('reranker had random, untrained weights' in text) == is_said


def test_page_of_several_datasets_links_to_theirs(tmp_path):
  report.write(report_runs.write_run(tmp_path / 'work' / 'scifact'))
  report_runs.write_run(tmp_path / 'work' / 'mine')
  report.write(tmp_path / 'work')
  page = html_reader.Reader((tmp_path / 'work' / 'report.html').read_text())
  links = [link for link in page.links if link[0] != '#']
  assert links == ['data:,', 'scifact/report.html']
  text = (tmp_path / 'work' / 'report.md').read_text()
  assert '| mean of 2 | 0.5000 | 0.2500 | 0.6250 |' in text
  record = json.loads(
    (tmp_path / 'work' / 'report.html.manifest.json').read_text()
  )
  assert list(record['inputs'])[:3] == [
    'mine/filtered.jsonl', 'mine/manifest.json', 'mine/metrics.json',
  ]  # fmt: skip


def test_runs_two_levels_below_are_found(tmp_path):
  for seed in ('seed1', 'seed2'):
    report_runs.write_making(tmp_path / seed / 'scifact')
  (tmp_path / 'models').mkdir()
  found = report.find_folders(epath.Path(tmp_path))
  assert [folder.relative_to(tmp_path).parts for folder in found] == [
    ('seed1', 'scifact'), ('seed2', 'scifact'),
  ]  # fmt: skip


def test_folder_without_a_run(tmp_path):
  with pytest.raises(errors.InputError, match='holds no run'):
    report.write(tmp_path)
  with pytest.raises(errors.InputError, match='no work_dir at'):
    report.write(tmp_path / 'nowhere')


def test_report_is_current_until_what_it_shows_changes(tmp_path):
  folder = epath.Path(report_runs.write_run(tmp_path / 'scifact'))
  assert not report.is_current(folder)
  report.write(folder, price=3.0)
  assert report.is_current(folder)  # Whatever the price.
  first = (folder / 'report.html').read_bytes()
  report.write(folder, price=3.0)
  assert (folder / 'report.html').read_bytes() == first
  metrics = {'bm25': {'nDCG@10': 0.125}}
  report_runs.write_metrics(folder, metrics)
  assert not report.is_current(folder)
  report.write(folder)
  assert report.is_current(folder)
  (folder / 'report.html').write_text('another')
  assert not report.is_current(folder)
  report.write(folder)
  (folder / 'report.md').unlink()
  assert not report.is_current(folder)


def test_report_of_a_run_that_was_not_trained_yet_is_not_current(tmp_path):
  folder = epath.Path(tmp_path / 'mine')
  report_runs.write_making(tmp_path / 'mine')
  report.write(folder)
  assert report.is_current(folder)
  report_runs.write_manifest(tmp_path / 'mine' / 'manifest.json', 'train')
  assert not report.is_current(folder)


def test_price_is_a_number(tmp_path, capsys):
  folder = report_runs.write_run(tmp_path / 'scifact')
  report.main(argparse.Namespace(work_dir=str(folder), price='4'))
  assert capsys.readouterr().out.splitlines() == [
    str(folder / 'report.html'), str(folder / 'report.md'),
  ]  # fmt: skip
  # 475 s on two devices and evaluate's 90 s: 0.475 hours.
  assert '| sum |  | 900.0 | 0.4750 | 1.90 |' in (
    (folder / 'report.md').read_text()
  )
  for price in ('-1', 'nan', 'dear', 'inf'):
    with pytest.raises(errors.InputError, match=f'--price={price}: what one'):
      report.main(argparse.Namespace(work_dir=str(folder), price=price))


# Put at the end of a copy of the page: measures it, and leaves what it found.
PROBE = """<script>addEventListener('load', () => {
  const wide = document.documentElement;
  const found = {
    figures: [...document.querySelectorAll('figure')].map((figure) => {
      const box = figure.querySelector('svg').getBoundingClientRect();
      return [figure.id, box.width > 100 && box.height > 20];
    }),
    fetched: performance.getEntriesByType('resource').map((e) => e.name),
    too_wide: wide.scrollWidth - wide.clientWidth,
  };
  const out = document.createElement('pre');
  out.id = 'probe';
  out.textContent = JSON.stringify(found);
  document.body.append(out);
});</script>"""


def dump(tmp_path, page: str, probe: str, width=1_280):
  """What chromium makes of a page that ends with a script."""
  chromium = shutil.which('chromium') or shutil.which('google-chrome')
  if chromium is None:
    pytest.skip('no chromium or google-chrome on the PATH')
  copy = tmp_path / 'copy.html'
  copy.write_text(page.replace('</body>', f'{probe}</body>'))
  return subprocess.run(
    [
      chromium, '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run',
      '--disable-background-networking', '--disable-component-update',
      '--disable-sync', f'--user-data-dir={tmp_path}/profile',
      f'--window-size={width},900', '--enable-logging=stderr',
      '--virtual-time-budget=20000', '--dump-dom', copy.as_uri(),
    ],
    capture_output=True, text=True, timeout=120, check=True,
  )  # fmt: skip


@pytest.mark.browser
@pytest.mark.parametrize('width', [500, 1_280])
def test_page_in_a_browser(tmp_path, width):
  report.write(report_runs.write_run(tmp_path / 'scifact'))
  text = (tmp_path / 'scifact' / 'report.html').read_text()
  done = dump(tmp_path, text, PROBE, width)
  assert not re.search(r'CONSOLE', done.stderr), done.stderr
  found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout)[1]
  assert json.loads(found) == {
    'figures': [
      [name, True]
      for name in (
        'bars', 'won-and-lost', 'scores', 'lengths', 'dropped', 'train-loss',
        'train-accuracy', 'train-mrr', 'seconds',
      )
    ],
    'fetched': [],
    'too_wide': 0,
  }  # fmt: skip


AXE = """<script>%s</script><script>addEventListener('load', async () => {
  const found = await axe.run(document);
  const out = document.createElement('pre');
  out.id = 'axe';
  out.textContent = JSON.stringify(
    [found.passes.length, found.violations.map((v) => [v.impact, v.id])]);
  document.body.append(out);
});</script>"""


@pytest.mark.browser
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_everybody_can_read_the_page(tmp_path, scheme):
  axe = os.environ.get('INPARS_TPU_AXE')
  if not axe:
    pytest.skip('INPARS_TPU_AXE does not name axe.min.js, of axe-core')
  report.write(report_runs.write_run(tmp_path / 'scifact'))
  text = (tmp_path / 'scifact' / 'report.html').read_text()
  query = '(prefers-color-scheme: dark)'
  assert query in text
  if scheme == 'dark':
    text = text.replace(f'@media {query}', '@media all')
  done = dump(tmp_path, text, AXE % pathlib.Path(axe).read_text())
  found = re.search(r'<pre id="axe">(.*?)</pre>', done.stdout)[1]
  num_passed, violations = json.loads(found)
  assert num_passed > 30 and violations == []


def test_a_large_run_is_a_small_page(tmp_path):
  folder = report_runs.write_run(tmp_path / 'cqadupstack')
  kept = (folder / 'filtered.jsonl').read_text().splitlines()
  report_runs.write_jsonl(
    folder / 'filtered.jsonl',
    [json.loads(line) | {'text': 'a long <text> & ' * 20_000} for line in kept],
  )
  draw = random.Random(1)
  per_query = {
    run: {f'q{i}': {'nDCG@10': draw.random()} for i in range(13_145)}
    for run in ('bm25', 'reranked')
  }
  (folder / 'metrics.per_query.json').write_text(json.dumps(per_query))
  report_runs.write_jsonl(
    folder / 'metrics.jsonl',
    [{'step': i, 'loss': draw.random()} for i in range(1, 5_001)],
  )
  report.write(folder)
  assert 50_000 < (folder / 'report.html').stat().st_size < 200_000
