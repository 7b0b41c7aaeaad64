import numpy as np
import pytest

from inpars_tpu import (
  cli,
  collection,
  errors,
  files,
  manifest,
  rerank,
  score_parts,
  trec,
)
from inpars_tpu import reranker as reranker_lib
from tests import t5_checkpoints

CORPUS = [
  {'_id': 'd0', 'title': 'River', 'text': 'the river moves'},
  {'_id': 'd1', 'title': '', 'text': 'a cold stone'},
  {'_id': 'd2', 'title': 'Light', 'text': 'green light'},
  {'_id': 'd3', 'title': '', 'text': ''},
  {'_id': 'd4', 'title': '', 'text': 'a cold stone'},
]
QUERIES = [
  {'_id': 'q1', 'text': 'what is a river'},
  {'_id': 'q2', 'text': 'why is the stone â€œcoldâ€\x9d'},  # Mojibake.
  {'_id': 'q3', 'text': 'a boat'},
]
RUN = """\
q2 Q0 d4 1 9.5 bm25
q2 Q0 d0 2 9.0 bm25
q2 Q0 d1 3 8.0 bm25
q2 Q0 d2 4 7.0 bm25
q1 Q0 d2 1 5.0 bm25
q1 Q0 d3 2 4.0 bm25
q1 Q0 d1 3 3.0 bm25
"""


@pytest.fixture(scope='module')
def reranker(tmp_path_factory):
  return t5_checkpoints.write_reranker(tmp_path_factory.mktemp('t5') / 'model')


def write(folder, run=RUN, queries=QUERIES):
  files.write_jsonl(folder / 'corpus.jsonl', CORPUS)
  files.write_jsonl(folder / 'queries.jsonl', queries)
  (folder / 'bm25.trec').write_text(run)


def run(folder, model, output='reranked.trec', **macros):
  rerank.rerank(
    folder / 'bm25.trec',
    folder / 'corpus.jsonl',
    folder / 'queries.jsonl',
    model,
    folder / output,
    t5_checkpoints.small_recipe(**macros),
  )
  return folder / output


def test_ranks_by_the_reranker(tmp_path, reranker):
  write(tmp_path)
  output = run(tmp_path, reranker)
  model = reranker_lib.MonoT5.load(
    reranker, dtype='float32', max_tokens=32, batch_tokens=128
  )
  lines = [line.split() for line in output.read_text().splitlines()]
  assert [line[0] for line in lines] == ['q2'] * 4 + ['q1'] * 3
  assert [line[3] for line in lines] == ['1', '2', '3', '4', '1', '2', '3']
  assert {(line[1], line[5]) for line in lines} == {('Q0', 'inpars_tpu')}
  texts = {
    'd0': 'River the river moves', 'd1': 'a cold stone',
    'd2': 'Light green light', 'd3': '', 'd4': 'a cold stone',
  }  # fmt: skip
  for query_id, text in (
    ('q2', 'why is the stone "cold"'),
    ('q1', 'what is a river'),
  ):
    own = [line for line in lines if line[0] == query_id]
    doc_ids = [line[2] for line in own]
    expected = model.score(text, [texts[doc_id] for doc_id in doc_ids])
    np.testing.assert_allclose(
      [float(line[4]) for line in own], expected, atol=1e-5
    )
    assert np.all(np.diff([float(line[4]) for line in own]) < 0)
  # The same text twice: the order of the first stage.
  ranks = [line[2] for line in lines[:4]]
  assert ranks.index('d1') == ranks.index('d4') + 1
  assert manifest.read(output)['counts'] == {
    'in': 7, 'out': 7, 'queries': 2, 'below RERANK_HITS': 0,
  }  # fmt: skip


def test_documents_below_the_hits_keep_their_order(tmp_path, reranker):
  write(tmp_path)
  output = run(tmp_path, reranker, RERANK_HITS='2')
  ranked = trec.read_run(output)
  assert [doc_id for doc_id, _ in ranked['q2']][2:] == ['d1', 'd2']
  assert {doc_id for doc_id, _ in ranked['q2'][:2]} == {'d4', 'd0'}
  assert manifest.read(output)['counts']['below RERANK_HITS'] == 3


def test_reorder():
  ranking = [('a', 9.0), ('b', 8.0), ('c', 7.0), ('d', 6.0)]
  assert rerank.reorder(ranking, [-2.0, -1.0, -1.0]) == [
    ('b', -1.0),
    ('c', float(np.float32(-1.0000001))),
    ('a', -2.0),
    ('d', float(np.float32(-2.0000002))),
  ]


def test_command_line(tmp_path, reranker):
  write(tmp_path)
  expected = run(tmp_path, reranker).read_bytes()
  argv = [
    'rerank',
    f'--run={tmp_path / "bm25.trec"}',
    f'--corpus={tmp_path / "corpus.jsonl"}',
    f'--queries={tmp_path / "queries.jsonl"}',
    f'--model={reranker}',
    f'--output={tmp_path / "other.trec"}',
    '--gin.MAX_INPUT_TOKENS=32',
    '--gin.SCORE_BATCH_TOKENS=128',
    "--gin.RERANKER_DTYPE='float32'",
  ]
  assert cli.main(argv) == cli.DONE
  assert (tmp_path / 'other.trec').read_bytes() == expected


def test_goes_on_after_the_last_finished_part(tmp_path, reranker, monkeypatch):
  write(tmp_path)
  monkeypatch.setattr(score_parts, 'PART_PAIRS', 3)
  whole = run(tmp_path, reranker, 'whole.trec').read_bytes()
  with monkeypatch.context() as patch:
    scored = t5_checkpoints.interrupt_after(patch, 1)
    with pytest.raises(t5_checkpoints.Interrupted):
      run(tmp_path, reranker)
    assert scored == [4]  # Queries are not torn apart.
  assert not (tmp_path / 'reranked.trec').exists()
  with monkeypatch.context() as patch:
    scored = t5_checkpoints.interrupt_after(patch, 9)
    assert run(tmp_path, reranker).read_bytes() == whole
    assert scored == [3]


@pytest.mark.parametrize(
  ('extra', 'message'),
  [
    (
      'q9 Q0 d0 1 2.0 bm25\n',
      "queries.jsonl has no text for 'q9', which the run",
    ),
    (
      'q3 Q0 d9 1 2.0 bm25\n',
      "corpus.jsonl has no document 'd9', which the run",
    ),
    ('q3 Q0 d0 1 2.0\n', 'bm25.trec:8: 5 columns, not six'),
  ],
)
def test_names_what_is_not_there_before_it_scores(
  tmp_path, reranker, monkeypatch, extra, message
):
  write(tmp_path, RUN + extra)
  scored = t5_checkpoints.interrupt_after(monkeypatch, 0)
  with pytest.raises(errors.InputError, match=message):
    run(tmp_path, reranker)
  assert scored == []
  assert not (tmp_path / 'reranked.trec.parts').exists()


def test_names_many_by_the_first_few(tmp_path, reranker):
  lines = [f'q1 Q0 x{i} 1 {9 - i} bm25\n' for i in range(8)]
  write(tmp_path, RUN + ''.join(lines) + 'q3 Q0 x0 1 1.0 bm25\n')
  names = ', '.join(f"'x{i}'" for i in range(5))
  with pytest.raises(
    errors.InputError, match=f'has no document {names} and 3 more, which'
  ):
    run(tmp_path, reranker)


def test_a_document_is_not_taken_for_another_with_its_hash(
  tmp_path, reranker, monkeypatch
):
  write(tmp_path, RUN + 'q3 Q0 d9 1 2.0 bm25\n')
  key = collection._key
  monkeypatch.setattr(
    collection, '_key', lambda name: key('d0' if name == 'd9' else name)
  )
  with pytest.raises(errors.InputError, match="has no document 'd9', which"):
    run(tmp_path, reranker)


def test_refuses_a_query_without_text(tmp_path, reranker):
  write(tmp_path, queries=[*QUERIES[:1], {'_id': 'q2', 'text': ' '}])
  with pytest.raises(errors.InputError, match="no text in 'q2'"):
    run(tmp_path, reranker)
