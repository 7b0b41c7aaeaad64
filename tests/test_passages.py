import collections

import numpy as np
import pytest

from inpars_tpu import files, manifest, monot5, passages, recipe, score
from inpars_tpu import reranker as reranker_lib
from tests import t5_checkpoints


def letters(texts):
  return [list(text) for text in texts]  # A token for each letter.


def test_split():
  def split(text, room, most=9):
    return passages.split(letters, text, room, most)

  assert split('ab cd ef g', 4) == ['ab cd', 'ef g']
  assert split('ab cd ef g', 3) == ['ab', 'cd', 'ef g']
  assert split('ab cd ef g', 2) == ['ab', 'cd', 'ef', 'g']
  assert split('ab cd ef g', 2, most=2) == ['ab', 'cd ef g']
  assert split('ab  cd\nef', 9) == ['ab cd ef']
  assert split('abcdef gh', 3) == ['abcdef', 'gh']  # Cut where it is scored.
  assert split('', 3) == ['']


def test_best():
  scores = [-3.0, -1.0, -2.0, -5.0]
  assert passages.best(scores, [2, 1, 1]) == [-1.0, -2.0, -5.0]
  assert passages.best([], []) == []


@pytest.fixture(scope='module')
def reranker(tmp_path_factory):
  return t5_checkpoints.write_reranker(tmp_path_factory.mktemp('t5') / 'model')


def load(reranker, max_passages):
  return reranker_lib.MonoT5.load(
    reranker, dtype='float32', max_tokens=32, batch_tokens=128,
    max_passages=max_passages,
  )  # fmt: skip


WORDS = 'a cold stone the river moves green light in the boat'.split()
LONG = ' '.join(WORDS * 7)  # A token a word; there is room for 23.
PAIRS = [('a boat', LONG), ('a river', 'the river'), ('a boat', 'a stone')]


def test_the_best_passage_counts(reranker):
  model = load(reranker, 3)
  counts = collections.Counter()
  inputs, num = model.tokenise_passages(PAIRS, counts)
  assert num == [3, 1, 1]
  assert max(map(len, inputs)) <= 32
  # The third takes all the rest, and is cut.
  assert counts == {
    reranker_lib.DOCUMENTS_SPLIT: 1, monot5.DOCUMENTS_CUT: 1,
  }  # fmt: skip
  each = model.score_inputs(inputs)
  assert len(set(each[:3])) == 3
  expected = [max(each[:3]), *each[3:]]
  np.testing.assert_allclose(model.score_pairs(PAIRS), expected, atol=1e-6)
  # Every word of the first two passages is in order, none is lost.
  pieces = passages.split(
    model.tokenizer.encode,
    LONG,
    32 - len(model.tokenise([('a boat', '')])[0]),
    3,
  )
  assert ' '.join(pieces) == LONG


def test_one_passage_is_the_start_of_the_document(reranker):
  inputs, num = load(reranker, 1).tokenise_passages(PAIRS)
  assert inputs == load(reranker, 3).tokenise(PAIRS)
  assert num == [1, 1, 1]


def test_a_query_that_fills_the_input_is_one_passage(reranker):
  assert load(reranker, 3).tokenise_passages([(LONG, LONG)])[1] == [1]


def test_score_by_gin(reranker, tmp_path):
  files.write_jsonl(
    tmp_path / 'pairs.jsonl', ({'query': q, 'text': d} for q, d in PAIRS)
  )
  macros = t5_checkpoints.small_recipe(MAX_PASSAGES='3')
  output = tmp_path / 'scored.jsonl'
  score.score(tmp_path / 'pairs.jsonl', reranker, output, macros)
  got = [r['log_prob_true'] for _, r in files.read_jsonl(output, 'scores')]
  expected = load(reranker, 3).score_pairs(PAIRS)
  np.testing.assert_allclose(got, expected, atol=1e-6)
  record = manifest.read(output)
  assert record['settings']['MAX_PASSAGES'] == 3
  assert record['counts'][reranker_lib.DOCUMENTS_SPLIT] == 1
  assert recipe.load().MAX_PASSAGES == 1  # The paper's.
