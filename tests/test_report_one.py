import dataclasses

from etils import epath

from inpars_tpu import charts, page, report_one, report_record
from tests import report_runs

FIGURES = {'bm25': 0.6789, 'monot5_3b': 0.777, 'inpars_v2': 0.774,
           'rankt5': 0.76}  # fmt: skip


def read(folder) -> report_record.Record:
  return report_record.read(epath.Path(folder))


def find(content: page.Page, kind: type) -> dict[str, page.Block]:
  """Title -> block, of all sections."""
  return {
    block.title: block
    for section in content.sections
    for block in section.blocks
    if isinstance(block, kind)
  }


def test_page_of_a_whole_run(tmp_path):
  content = report_one.build(
    read(report_runs.write_run(tmp_path / 'scifact')), FIGURES
  )
  assert content.title == 'inpars_tpu: scifact'
  assert content.subtitle == '12,345 documents, reranker from monot5'
  assert [section.title for section in content.sections] == [
    'Results', 'Test queries won and lost', 'Synthetic queries', 'Training',
    'Time and cost', 'Counts', 'Recipe and versions',
  ]  # fmt: skip
  figures = find(content, charts.Figure)
  assert [figure.name for figure in figures.values()] == [
    'bars', 'won-and-lost', 'scores', 'lengths', 'dropped', 'train-loss',
    'train-accuracy', 'train-mrr', 'seconds',
  ]  # fmt: skip
  (facts,) = (
    block
    for block in content.sections[0].blocks
    if isinstance(block, page.Facts)
  )
  assert facts.items == [
    ('nDCG@10, reranker after', '0.6250', ''),
    ('against BM25', '+0.1250', 'p = 0.0312, randomisation test'),
    ('queries kept', '30', 'of 40 written'),
    # 9 stages of 90 s on 2 devices, and evaluate on none: 475 / 1,000 hours.
    ('device-hours', '0.475', ''),
  ]
  assert content.notes == [
    'The reranker had random, untrained weights: the figures show that the '
    'loop runs, and nothing about quality.'
  ]


def test_ours_beside_the_published(tmp_path):
  record = read(report_runs.write_run(tmp_path / 'scifact'))
  tables = find(report_one.build(record, FIGURES), page.Table)
  assert tables['nDCG@10 beside what was published'].rows == [
    ['BM25', 'BM25', '0.5000', '0.6789', '-0.1789'],
    ['reranker before', 'monoT5-3B', '0.2500', '0.777', '-0.5270'],
    ['reranker after', 'InPars-v2', '0.6250', '0.774', '-0.1490'],
    ['', 'RankT5', '', '0.760', ''],
  ]
  assert tables['On the test queries'].rows[2] == [
    'reranker after', '0.6250', '0.7500',
  ]  # fmt: skip
  assert tables['Difference to BM25, and its p-value'].rows == [
    ['reranker after', '+0.1250 (0.0312)', '+0.0000 (1.0000)']
  ]
  assert find(report_one.build(record, {}), page.Table).keys() == (
    tables.keys() - {'nDCG@10 beside what was published'}
  )


def test_queries_won_and_lost(tmp_path):
  record = read(report_runs.write_run(tmp_path / 'scifact'))
  content = report_one.build(record, {})
  figure = find(content, charts.Figure)['reranker after minus BM25, by query']
  assert figure.summary.startswith('Of 4 queries 2 gain, 1 stay and 1 lose')
  tables = find(content, page.Table)
  assert tables['Won most'].rows == [
    ['q1', 'text of 1', '0.5000', '1.0000', '+0.5000'],
    ['q4', 'text of 4', '0.0000', '0.2500', '+0.2500'],
  ]
  assert tables['Lost most'].rows == [
    ['q2', 'text of 2', '0.5000', '0.2500', '-0.2500']
  ]
  without = dataclasses.replace(record, questions={})
  table = find(report_one.build(without, {}), page.Table)['Lost most']
  assert table.rows == [['q2', '0.5000', '0.2500', '-0.2500']]
  assert len(table.header) == 4


def test_synthetic_queries(tmp_path):
  record = read(report_runs.write_run(tmp_path / 'scifact'))
  content = report_one.build(record, {})
  figures = {f.name: f for f in find(content, charts.Figure).values()}
  assert figures['dropped'].rows == [
    ['too few tokens', '8'], ['kept', '30'], ['validation', '2'],
  ]  # fmt: skip
  assert figures['scores'].rows == [['-1 to -0.5', '16'], ['-0.5 to 0', '16']]
  assert figures['scores'].legend[-1] == ('mark', 'lowest that was kept')
  assert figures['lengths'].rows == [
    ['0 to 1', '10', '8'], ['1 to 2', '10', '8'], ['2 to 3', '10', '7'],
    ['3 to 4', '10', '7'],
  ]  # fmt: skip
  samples = find(content, page.Samples)
  chosen = samples['20 of 30 that were kept, drawn by the seed']
  assert len(chosen.items) == 20
  worst = samples['The 10 worst of them'].items
  assert worst[0].score == 'log_prob_true -0.7031'
  assert worst[0].query == report_runs.QUERY


def test_training(tmp_path):
  record = read(report_runs.write_run(tmp_path / 'scifact'))
  content = report_one.build(record, {})
  figures = {f.name: f for f in find(content, charts.Figure).values()}
  loss = figures['train-loss']
  assert loss.header == ['step', 'training batch', 'validation queries']
  assert loss.rows[-1] == ['4', '0.2500', '0.5000']
  assert figures['train-mrr'].rows == [['4', '0.7500']]
  lost = [*record.steps, {'step': 5, 'loss': float('nan')}]
  content = report_one.build(dataclasses.replace(record, steps=lost), {})
  (training,) = (s for s in content.sections if s.title == 'Training')
  assert training.blocks[0].text == 'The loss of 1 of 5 steps is no number.'
  assert training.blocks[-1].text == (
    '5 steps: 2.0 epochs of 30 positive. On the validation queries, at the '
    'end: mrr 0.7500.'
  )


def test_half_done_run_says_what_is_missing(tmp_path):
  report_runs.write_making(tmp_path / 'quora')
  record = read(tmp_path / 'quora')
  content = report_one.build(record, FIGURES)
  assert content.notes == [
    'Not there yet: train, search, rerank before, rerank after, evaluate.'
  ]
  assert 'Training' not in [section.title for section in content.sections]
  content = report_one.build(
    dataclasses.replace(record, begun=['train'], missing=['evaluate']), {}
  )
  assert content.notes == [
    'Begun and not complete: train.', 'Not there yet: evaluate.',
  ]  # fmt: skip
  ended = list(report_record.TESTING.values())
  content = report_one.build(dataclasses.replace(record, missing=ended), {})
  assert content.notes == [
    'No test queries were run: there is nothing to evaluate.'
  ]
  (folder := tmp_path / 'empty').mkdir()
  (folder / 'documents.jsonl.tmp').write_text('')
  content = report_one.build(read(folder), {})
  assert content.subtitle == 'nothing is complete yet'
  assert content.notes[0] == 'Begun and not complete: sample.'


def test_queries_of_any_length_are_binned(tmp_path):
  record = read(report_runs.write_run(tmp_path / 'scifact'))
  long = dataclasses.replace(record, tokens={0: 1, 64: 5}, kept=None)
  figures = find(report_one.build(long, {}), charts.Figure)
  rows = figures['Length of synthetic queries'].rows
  assert rows[0] == ['0 to 3', '1']
  assert rows[-1] == ['63 to 66', '5']
  assert sum(int(row[1]) for row in rows) == 6
