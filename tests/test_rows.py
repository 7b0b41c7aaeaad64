"""What the small GPT-J reads, as tokens with their weights."""

import itertools

import numpy as np
import pytest

from inpars_tpu import prompts, tokenizer
from inpars_tpu.demo import rows
from tests import checkpoints


@pytest.fixture(scope='module')
def tokens(tmp_path_factory):
  folder = tmp_path_factory.mktemp('gpt2')
  checkpoints.write_gpt2_tokenizer(folder)
  return tokenizer.GPT2Tokenizer(folder)


def test_documents_count_less_than_what_is_told(tokens):
  told, plain = rows.weigh(
    tokens, ['Document: It vents steam.\nSummary: A skiff.\n', 'A skiff.\n']
  )
  answer = tokens.encode([' A skiff.\n'])[0]
  assert told.tokens[-len(answer) :] == answer
  assert told.weights == [0.1] * (len(told.tokens) - len(answer)) + [1.0] * len(
    answer
  )
  assert set(plain.weights) == {1.0}


def test_passages_begin_after_an_end(tokens):
  (end,) = tokens.encode(['<|endoftext|>'])[0]
  for row in itertools.islice(rows.passages(tokens, rng()), 20):
    assert row.tokens[0] == end and end not in row.tokens[1:]
    assert row.weights[0] == 0 and all(row.weights[1:])


def test_answers_go_on_from_the_prompt(tokens):
  """Half of them as the generator's input, then a question; half otherwise."""
  prompt = prompts.load('gbq')
  num_questions = 0
  for row in itertools.islice(rows.answers(tokens, prompt, rng()), 200):
    text = tokens.decode(row.tokens)
    document, after = text[1:].split('\n', 1)
    assert text.startswith(' ') and text.endswith('\n')
    if '?' in after:
      num_questions += 1
      assert f' {document}{prompt.after} ' in text
  assert 70 < num_questions < 130


def rng():
  return np.random.default_rng(0)
