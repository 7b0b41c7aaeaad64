import io

import pytest
import sentencepiece

from inpars_tpu import errors, tokenizer
from tests import checkpoints


@pytest.fixture(scope='module')
def gpt2(tmp_path_factory):
  return tokenizer.GPT2Tokenizer(
    checkpoints.write_gpt2_tokenizer(tmp_path_factory.mktemp('gpt2'))
  )


def test_round_trip_of_any_text(gpt2):
  texts = ['The old river.', '', 'Größe\n\n 日本 \x00']
  assert [gpt2.decode(ids) for ids in gpt2.encode(texts)] == texts


def test_end_of_text_is_one_token_and_is_not_written(gpt2):
  ids = gpt2.encode(['bird<|endoftext|>'])[0]
  assert ids[-1] == 0
  assert gpt2.decode(ids) == 'bird'


def test_cut_is_at_the_character_where_the_token_ends(gpt2):
  text = 'the  bird\nsleeps near'
  num_tokens = len(gpt2.encode([text])[0])
  cuts = [gpt2.cut([text], n)[0] for n in range(1, num_tokens + 2)]
  assert all(text.startswith(cut) for cut in cuts)
  assert cuts[0] == 'the'
  assert cuts[-2:] == [text, text]
  assert [len(gpt2.encode([c])[0]) for c in cuts[:-1]] == list(
    range(1, num_tokens + 1)
  )


def test_cut_of_several(gpt2):
  assert gpt2.cut(['the bird', '', 'Größe'], 1) == ['the', '', 'G']


@pytest.mark.parametrize('text,parts', [
  ('a b\nc d', ('a b\n', 'c d')),
  ('a:\nb\n\nc:\n(d', ('a:\nb\n\nc:\n', '(d')),
  ('a b', ('', 'a b')),
  ('a\n b', ('', 'a\n b')),
  ('a \nb', ('', 'a \nb')),
  ('a\n\nb', ('', 'a\n\nb')),
  ('a\n', ('', 'a\n')),
  ('é\nb', ('', 'é\nb')),
  ('', ('', '')),
])  # fmt: skip
def test_split_is_after_a_newline_on_its_own(gpt2, text, parts):
  assert gpt2.split(text) == parts
  ends = ['', ' x', '\nx', '\n\n', '1\x00é 日本', '<|endoftext|>']
  for end in ends:
    head, rest = gpt2.encode([parts[0], parts[1] + end])
    assert head + rest == gpt2.encode([text + end])[0]


def test_every_token_with_a_newline_ends_a_query(gpt2):
  stops = gpt2.ids_with_newline()
  assert gpt2.encode(['\n'])[0][0] in stops
  assert all('\n' in gpt2.decode([i]) for i in stops)
  others = set(range(1, gpt2.num_tokens)) - set(stops)
  assert not any('\n' in gpt2.decode([i]) for i in others)


@pytest.mark.shared_data
def test_published_vocabularies(shared_data):
  gptj = tokenizer.GPT2Tokenizer(shared_data / 'tokenizers' / 'gptj')
  assert gptj.num_tokens == 50_257
  assert gptj.encode(['Hello world'])[0] == [15496, 995]
  assert {198, 628} <= set(gptj.ids_with_newline())
  t5 = tokenizer.T5Tokenizer(shared_data / 'tokenizers' / 't5')
  assert t5.num_tokens == 32_000
  assert (t5.piece_id('▁false'), t5.piece_id('▁true')) == (6136, 1176)
  assert t5.piece_id('▁no such piece') is None
  assert t5.encode(['Query: a', '']) == [[3, 27569, 10, 3, 9], []]
  assert t5.eos_id == 1
  assert t5.sentinel_id(10) == 32_089
  assert t5.sentinel_id(0) == 32_099


def test_directories_that_hold_no_tokenizer(tmp_path):
  with pytest.raises(errors.InputError, match='neither tokenizer.json nor'):
    tokenizer.GPT2Tokenizer(tmp_path)
  with pytest.raises(errors.InputError, match='neither spiece.model nor'):
    tokenizer.T5Tokenizer(tmp_path)
  (tmp_path / 'tokenizer.json').write_text('{')
  (tmp_path / 'spiece.model').write_text('{')
  with pytest.raises(errors.InputError, match='not a tokenizer'):
    tokenizer.GPT2Tokenizer(tmp_path)
  with pytest.raises(errors.InputError, match='not a tokenizer'):
    tokenizer.T5Tokenizer(tmp_path)


def test_vocabulary_without_end_of_sentence(tmp_path):
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(checkpoints.random_sentences(50, seed=0)),
    model_writer=model,
    vocab_size=60,
    eos_id=-1,
    minloglevel=2,
  )
  (tmp_path / 'spiece.model').write_bytes(model.getvalue())
  with pytest.raises(errors.InputError, match='has no </s>'):
    tokenizer.T5Tokenizer(tmp_path)
