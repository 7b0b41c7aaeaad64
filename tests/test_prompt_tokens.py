import numpy as np
import pytest

from inpars_tpu import prompt_tokens, prompts, tokenizer
from tests import checkpoints

PROMPT = prompts.Prompt('Example: the bird\nDocument: ', '\nGood Question:')


@pytest.fixture(scope='module')
def tokens(tmp_path_factory):
  return tokenizer.GPT2Tokenizer(
    checkpoints.write_gpt2_tokenizer(tmp_path_factory.mktemp('gpt2'))
  )


def build(tokens, documents, max_prompt_tokens=200):
  return prompt_tokens.build(
    tokens,
    PROMPT,
    documents,
    max_document_tokens=20,
    max_prompt_tokens=max_prompt_tokens,
  )


def test_prefix_is_what_all_prompts_share(tokens):
  built = build(tokens, ['the river', 'the bird', 'a stone'])
  assert tokens.decode(built.prefix) == 'Example: the bird\nDocument:'
  whole = tokens.encode(built.texts)
  assert [built.prefix + own for own in built.own] == whole


def test_one_document_keeps_a_token_of_its_own(tokens):
  built = build(tokens, ['the river'])
  assert len(built.own[0]) == 1


def test_what_does_not_fit_has_no_part_in_the_prefix(tokens):
  whole = tokens.encode([PROMPT.build('the river')])[0]
  built = build(
    tokens, ['the river', 'a', '\n' * 9 + 'x'], max_prompt_tokens=len(whole)
  )
  assert [own is None for own in built.own] == [False, False, True]
  assert built.num_too_long == 1
  assert tokens.decode(built.prefix).endswith('Document:')


def test_nothing_fits(tokens):
  built = build(tokens, ['a', 'b'], max_prompt_tokens=3)
  assert (built.prefix, built.own, built.buckets) == ([], [None, None], [])


def test_long_documents_are_cut_and_counted(tokens):
  built = build(tokens, ['bird ' * 300, 'bird', ''])
  assert built.num_cut == 1
  assert len(built.own[0]) < 40


@pytest.mark.parametrize('lengths,max_buckets,expected', [
  ([3, 9, 10, 30], 8, [8, 16, 32]),
  ([3, 9, 10, 30], 2, [16, 32]),
  ([3, 9, 10, 30], 1, [32]),
  ([8] * 9 + [64], 2, [8, 64]),
  ([256] * 90 + [260] * 9 + [100], 2, [256, 264]),
  ([], 4, []),
])  # fmt: skip
def test_buckets_waste_the_fewest_tokens(lengths, max_buckets, expected):
  assert prompt_tokens.choose_buckets(lengths, max_buckets) == expected


def test_groups_are_of_like_length_and_filled_up():
  own = [[5], [5, 6], None, [5, 6, 7]]
  assert prompt_tokens.group([0, 1, 3], own, 2) == [[3, 1], [0, None]]
  assert prompt_tokens.group([], own, 2) == []


def test_padding_goes_to_the_next_bucket():
  padded, lengths = prompt_tokens.pad([[5, 6, 7], None, [8]], [2, 4, 8])
  np.testing.assert_array_equal(
    padded, [[5, 6, 7, 0], [0, 0, 0, 0], [8, 0, 0, 0]]
  )
  np.testing.assert_array_equal(lengths, [3, 1, 1])
