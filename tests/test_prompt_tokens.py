import concurrent.futures

import numpy as np
import pytest

from inpars_tpu import collection, errors, prompt_tokens, prompts, tokenizer
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


def whole_prompts(built):
  return [[*built.prefix, *own] for own in built.own]


def test_prefix_is_what_all_prompts_share(tokens):
  built = build(tokens, ['the river', 'the bird', 'a stone'])
  assert tokens.decode(built.prefix) == 'Example: the bird\nDocument:'
  assert whole_prompts(built) == tokens.encode(
    [PROMPT.build(text) for text in ('the river', 'the bird', 'a stone')]
  )


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
  room = len(tokens.encode([PROMPT.build('')])[0])
  built = build(tokens, ['stone ' * 9, 'bird ' * 9], max_prompt_tokens=room)
  assert (built.prefix, built.own, built.buckets) == ([], [None, None], [])


def test_prompt_that_has_no_room_for_any_document(tokens):
  room = len(tokens.encode([PROMPT.build('')])[0])
  prompt_tokens.check_room(tokens, PROMPT, room)
  with pytest.raises(errors.InputError, match=f'{room} tokens without any'):
    build(tokens, ['a'], max_prompt_tokens=room - 1)


def test_prompts_without_a_common_prefix(tokens):
  documents = ['the river', 'a stone', '']
  prompt = prompts.Prompt('', ' is green.\nGood Question:')
  built = prompt_tokens.build(
    tokens, prompt, documents, max_document_tokens=20, max_prompt_tokens=200
  )
  assert built.prefix == []
  assert whole_prompts(built) == tokens.encode(
    [prompt.build(text) for text in documents]
  )


def test_chunks_share_one_prefix(tokens, monkeypatch):
  documents = [*checkpoints.random_sentences(8, seed=3), '\n', '']
  whole = build(tokens, documents)
  monkeypatch.setattr(prompt_tokens, '_CHUNK', 3)
  parts = build(tokens, documents)
  assert whole_prompts(parts) == whole_prompts(whole)
  assert (parts.prefix, parts.buckets, parts.num_chars, parts.num_cut) == (
    whole.prefix, whole.buckets, whole.num_chars, whole.num_cut
  )  # fmt: skip


def test_cancelled_between_chunks(tokens, monkeypatch):
  monkeypatch.setattr(prompt_tokens, '_CHUNK', 1)
  asked = iter([False, False, True])
  with pytest.raises(concurrent.futures.CancelledError):
    prompt_tokens.build(
      tokens, PROMPT, ['a'] * 9, max_document_tokens=20, max_prompt_tokens=200,
      is_cancelled=lambda: next(asked),
    )  # fmt: skip
  assert list(asked) == []


@pytest.mark.shared_data
@pytest.mark.parametrize('name', ['paper_gbq', 'paper_vanilla', 'toolkit_gbq'])
def test_published_prompts_are_tokenised_as_a_whole(shared_data, name):
  tokens = tokenizer.GPT2Tokenizer(shared_data / 'tokenizers' / 'gptj')
  prompt = prompts.load(name, shared_data)
  corpus = collection.Corpus(
    shared_data / 'data' / 'beir' / 'scifact' / 'corpus.jsonl'
  )
  documents = [corpus[i].text for i in range(50)]
  documents += ['', '\n', '\n\nA', ' a', '\x00', '日本', '<|endoftext|>', '...']
  built = prompt_tokens.build(
    tokens, prompt, documents, max_document_tokens=256, max_prompt_tokens=1984
  )
  texts = [
    prompt.build(text[:n])
    for text, n in zip(documents, built.num_chars, strict=True)
  ]
  assert whole_prompts(built) == tokens.encode(texts)
  assert len(built.prefix) > 250


def test_long_documents_are_cut_and_counted(tokens):
  built = build(tokens, ['bird ' * 300, 'bird', ''])
  assert built.num_cut == 1
  assert built.num_chars == [4 + 19 * 5, 4, 0]
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
