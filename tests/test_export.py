import json

import pytest
import yaml

from inpars_tpu import cli, errors, export, files, manifest, pairs

PAIRS = {
  'train': [
    pairs.Pair('what is é', 'a doc', 1, 'q1', 'd1', 0),
    pairs.Pair('what is é', 'another\nline', 0, 'q1', 'd2', 0),
  ],
  'validation': [
    pairs.Pair('why', 'a doc', 1, 'q3', 'd3', 1),
    pairs.Pair('why', '', 0, 'q3', 'd1', 1),
  ],
}
KEPT = {
  'doc_id': 'd1', 'query': 'what is é', 'log_probs': [-0.5, -1.0],
  'finished': True, 'text': 'a doc', 'log_prob_true': -0.1,
}  # fmt: skip


@pytest.fixture(scope='module')
def work(tmp_path_factory):
  folder = tmp_path_factory.mktemp('export') / 'work'
  folder.mkdir()
  for name, record in (
    ('filtered.jsonl', KEPT),
    ('validation.jsonl', KEPT | {'doc_id': 'd3', 'query': 'why'}),
  ):
    job = manifest.begin_file(
      'filter', folder / name, settings={'NUM_PAIRS': 1}, inputs={}
    )
    files.write_jsonl(folder / name, [record])
    job.finish(counts={'in': 9, 'dropped': {'too short': 7}})
  job = manifest.begin_directory(
    'negatives', folder / 'pairs', settings={}, inputs={}
  )
  pairs.write(folder / 'pairs', 'Mine', PAIRS, seed=1)
  job.finish(counts={})
  return folder


def test_pairs_are_read_as_they_were_written(work):
  found = {split: sorted(rows) for split, rows in pairs.read(
    work / 'pairs').items()}  # fmt: skip
  assert found == {split: sorted(rows) for split, rows in PAIRS.items()}


def test_directory_and_card(work, tmp_path):
  output = tmp_path / 'out'
  argv = ['export', f'--work_dir={work}', f'--output={output}']
  assert cli.main(argv) == cli.DONE
  _, header, body = (output / 'README.md').read_text().split('---\n', 2)
  header = yaml.safe_load(header)
  assert header['pretty_name'] == 'inpars_mine'
  assert header['size_categories'] == ['n<1K']
  assert [c['config_name'] for c in header['configs']] == ['queries', 'pairs']
  named = [f['path'] for c in header['configs'] for f in c['data_files']]
  assert named == [
    'queries/train.jsonl', 'queries/validation.jsonl', 'pairs/train.jsonl',
    'pairs/validation.jsonl',
  ]  # fmt: skip
  rows = {
    name: [
      json.loads(line) for line in (output / name).read_text().splitlines()
    ]
    for name in named
  }
  assert rows['queries/train.jsonl'] == [KEPT]
  assert sorted(rows['pairs/train.jsonl'], key=lambda row: row['doc_id']) == [
    pair._asdict() for pair in PAIRS['train']
  ]
  assert '| filter | NUM_PAIRS = 1 | 7 too short |' in body
  assert '| pairs | train | 2 |' in body
  made = json.loads((output / 'manifests' / 'filter.json').read_text())
  assert made['command'] == 'filter'
  assert manifest.read(output)['counts'] == {
    'queries': {'train': 1, 'validation': 1},
    'pairs': {'train': 2, 'validation': 2},
  }
  assert cli.main(argv) == cli.DONE  # Complete.


def test_untrained_models_are_said():
  counts = {'queries': {'train': 1}, 'pairs': {'train': 2}}
  assert 'The generator had random' in export.card(
    'x', counts, {}, ['generator']
  )
  assert 'random' not in export.card('x', counts, {})


@pytest.mark.parametrize(('count', 'name'), [
  (999, 'n<1K'), (1_000, '1K<n<10K'), (20_000, '10K<n<100K'),
  (100_000, '100K<n<1M'), (1_000_000, '1M<n<10M'),
])  # fmt: skip
def test_size_categories(count, name):
  assert export._size_category(count) == name


def test_a_run_that_did_not_end(work, tmp_path):
  with pytest.raises(errors.InputError, match='no complete filtered.jsonl'):
    export.export(tmp_path, tmp_path / 'out')
  files.write_jsonl(tmp_path / 'filtered.jsonl', [KEPT])
  with pytest.raises(errors.InputError, match='no complete filtered.jsonl'):
    export.export(tmp_path, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
