import numpy as np
import pytest

from inpars_tpu import errors, trec


def read(tmp_path, text):
  path = tmp_path / 'run.trec'
  path.write_text(text)
  return trec.read_run(path)


def test_ranks_by_score_not_by_the_rank_column(tmp_path):
  run = read(
    tmp_path,
    'q2 Q0 d1 1 0.5 tag\n'
    'q1 Q0 d1 1 -2 tag\n'
    '\n'
    'q2\tQ0\td2\t2\t1e1\ttag\r\n'
    'q1 Q0 d3 7 -1.5 tag',
  )
  assert run == {
    'q2': [('d2', 10.0), ('d1', 0.5)],
    'q1': [('d3', -1.5), ('d1', -2.0)],
  }
  assert list(run) == ['q2', 'q1']


def test_ties_of_32_bit_floats_are_in_descending_order_of_ids(tmp_path):
  run = read(
    tmp_path,
    'q Q0 10 1 1.00000001 t\nq Q0 9 2 1.0 t\nq Q0 a 3 1.0 t\nq Q0 b 4 2 t\n',
  )
  assert [doc_id for doc_id, _ in run['q']] == ['b', 'a', '9', '10']


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('q Q0 d 1 0.5\n', ':1: 5 columns, not six: query_id Q0 doc_id rank'),
    ('q Q0 d 1 0.5 t\nq Q0 d 2 my tag 9\n', ':2: 7 columns, not six'),
    ('q Q0 d 1 high t\n', ":1: score 'high' is not a number"),
    ('q Q0 d 1 nan t\n', ":1: score 'nan' is not a number"),
    ('q Q0 d 1 inf t\n', ":1: score 'inf' is not a number"),
    ('q Q0 d 1 2 t\n\nq Q0 d 2 1 t\n', ":3: query 'q' has 'd' twice"),
    ('q Q0 d 1 2 t\np Q0 d 1 1 u\n', ":2: tag 'u' after 't': two runs in"),
    ('\n', ': no lines'),
  ],
)
def test_malformed_runs_are_said_with_their_line(tmp_path, text, message):
  with pytest.raises(errors.InputError) as caught:
    read(tmp_path, text)
  assert str(caught.value).startswith(f'{tmp_path / "run.trec"}{message}')


def test_bytes_that_are_not_utf8(tmp_path):
  (tmp_path / 'run').write_bytes(b'q Q0 d 1 2 t\nq Q0 \xff 1 2 t\n')
  with pytest.raises(errors.InputError, match='run: the id .* is not UTF-8'):
    trec.read_run(tmp_path / 'run')


def test_strictly_decreasing_is_so_as_32_bit_floats():
  scores = trec.strictly_decreasing([2.0, 2.0, 2.0, 1.0, 1.5])
  assert scores == pytest.approx([2.0, 2.0, 2.0, 1.0, 1.0], abs=1e-6)
  assert np.all(np.diff(np.float32(scores)) < 0)
  assert trec.strictly_decreasing([3.0, 2.0]) == [3.0, 2.0]
  assert trec.strictly_decreasing([]) == []


def test_what_is_written_is_read_in_the_same_order(tmp_path):
  ids = ['b', 'a', 'c', 'd']
  scores = trec.strictly_decreasing([-0.25, -0.25, -0.25, -7.5])
  ranking = list(zip(ids, scores, strict=True))
  lines = list(trec.format_ranking('q', ranking, 'tag'))
  assert lines[0] == 'q Q0 b 1 -0.25 tag\n'
  assert lines[1].startswith('q Q0 a 2 -0.2500000')
  assert read(tmp_path, ''.join(lines)) == {'q': ranking}


def test_digits_of_a_score():
  (line,) = trec.format_ranking('q', [('d', 0.1)], 't', digits='.3f')
  assert line == 'q Q0 d 1 0.100 t\n'
  (line,) = trec.format_ranking('q', [('d', 4.171899)], 't', digits='')
  assert line == 'q Q0 d 1 4.171899 t\n'


def test_run_name_is_the_stem():
  assert trec.run_name('work/scifact/reranked_base.trec') == 'reranked_base'
  assert trec.run_name('bm25.k1=0.9.trec') == 'bm25.k1=0.9'


def test_byte_order_mark_is_no_part_of_an_id(tmp_path):
  (tmp_path / 'run').write_bytes(b'\xef\xbb\xbfq Q0 d 1 2 t\r\n')
  assert trec.read_run(tmp_path / 'run') == {'q': [('d', 2.0)]}


def test_a_run_in_any_order_of_lines_is_the_same(tmp_path):
  lines = ['q1 Q0 a 1 3 t', 'q2 Q0 a 1 9 t', 'q1 Q0 b 2 5 t', 'q2 Q0 c 2 8 t']
  run = read(tmp_path, '\n'.join(lines))
  assert run == {
    'q1': [('b', 5.0), ('a', 3.0)],
    'q2': [('a', 9.0), ('c', 8.0)],
  }
