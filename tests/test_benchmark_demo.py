import json

from benchmarks import demo
from inpars_tpu.demo import words, world


def test_means_and_deviations_over_the_seeds():
  rows = [
    {
      'seed': seed, 'bm25': 0.25, 'before': 0.3, 'after': after,
      'after_without_filter': 0.5, 'after_shuffled': 0.25, 'answered': 0.9,
      'answered_after_filter': 0.95,
    }
    for seed, after in ((1, 0.5), (2, 0.6), (3, 0.7))
  ]  # fmt: skip
  summary = demo.summarise(rows)
  assert summary['after'] == [0.6, 0.1]
  assert summary['after_minus_before'] == [0.3, 0.1]
  assert summary['after_minus_bm25'] == [0.35, 0.1]
  assert summary['filter_on_minus_off'] == [0.1, 0.1]
  assert summary['after_minus_shuffled'] == [0.25, 0.0]
  assert summary['answered_gain'] == [0.05, 0.0]


def test_control_has_no_query_with_its_own_document():
  rows = [
    {'doc_id': f'd{i}', 'query': f'q{i}', 'text': f't{i}'} for i in range(9)
  ]
  shuffled = demo.shuffle(rows)
  assert [row['query'] for row in shuffled] == [row['query'] for row in rows]
  assert {row['doc_id'] for row in shuffled} == {row['doc_id'] for row in rows}
  for row in shuffled:
    assert row['text'][1:] == row['doc_id'][1:] != row['query'][1:]


def test_one_seed_has_no_deviation():
  assert demo.deviation([0.5]) == 0.0


def test_share_of_queries_that_their_document_answers(tmp_path):
  thing = world.draw_things(words.TARGET, 4, world.NUM_THINGS)[0]
  asked = f'Which {thing.kind.question} of {thing.place} '
  queries = [
    asked + f'{thing.properties[0].question}?',
    asked + f'{thing.properties[2].document}?',
    asked + f'{thing.properties[2].document}',
    'Is there more?',
  ]
  path = tmp_path / 'queries.jsonl'
  path.write_text(
    ''.join(
      json.dumps({'doc_id': thing.name.lower(), 'query': query}) + '\n'
      for query in queries
    )
  )
  assert demo.share_answered([path], seed=4) == 0.5
