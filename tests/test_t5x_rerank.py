import json

import pytest

from inpars_tpu import errors, t5x_rerank

RUN = """\
q1 Q0 d1 1 9 bm25
q1 Q0 d2 2 8 bm25
q1 Q0 d3 3 7 bm25
q2 Q0 d2 1 5 bm25
"""


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'bm25.trec').write_text(RUN)
  documents = [('d1', 'One', 'first'), ('d2', '', 'second'), ('d3', '', 'x')]
  write_jsonl(
    tmp_path / 'corpus.jsonl',
    [{'_id': i, 'title': title, 'text': text} for i, title, text in documents],
  )
  write_jsonl(
    tmp_path / 'queries.jsonl',
    [{'_id': 'q1', 'text': 'which?'}, {'_id': 'q2', 'text': 'what?'}],
  )
  return tmp_path


def write_jsonl(path, records):
  path.write_text(''.join(f'{json.dumps(record)}\n' for record in records))


def scored(query_id, doc_id, score):
  return {'inputs': {'query_id': query_id, 'doc_id': doc_id}, 'score': score}


def test_pairs(folder):
  output = folder / 'pairs.jsonl'
  words = ['pairs', f'--run={folder}/bm25.trec', f'--output={output}']
  words += [f'--{name}={folder}/{name}.jsonl' for name in ('corpus', 'queries')]
  assert t5x_rerank.main([*words, '--hits=2']) == 0
  assert [json.loads(line) for line in output.read_text().splitlines()] == [
    {'query_id': 'q1', 'doc_id': 'd1', 'query': 'which?', 'text': 'One first'},
    {'query_id': 'q1', 'doc_id': 'd2', 'query': 'which?', 'text': 'second'},
    {'query_id': 'q2', 'doc_id': 'd2', 'query': 'what?', 'text': 'second'},
  ]


def test_run_of_the_scores_that_two_shards_wrote(folder):
  scores = folder / 'scores'
  scores.mkdir()
  name = 'inpars_run_pairs-score.jsonl-0000{}-of-00002'
  write_jsonl(
    scores / name.format(0), [scored('q1', 'd1', -3.0), scored('q2', 'd2', -1)]
  )
  write_jsonl(scores / name.format(1), [scored('q1', 'd2', -0.5)])
  (scores / f'{name.format(1)}.COMPLETED').write_text('')
  words = [f'--run={folder}/bm25.trec', f'--scores={scores}', '--hits=2']
  output = folder / 'reranked.trec'
  assert t5x_rerank.main(['run', *words, f'--output={output}']) == 0
  lines = [line.split() for line in output.read_text().splitlines()]
  assert [(q, doc, rank) for q, _, doc, rank, _, _ in lines] == [
    ('q1', 'd2', '1'), ('q1', 'd1', '2'), ('q1', 'd3', '3'), ('q2', 'd2', '1'),
  ]  # fmt: skip
  assert [float(line[4]) for line in lines[:2]] == [-0.5, -3.0]


@pytest.mark.parametrize(
  ('records', 'message'),
  [
    ([scored('q1', 'd1', -1)], "no score of query 'q1' and document 'd2'"),
    ([scored('q1', 'd1', -1)] * 2, ':2: a second score of'),
    ([{'score': -1}], ':1: needs inputs with query_id and doc_id'),
    ([scored('q1', 'd1', None)], ':1: needs inputs with query_id and doc_id'),
  ],
)
def test_scores_that_do_not_fit(folder, records, message):
  write_jsonl(folder / 'scores', records)
  with pytest.raises(errors.InputError, match=message):
    t5x_rerank.write_run(
      folder / 'bm25.trec', folder / 'scores', folder / 'out', hits=3
    )
  assert not (folder / 'out').exists()


def test_a_folder_without_scores_is_one_line(folder, capsys):
  words = [f'--run={folder}/bm25.trec', f'--scores={folder}']
  assert t5x_rerank.main(['run', *words, f'--output={folder}/out']) == 2
  assert capsys.readouterr().err == (
    f't5x_rerank: {folder} holds no scores of t5x.infer\n'
  )
