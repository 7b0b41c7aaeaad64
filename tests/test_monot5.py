import collections

import pytest

from inpars_tpu import errors, files, monot5, tokenizer
from tests import t5_checkpoints


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  return t5_checkpoints.write_reranker(tmp_path_factory.mktemp('t5') / 'model')


@pytest.fixture(scope='module')
def pieces(directory):
  return tokenizer.T5Tokenizer(directory)


def test_text():
  assert monot5.MONOT5.text('q', 'd') == 'Query: q Document: d Relevant:'
  turned = monot5.RerankerSpec('{document} | {query}?')
  assert turned.text('q', 'd') == 'd | q?'


def test_text_takes_braces_as_they_are():
  text = monot5.MONOT5.text('{document}', '{query} {0} {')
  assert text == 'Query: {document} Document: {query} {0} { Relevant:'
  turned = monot5.RerankerSpec('{document} | {query}?')
  assert turned.text('{document}', '{query}') == '{query} | {document}?'


@pytest.mark.parametrize(
  'name',
  [
    'monot5-3b-msmarco-10k',
    'monot5-base-med-msmarco',
    'models--castorini--monot5-base-msmarco/snapshots/77f8e3f7',
  ],
)
def test_knows_what_castorini_published(tmp_path, name):
  (tmp_path / name).mkdir(parents=True)
  assert monot5.read_spec(tmp_path / name) == monot5.MONOT5


@pytest.mark.parametrize(
  'name',
  [
    'mt5-base-mmarco-v2',
    'mt5-base-en-pt-msmarco-v1',
    'models--unicamp-dl--mt5-base-en-msmarco/snapshots/77f8e3f7',
  ],
)
def test_mt5_says_no_and_yes(tmp_path, name):
  (tmp_path / name).mkdir(parents=True)
  spec = monot5.read_spec(tmp_path / name)
  assert spec == monot5.RerankerSpec(label_words=('no', 'yes'))
  assert spec.template == monot5.MONOT5.template


@pytest.mark.parametrize(
  'name',
  [
    'flan-t5-xl',
    'my-monot5-3b-msmarco-10k',
    'mt5-base',
    'mt5-13b-mmarco-100k',  # Its false word is empty.
    'models--castorini--mt5-base-mmarco-v2/snapshots/1',
  ],
)
def test_guesses_nothing(tmp_path, name):
  (tmp_path / name).mkdir(parents=True)
  with pytest.raises(errors.InputError, match='--label_words=false,true') as e:
    monot5.read_spec(tmp_path / name)
  for part in ('"template": ', '"label_words": ["false", ', '"logit_id": '):
    assert part in str(e.value)
  given = monot5.read_spec(tmp_path / name, 'no,yes')
  assert given.label_words == ('no', 'yes')
  assert given.template == monot5.MONOT5.template


@pytest.mark.parametrize('words', ['true', 'false,true,maybe', 'false, true'])
def test_label_words_are_two(tmp_path, words):
  with pytest.raises(errors.InputError, match='is not two words'):
    monot5.read_spec(tmp_path, words)


@pytest.mark.parametrize(
  'spec',
  [
    monot5.MONOT5,
    monot5.RerankerSpec('{query} {document}', ('no', 'yes')),
    monot5.RerankerSpec('{query} {document}', None, 32_089),
  ],
)
def test_reads_the_spec_that_it_wrote(tmp_path, spec):
  monot5.write_spec(tmp_path, spec)
  assert monot5.read_spec(tmp_path) == spec


def test_words_of_the_user_may_not_contradict_the_directory(tmp_path):
  monot5.write_spec(tmp_path, monot5.MONOT5)
  assert monot5.read_spec(tmp_path, 'false,true') == monot5.MONOT5
  with pytest.raises(errors.InputError, match=r"says \('false', 'true'\)"):
    monot5.read_spec(tmp_path, 'no,yes')


@pytest.mark.parametrize(
  ('record', 'message'),
  [
    ([], 'needs a template'),
    ({'label_words': ['false', 'true']}, 'needs a template'),
    ({'template': '{query}', 'logit_id': 3}, 'must hold {document} once'),
    ({'template': '{query} {document}'}, 'either label_words or a logit_id'),
    ({'template': '{query} {document}', 'words': []}, "'words'"),
    ({'template': '{query} {document}', 'logit_id': 'a'}, 'logit_id is no int'),
    (
      {'template': '{query} {document}', 'label_words': ['true']},
      'label_words: ',
    ),
    (
      {'template': '{query} {document}', 'label_words': ['yes', 'yes']},
      "both label_words are 'yes'",
    ),
  ],
)
def test_names_what_is_wrong_in_reranker_json(tmp_path, record, message):
  files.write_json(tmp_path / 'reranker.json', record)
  with pytest.raises(errors.InputError, match=message) as error:
    monot5.read_spec(tmp_path)
  assert 'reranker.json' in str(error.value)


def test_label_words_are_single_pieces(pieces):
  false, true = monot5.label_ids(monot5.MONOT5, pieces)
  assert pieces.encode(['true false']) == [[true, false]]
  spec = monot5.RerankerSpec(label_words=('false', 'riverboat'))
  num_pieces = len(pieces.encode(['riverboat'])[0])
  assert num_pieces > 1
  with pytest.raises(
    errors.InputError, match=f"label word 'riverboat' is {num_pieces} pieces"
  ):
    monot5.label_ids(spec, pieces)
  assert monot5.label_ids(
    monot5.RerankerSpec(label_words=None, logit_id=7), pieces
  ) == [7]


def build(pieces, queries, documents, max_tokens):
  counts = collections.Counter()
  inputs = monot5.build_inputs(
    monot5.MONOT5, pieces, queries, documents, max_tokens, counts
  )
  return inputs, dict(counts)


def test_input_is_the_whole_text_and_its_end(pieces):
  (first, second), counts = build(
    pieces, ['the river', 'a'], ['old  stone', ''], 32
  )
  assert first == [
    *pieces.encode(['Query: the river Document: old  stone Relevant:'])[0],
    pieces.eos_id,
  ]
  assert second == [
    *pieces.encode(['Query: a Document:  Relevant:'])[0],
    pieces.eos_id,
  ]
  assert counts == {}


def test_cuts_the_document_and_nothing_after_it(pieces):
  tail = [*pieces.encode(['Relevant:'])[0], pieces.eos_id]
  document = 'water ' * 50
  (cut, whole), counts = build(
    pieces, ['the river'] * 2, [document, 'water'], 16
  )
  assert len(cut) == 16
  assert cut[-len(tail) :] == tail
  assert whole[-len(tail) :] == tail
  assert counts == {'documents cut': 1}
  # As much of it as fits, tokenised in one piece.
  water = pieces.encode(['water'])[0]
  assert cut == whole[: -len(tail)] + water * (16 - len(whole)) + tail


def test_cuts_a_query_that_leaves_no_room(pieces):
  tail = [*pieces.encode(['Relevant:'])[0], pieces.eos_id]
  (cut,), counts = build(pieces, ['river ' * 50], ['a stone'], 16)
  assert len(cut) == 16
  assert cut[-len(tail) :] == tail
  assert counts == {'queries cut': 1}
  head = pieces.encode(['Query: river river'])[0]
  assert cut[: len(head)] == head


def test_a_limit_below_the_template_is_an_error(pieces):
  with pytest.raises(errors.InputError, match='no room for the template'):
    build(pieces, ['river'], ['stone'], 4)


def test_a_cut_template_may_have_the_document_first(pieces):
  spec = monot5.RerankerSpec('{document} is near {query}')
  counts = collections.Counter()
  cut, full = monot5.build_inputs(
    spec,
    pieces,
    ['the river', 'river ' * 50],
    ['water ' * 50] * 2,
    16,
    counts,
  )
  tail = [*pieces.encode(['is near the river'])[0], pieces.eos_id]
  assert len(cut) == len(full) == 16
  assert cut[-len(tail) :] == tail
  assert full[:-1] == pieces.encode(['is near ' + 'river ' * 50])[0][:15]
  assert counts == {'documents cut': 1, 'queries cut': 1}


def test_reads_on_where_a_document_is_mostly_blanks(pieces):
  document = ' ' * 1_000 + 'water'
  (tokens,), counts = build(pieces, ['the river'], [document], 32)
  text = 'Query: the river Document: water Relevant:'
  assert tokens == [*pieces.encode([text])[0], pieces.eos_id]
  assert counts == {}


@pytest.mark.shared_data
def test_true_and_false_of_t5(shared_data):
  t5 = tokenizer.T5Tokenizer(shared_data / 'tokenizers' / 't5')
  assert monot5.label_ids(monot5.MONOT5, t5) == [6136, 1176]


@pytest.mark.shared_data
def test_cuts_at_every_limit_around_the_length(shared_data):
  t5 = tokenizer.T5Tokenizer(shared_data / 'tokenizers' / 't5')
  document = next(
    files.read_jsonl(shared_data / 'data/beir/scifact/corpus.jsonl', 'corpus')
  )[1]['text']
  query = 'what is it?'
  whole = t5.encode([f'Query: {query} Document: {document} Relevant:'])[0]
  head = t5.encode([f'Query: {query} Document:'])[0]
  tail = t5.encode([' Relevant:'])[0]
  assert tail == [31484, 17, 10]  # ▁Relevan t :
  size = len(whole) + 1  # With </s>.
  assert size == 453
  for limit in [*range(10, 64), *range(size - 48, size + 2), 512]:
    (tokens,), counts = build(t5, [query], [document], limit)
    room = limit - 1
    if limit >= size:
      assert (tokens, counts) == ([*whole, 1], {})
    elif len(head) + len(tail) > room:
      assert limit < 13
      assert counts == {'queries cut': 1}
    else:
      assert tokens == [*whole[: room - len(tail)], *tail, 1]
      assert counts == {'documents cut': 1}
    assert len(tokens) == min(limit, size)
    assert tokens[-4:] == [*tail, 1]


@pytest.mark.shared_data
def test_cuts_a_query_at_every_limit(shared_data):
  t5 = tokenizer.T5Tokenizer(shared_data / 'tokenizers' / 't5')
  query = 'does the river carry sand ' * 20
  (whole,) = t5.encode([f'Query: {query}'])
  tail = t5.encode([' Document:  Relevant:'])[0]
  for limit in range(16, len(whole) + len(tail) + 4):
    (tokens,), counts = build(t5, [query], ['a stone'], limit)
    room = limit - 1 - len(tail)
    assert tokens[-4:] == [31484, 17, 10, 1]
    assert len(tokens) <= limit
    if room < len(whole):
      assert tokens == [*whole[:room], *tail, 1]
      assert counts == {'queries cut': 1}
    elif counts:  # Not all three tokens of the document.
      assert counts == {'documents cut': 1}
      assert len(tokens) == limit


def test_one_logit_is_called_logit():
  spec = monot5.RerankerSpec(label_words=None, logit_id=7)
  assert (monot5.MONOT5.field, spec.field) == ('log_prob_true', 'logit')
