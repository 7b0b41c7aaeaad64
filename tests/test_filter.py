import json

import numpy as np
import pytest

from inpars_tpu import cli, errors, files, filter, manifest, score_parts
from inpars_tpu import reranker as reranker_lib
from tests import t5_checkpoints

TEXTS = ['the river moves', 'a cold stone', 'green light', '', 'the old wheel']
DOCUMENTS = [{'doc_id': f'd{i}', 'text': text} for i, text in enumerate(TEXTS)]


def query(doc, text, *log_probs, **more):
  log_probs = list(log_probs) or [-1.0] * len(text.split())
  return {'doc_id': doc, 'query': text, 'log_probs': log_probs} | more


QUERIES = [
  query('d0', 'what moves the river', finished=True),
  query('d1', ''),
  query('d2', 'why light'),
  query('d3', 'what is cold water'),
  query('d4', 'which wheel is old', -0.5, -0.25, -0.5, -0.75),
]


@pytest.fixture(scope='module')
def reranker(tmp_path_factory):
  return t5_checkpoints.write_reranker(tmp_path_factory.mktemp('t5') / 'model')


def write(folder, queries=QUERIES, documents=DOCUMENTS):
  files.write_jsonl(folder / 'queries.jsonl', queries)
  files.write_jsonl(folder / 'documents.jsonl', documents)


def run(folder, model=None, queries='queries.jsonl', **macros):
  """Filters; returns the lines of filtered.jsonl."""
  filter.filter_queries(
    folder / queries,
    folder / 'documents.jsonl',
    folder / 'filtered.jsonl',
    t5_checkpoints.small_recipe(**macros),
    model=model,
  )
  return read(folder / 'filtered.jsonl')


def read(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_keeps_the_best_by_the_reranker(tmp_path, reranker):
  write(tmp_path)
  records = run(tmp_path, reranker, NUM_PAIRS='2')
  model = reranker_lib.MonoT5.load(
    reranker, dtype='float32', max_tokens=32, batch_tokens=128
  )
  kept = [QUERIES[i] for i in (0, 3, 4)]
  texts = [TEXTS[i] for i in (0, 3, 4)]
  scores = model.score_pairs(
    list(zip([q['query'] for q in kept], texts, strict=True))
  )
  assert records == [
    kept[i] | {'text': texts[i], 'log_prob_true': float(f'{scores[i]:.9g}')}
    for i in np.argsort(scores)[::-1][:2]
  ]
  made = manifest.read(tmp_path / 'filtered.jsonl')
  assert made['counts'] == {
    'in': 5,
    'out': 2,
    'validation': 0,
    'dropped': {
      'empty query': 1,
      'too few tokens': 1,
      'too many tokens': 0,
      'below the top': 1,
    },
  }
  assert sum(made['histogram']['counts']) == 3
  assert len(made['histogram']['edges']) == 21
  assert not (tmp_path / 'validation.jsonl').exists()


def test_fields_are_in_order(tmp_path, reranker):
  write(tmp_path, QUERIES[:1])
  (record,) = run(tmp_path, reranker)
  assert list(record) == [
    'doc_id', 'query', 'log_probs', 'finished', 'text', 'log_prob_true',
  ]  # fmt: skip


def test_keeps_the_best_by_mean_log_prob(tmp_path):
  write(tmp_path)
  records = run(tmp_path, FILTER_BY="'log_probs'", NUM_PAIRS='2')
  assert [record['doc_id'] for record in records] == ['d4', 'd0']
  assert records[0]['text'] == 'the old wheel'
  assert 'log_prob_true' not in records[0]


def test_keeps_the_order_where_nothing_chooses(tmp_path):
  write(tmp_path, QUERIES[::-1])
  records = run(tmp_path, FILTER_BY="'none'", NUM_PAIRS='2')
  assert [record['doc_id'] for record in records] == ['d4', 'd3']
  assert manifest.read(tmp_path / 'filtered.jsonl')['histogram'] is None


def test_ties_are_in_the_order_of_the_documents(tmp_path):
  write(tmp_path, [query(f'd{i}', 'a b c') for i in (4, 1, 3, 0)])
  records = run(tmp_path, FILTER_BY="'log_probs'")
  assert [record['doc_id'] for record in records] == ['d0', 'd1', 'd3', 'd4']


def test_the_number_of_tokens_is_that_of_the_log_probs(tmp_path):
  # One word, three tokens; three words, one token; and none.
  write(
    tmp_path,
    [
      query('d0', 'wheelboat', -1.0, -1.0, -1.0),
      query('d1', 'a b c', -1.0),
      {'doc_id': 'd2', 'query': 'a b c', 'log_probs': []},
      query('d3', 'a b c d e'),
    ],
  )
  records = run(
    tmp_path,
    FILTER_BY="'log_probs'",
    MIN_QUERY_TOKENS='2',
    MAX_QUERY_TOKENS='4',
  )
  assert [record['doc_id'] for record in records] == ['d0']
  made = manifest.read(tmp_path / 'filtered.jsonl')
  assert made['counts']['dropped'] == {
    'empty query': 0,
    'too few tokens': 2,
    'too many tokens': 1,
    'below the top': 0,
  }


def test_the_next_tenth_is_for_validation(tmp_path):
  documents = [{'doc_id': f'd{i}', 'text': f'text {i}'} for i in range(25)]
  queries = [query(f'd{i}', 'a b c', -float(i)) for i in range(25)]
  write(tmp_path, queries, documents)
  options = {
    'FILTER_BY': "'log_probs'", 'NUM_PAIRS': '20', 'MIN_QUERY_TOKENS': '1',
  }  # fmt: skip
  records = run(tmp_path, **options)
  validation = tmp_path / 'validation.jsonl'
  assert [r['doc_id'] for r in records] == [f'd{i}' for i in range(20)]
  assert [r['doc_id'] for r in read(validation)] == ['d20', 'd21']
  assert read(validation)[0]['text'] == 'text 20'
  first = validation.read_bytes(), (tmp_path / 'filtered.jsonl').read_bytes()
  run(tmp_path, **options)  # Complete: nothing is made.
  (tmp_path / 'filtered.jsonl.manifest.json').unlink()
  run(tmp_path, **options)
  assert first == (
    validation.read_bytes(),
    (tmp_path / 'filtered.jsonl').read_bytes(),
  )
  validation.write_text('')
  with pytest.raises(errors.InputError, match='validation.jsonl is not what'):
    run(tmp_path, **options)


def test_an_old_validation_does_not_stay(tmp_path):
  write(tmp_path)
  (tmp_path / 'validation.jsonl').write_text('{}\n')
  run(tmp_path, FILTER_BY="'none'")
  assert not (tmp_path / 'validation.jsonl').exists()


def test_goes_on_after_the_last_finished_part(tmp_path, reranker, monkeypatch):
  whole, folder = tmp_path / 'whole', tmp_path / 'cut'
  for each in (whole, folder):
    write(each)
  monkeypatch.setattr(score_parts, 'PART_PAIRS', 2)
  expected = run(whole, reranker)
  with monkeypatch.context() as patch:
    t5_checkpoints.interrupt_after(patch, 1)
    with pytest.raises(t5_checkpoints.Interrupted):
      run(folder, reranker)
  with monkeypatch.context() as patch:
    scored = t5_checkpoints.interrupt_after(patch, 9)
    assert run(folder, reranker) == expected
    assert scored == [1]


def make_shards(folder, name='queries', totals=(2, 2)):
  write(folder)
  for i, total in enumerate(totals):
    path = folder / name / f'queries-{i:05d}-of-{total:05d}.jsonl'
    files.write_jsonl(path, QUERIES[3 * i : 3 * i + 3])
  files.write_json(folder / name / 'manifest.json', {'command': 'generate'})
  return folder / name


def test_reads_the_shards_of_generate(tmp_path):
  make_shards(tmp_path)
  records = run(tmp_path, queries='queries', FILTER_BY="'none'")
  assert [record['doc_id'] for record in records] == ['d0', 'd3', 'd4']


def test_refuses_shards_that_are_not_complete(tmp_path):
  shards = make_shards(tmp_path)
  (shards / 'manifest.json').rename(shards / 'manifest.partial.json')
  with pytest.raises(errors.InputError, match='generate did not finish'):
    run(tmp_path, queries='queries', FILTER_BY="'none'")
  (shards / 'manifest.partial.json').unlink()
  with pytest.raises(errors.InputError, match=r'has no manifest\.json'):
    run(tmp_path, queries='queries', FILTER_BY="'none'")


def test_refuses_shards_with_one_missing(tmp_path):
  shards = make_shards(tmp_path)
  (shards / 'queries-00000-of-00002.jsonl').unlink()
  with pytest.raises(errors.InputError, match='has 1 shards and not 2'):
    run(tmp_path, queries='queries', FILTER_BY="'none'")


def test_reads_files_of_the_toolkit(tmp_path):
  write(
    tmp_path,
    [
      {'doc_id': 'd1', 'question': 'a b c', 'log_probs': [-1, -2, -3.0]},
      {
        'doc_id': 'elsewhere',
        'doc_text': 'its own text',
        'query': 'd e f',
        'log_probs': [-1.0, -2.0, -3.0],
      },
    ],
  )
  records = run(tmp_path, FILTER_BY="'log_probs'")
  assert records == [
    {
      'doc_id': 'd1',
      'query': 'a b c',
      'log_probs': [-1, -2, -3.0],
      'text': 'a cold stone',
    },
    {
      'doc_id': 'elsewhere',
      'query': 'd e f',
      'log_probs': [-1.0, -2.0, -3.0],
      'text': 'its own text',
    },
  ]


@pytest.mark.parametrize(
  ('record', 'message'),
  [
    (query('d9', 'a b c'), "queries.jsonl:2: document 'd9' is not in"),
    ({'doc_id': 'd0', 'log_probs': []}, "queries.jsonl:2: field 'query'"),
    ({'doc_id': 'd0', 'query': 'a'}, "queries.jsonl:2: field 'log_probs'"),
    (query('d0', 'a b', -1.0, float('nan')), 'queries.jsonl:2: .* holds nan'),
    (query('d0', 'a b', '-1.0'), "queries.jsonl:2: .* holds '-1.0'"),
    ({'query': 'a'}, "queries.jsonl:2: field 'doc_id' is missing"),
    (query('d0', 'a b c', doc_text=3), "queries.jsonl:2: field 'doc_text'"),
  ],
)
def test_names_the_line_that_is_wrong(tmp_path, record, message):
  write(tmp_path, [QUERIES[0], record])
  with pytest.raises(errors.InputError, match=message):
    run(tmp_path, FILTER_BY="'none'")
  assert not (tmp_path / 'filtered.jsonl').exists()


def test_says_why_no_query_is_left(tmp_path, reranker):
  write(tmp_path, [query('d0', ''), query('d1', 'a'), query('d2', ' ')])
  with pytest.raises(
    errors.InputError,
    match='no query is left: kept 0 of 3: 2 empty query, 1 too few tokens',
  ):
    run(tmp_path, reranker)
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'documents.jsonl',
    'queries.jsonl',
  ]


def test_prints_what_each_rule_dropped(tmp_path, capsys):
  write(tmp_path)
  run(
    tmp_path,
    FILTER_BY="'none'",
    NUM_PAIRS='1',
    DROP_COPIED_QUERIES='True',
  )
  assert (
    capsys.readouterr().out
    == """\
queries                              5
  empty query                       -1
  too few tokens                    -1
  too many tokens                    0
  copied from the document           0
  below the top                     -2
kept                                 1
kept for validation                  0
"""
  )


def test_needs_a_reranker_only_where_it_chooses(tmp_path, capsys):
  write(tmp_path)
  argv = [
    'filter',
    f'--queries={tmp_path / "queries.jsonl"}',
    f'--documents={tmp_path / "documents.jsonl"}',
    f'--output={tmp_path / "filtered.jsonl"}',
  ]
  assert cli.main(argv) == cli.WRONG_INPUT
  assert '--model' in capsys.readouterr().err
  assert cli.main([*argv, "--gin.FILTER_BY='none'"]) == cli.DONE


def test_choose():
  assert filter.choose([1, 0, 2], [-1.0, -1.0, -0.5]) == [2, 1, 0]
  assert list(filter.choose([5, 4], None)) == [0, 1]


def test_histogram():
  assert filter.histogram([0.0, 0.5, 1.0, 1.0]) == {
    'edges': [float(f'{i / 20:.6g}') for i in range(21)],
    'counts': [1] + [0] * 9 + [1] + [0] * 8 + [2],
  }
