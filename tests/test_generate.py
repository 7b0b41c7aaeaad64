import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid

import jax
import numpy as np
import pytest

from inpars_tpu import (
  cli,
  errors,
  files,
  generate,
  manifest,
  processes,
  prompts,
  recipe,
  row_decoder,
  tokenizer,
)
from inpars_tpu import generator as generator_lib
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import convert, model
from tests import checkpoints

CONFIG = config_lib.GPTJConfig(
  vocab_size=400, max_positions=256, model_dim=32, num_layers=2,
  num_heads=4, rotary_dim=4, mlp_dim=64,
)  # fmt: skip
PROMPT = prompts.Prompt('Example: the bird\nDocument: ', '\nGood Question:')
PREFILL = jax.jit(model.prefill, static_argnames='config')
BINDINGS = {
  'PROMPT': "'vanilla'",
  'MAX_DOCUMENT_TOKENS': '20',
  'MAX_NEW_TOKENS': '8',
  'GENERATOR_DTYPE': "'float32'",
  'GENERATOR_BATCH_SIZE': '4',
}


def write_model(directory, config=CONFIG):
  checkpoints.write_gpt2_tokenizer(directory)
  # A likely newline, so that some queries end and some do not.
  newline = tokenizer.GPT2Tokenizer(directory).ids_with_newline()[0]
  checkpoints.write_gptj(directory, config, seed=4, head_bias={newline: 2.5})
  return directory


def write_documents(path, num_documents):
  """Ten unlike documents and so on; the last three of each ten are odd."""
  texts = [
    text
    for seed in range(-(-num_documents // 10))
    for text in (
      *checkpoints.random_sentences(7, seed=5 + seed), '', '\n\n', 'a ' * 500
    )
  ][:num_documents]  # fmt: skip
  files.write_jsonl(
    path, ({'doc_id': f'd{i}', 'text': text} for i, text in enumerate(texts))
  )
  return path


@pytest.fixture(scope='module')
def model_path(tmp_path_factory):
  return write_model(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def generator(model_path):
  return generator_lib.GPTJ.load(model_path, 'float32')


@pytest.fixture
def documents_path(tmp_path):
  return write_documents(tmp_path / 'documents.jsonl', 10)


@pytest.fixture
def prompt_path(tmp_path):
  path = tmp_path / 'prompt.txt'
  path.write_text(PROMPT.build('{document}'))
  return path


@pytest.fixture
def bindings(prompt_path):
  return BINDINGS | {'PROMPT': f"'{prompt_path}'"}


@pytest.fixture
def macros(bindings):
  return recipe.load([], bindings)


def greedy_by_hand(generator, text, max_new_tokens, prompt=PROMPT):
  """Token by token, each time from the whole prompt, one row, no cache."""
  ids = generator.tokenizer.encode([prompt.build(text)])[0]
  stops, tokens, log_probs = generator.tokenizer.ids_with_newline(), [], []
  for _ in range(max_new_tokens):
    row = np.zeros((1, 128), np.int32)
    row[0, : len(ids + tokens)] = ids + tokens
    logits, _ = PREFILL(
      generator._decoder.params,
      CONFIG,
      model.empty_prefix(generator._decoder.params, CONFIG),
      row,
      np.array([len(ids + tokens)], np.int32),
    )
    log_prob = np.array(logits[0] - np.logaddexp.reduce(logits[0]))
    tokens.append(int(log_prob.argmax()))
    log_probs.append(log_prob.max())
    if tokens[-1] in stops:
      break
  is_finished = tokens[-1] in stops
  text = generator.tokenizer.decode(tokens).partition('\n')[0].strip()
  return text, log_probs[: len(tokens) - is_finished], is_finished


def decode(generator, texts, batch_size, max_new_tokens=8, prompt=PROMPT):
  built = generator.build_prompts(
    texts, prompt, max_document_tokens=20, max_new_tokens=max_new_tokens
  )
  shared = generator.read_shared(built)
  return dict(
    generator.write_queries(
      built,
      shared,
      range(len(texts)),
      max_new_tokens=max_new_tokens,
      batch_size=batch_size,
    )
  )


@pytest.mark.parametrize('batch_size', [1, 4])
def test_equals_greedy_from_whole_prompts(generator, batch_size):
  texts = checkpoints.random_sentences(6, seed=1)
  got = decode(generator, texts, batch_size)
  assert sorted(got) == list(range(6))
  for index, text in enumerate(texts):
    query, log_probs, is_finished = greedy_by_hand(
      generator, generator.tokenizer.cut([text], 20)[0], 8
    )
    assert got[index].text == query
    assert got[index].is_finished == is_finished
    np.testing.assert_allclose(got[index].log_probs, log_probs, atol=1e-4)
  assert {query.is_finished for query in got.values()} == {True, False}


@pytest.mark.parametrize('uses,is_whole', [(1, False), (1e-3, True)])
def test_table_of_the_first_layer_where_it_is_worth_it(
  generator, prompt_path, monkeypatch, uses, is_whole
):
  texts = checkpoints.random_sentences(6, seed=8)
  settings = {'prompt': str(prompt_path), 'max_new_tokens': 8}
  tables = []

  def note(read_shared, built):
    tables.append(read_shared(built))
    return tables[-1]

  monkeypatch.setattr(
    generator._decoder,
    'read_shared',
    functools.partial(note, generator._decoder.read_shared),
  )
  expected = generator.generate(texts, **settings)
  monkeypatch.setattr(row_decoder, '_MIN_TABLE_USES', uses)
  # As many rows as the vocabulary, without being of all of it.
  monkeypatch.setattr(
    row_decoder, '_TABLE_MULTIPLE', generator.config.vocab_size
  )
  got = generator.generate(texts, **settings)
  assert [shared.is_whole for shared in tables] == [False, is_whole]
  assert tables[0].table is None
  assert len(tables[1].table.rows.outer) == generator.config.vocab_size
  assert all(query.log_probs for query in got)
  assert [q.text for q in got] == [q.text for q in expected]
  for one, another in zip(got, expected, strict=True):
    np.testing.assert_allclose(one.log_probs, another.log_probs, atol=1e-5)


def test_prompt_that_does_not_fit_is_left_empty(generator, prompt_path):
  texts = ['the river', 'a ' * 600]
  queries = generator.generate(
    texts, prompt=str(prompt_path), max_document_tokens=500, max_new_tokens=8
  )
  assert queries[0].log_probs
  assert queries[1] == generator_lib.Query('', [], True)


def test_documents_without_a_common_prefix(generator):
  texts = ['the river', 'stone bird', 'a', 'Bird of the boat.']
  prompt = prompts.Prompt('', '\nGood Question:')
  got = decode(generator, texts, 3, prompt=prompt)
  for index, text in enumerate(texts):
    query, log_probs, _ = greedy_by_hand(generator, text, 8, prompt)
    assert got[index].text == query
    np.testing.assert_allclose(got[index].log_probs, log_probs, atol=1e-4)


def run(documents_path, model_path, output, macros, **kwargs):
  generate.generate(documents_path, model_path, output, macros, **kwargs)
  return [
    json.loads(line)
    for path in sorted(output.glob('queries-*.jsonl'))
    for line in path.read_text().splitlines()
  ]


def read_manifest(output):
  return json.loads((output / 'manifest.json').read_text())


def test_shards_hold_one_line_per_document_in_order(
  documents_path, model_path, macros, tmp_path, monkeypatch
):
  monkeypatch.setattr(generate, 'SHARD_DOCUMENTS', 4)
  output = tmp_path / 'queries'
  rows = run(documents_path, model_path, output, macros, save_prompts=True)
  assert sorted(p.name for p in output.iterdir()) == [
    'manifest.json',
    'queries-00000-of-00003.jsonl',
    'queries-00001-of-00003.jsonl',
    'queries-00002-of-00003.jsonl',
  ]
  assert [row['doc_id'] for row in rows] == [f'd{i}' for i in range(10)]
  assert set(rows[0]) == {
    'doc_id', 'query', 'log_probs', 'finished', 'prompt_text'
  }  # fmt: skip
  assert rows[7]['prompt_text'] == PROMPT.build('')
  for row in rows:
    assert '\n' not in row['query']
    assert len(row['log_probs']) <= 8


def test_counts_are_of_the_files_and_the_prompts(
  documents_path, model_path, bindings, tmp_path, monkeypatch
):
  monkeypatch.setattr(generate, 'SHARD_DOCUMENTS', 4)
  # Of the ten documents the last, of 500 tokens, is cut to 300, which the
  # context of 256 cannot hold; the seventh, with 19 words, is cut at no place.
  macros = recipe.load([], bindings | {'MAX_DOCUMENT_TOKENS': '300'})
  output = tmp_path / 'queries'
  rows = run(documents_path, model_path, output, macros)
  counts = read_manifest(output)['counts']
  assert counts['documents cut'] == counts['prompts too long'] == 1
  assert counts['in'] == counts['out'] == 10
  assert [row['query'] for row in rows].count('') == counts['empty queries']
  assert 1 <= counts['empty queries'] < 10
  unfinished = [row for row in rows if not row['finished']]
  assert all(len(row['log_probs']) == 8 for row in unfinished)
  assert 1 <= len(unfinished) == counts['never ended'] < 10
  # A run that has nothing left to write counts the same, and reads no weights.
  (output / 'manifest.json').rename(output / 'manifest.partial.json')
  monkeypatch.setattr(generator_lib.GPTJ, 'load', None)
  run(documents_path, model_path, output, macros)
  assert read_manifest(output)['counts'] == counts


def test_shard_that_was_changed(
  documents_path, model_path, macros, tmp_path, monkeypatch
):
  monkeypatch.setattr(generate, 'SHARD_DOCUMENTS', 4)
  output = tmp_path / 'queries'
  run(documents_path, model_path, output, macros)
  (output / 'manifest.json').rename(output / 'manifest.partial.json')
  changed = output / 'queries-00002-of-00003.jsonl'
  changed.write_text(changed.read_text().splitlines(keepends=True)[0])
  with pytest.raises(errors.InputError, match='has 1 lines for 2 documents'):
    run(documents_path, model_path, output, macros)


def test_queries_do_not_depend_on_the_shard_size(
  documents_path, model_path, macros, tmp_path, monkeypatch
):
  whole = run(documents_path, model_path, tmp_path / 'a', macros)
  monkeypatch.setattr(generate, 'SHARD_DOCUMENTS', 3)
  parts = run(documents_path, model_path, tmp_path / 'b', macros)
  for one, other in zip(whole, parts, strict=True):
    assert one['query'] == other['query']
    np.testing.assert_allclose(one['log_probs'], other['log_probs'], atol=1e-4)


def test_killed_run_goes_on_with_the_same_bytes(
  documents_path, model_path, macros, tmp_path, monkeypatch
):
  monkeypatch.setattr(generate, 'SHARD_DOCUMENTS', 4)
  run(documents_path, model_path, tmp_path / 'whole', macros)
  broken = tmp_path / 'broken'
  shutil.copytree(tmp_path / 'whole', broken)
  (broken / 'manifest.json').rename(broken / 'manifest.partial.json')
  (broken / 'queries-00001-of-00003.jsonl').unlink()
  (broken / 'queries-00001-of-00003.jsonl.tmp').write_text('{"doc_')
  run(documents_path, model_path, broken, macros)
  for path in sorted((tmp_path / 'whole').glob('queries-*')):
    assert (broken / path.name).read_bytes() == path.read_bytes()
  assert (
    read_manifest(broken)['counts']
    == (read_manifest(tmp_path / 'whole')['counts'])
  )


@pytest.mark.parametrize('order', [[0, 1], [1, 0]])
def test_processes_that_share_only_the_output(
  documents_path, model_path, macros, tmp_path, monkeypatch, order
):
  monkeypatch.setattr(generate, 'SHARD_DOCUMENTS', 4)
  whole = run(documents_path, model_path, tmp_path / 'whole', macros)
  output = tmp_path / 'parts'
  for index in order:
    assert not (output / 'manifest.json').exists()
    parts = run(
      documents_path, model_path, output, macros,
      others=processes.Processes(index, 2),
    )  # fmt: skip
  assert parts == whole
  assert (output / 'manifest.json').exists()
  assert not (output / 'manifest.partial.json').exists()


@pytest.mark.parametrize('moment', ['_write_shards', '_count'])
def test_two_processes_that_end_at_the_same_moment(
  documents_path, model_path, macros, tmp_path, monkeypatch, moment
):
  monkeypatch.setattr(generate, 'SHARD_DOCUMENTS', 4)
  output, function = tmp_path / 'queries', getattr(generate, moment)

  def run_after_another(*args):
    with monkeypatch.context() as patch:
      patch.setattr(generate, moment, function)
      run(documents_path, model_path, output, macros)
    written.append((output / 'manifest.json').read_bytes())
    return function(*args)

  written: list[bytes] = []
  monkeypatch.setattr(generate, moment, run_after_another)
  run(documents_path, model_path, output, macros)
  record = read_manifest(output)
  assert json.loads(written[0]) | {'seconds': record['seconds']} == record
  if moment == '_write_shards':  # It saw the manifest, and left it alone.
    assert (output / 'manifest.json').read_bytes() == written[0]
  assert len(list(output.iterdir())) == 4


def test_another_number_of_processes_goes_on(
  documents_path, model_path, macros, tmp_path, monkeypatch
):
  monkeypatch.setattr(generate, 'SHARD_DOCUMENTS', 4)
  output = tmp_path / 'parts'
  others = processes.Processes(2, 3)
  run(documents_path, model_path, output, macros, others=others)
  first = output / 'queries-00002-of-00003.jsonl'
  assert [p.name for p in output.glob('queries-*')] == [first.name]
  written = first.stat().st_mtime_ns
  rows = run(documents_path, model_path, output, macros)
  assert [row['doc_id'] for row in rows] == [f'd{i}' for i in range(10)]
  assert first.stat().st_mtime_ns == written


@pytest.mark.parametrize('flags', [
  ['--shard_index=2', '--num_shards=2'],
  ['--shard_index=0', '--num_shards=0'],
  ['--shard_index=a', '--num_shards=2'],
  ['--shard_index=1'],
])  # fmt: skip
def test_wrong_shards(documents_path, model_path, tmp_path, capsys, flags):
  output = tmp_path / 'queries'
  code = cli.main([
    'generate', f'--documents={documents_path}', f'--model={model_path}',
    f'--output={output}', "--gin.PROMPT='gbq'", *flags,
  ])  # fmt: skip
  assert code == cli.WRONG_INPUT
  assert '--shard_index' in capsys.readouterr().err
  assert not output.exists()


@pytest.mark.parametrize('mesh,message', [
  ('modl=1', 'did you mean model?'),
  ('data=3', 'is of 3 devices and there are 1; nearest: data=1,model=1'),
])  # fmt: skip
def test_wrong_mesh(
  documents_path, model_path, tmp_path, capsys, mesh, message
):
  output = tmp_path / 'queries'
  code = cli.main([
    'generate', f'--documents={documents_path}', f'--model={model_path}',
    f'--output={output}', "--gin.PROMPT='gbq'", f'--mesh={mesh}',
  ])  # fmt: skip
  assert code == cli.WRONG_INPUT
  assert message in capsys.readouterr().err
  assert not output.exists()


def test_int8_weights_do_not_continue(
  documents_path, model_path, macros, tmp_path
):
  run(documents_path, model_path, tmp_path / 'queries', macros)
  bindings = {'PROMPT': repr(macros.PROMPT), 'GENERATOR_WEIGHTS': "'int8'"}
  other = recipe.load([], BINDINGS | bindings)
  with pytest.raises(errors.InputError, match='GENERATOR_WEIGHTS = None there'):
    run(documents_path, model_path, tmp_path / 'queries', other)


def test_other_settings_do_not_continue(
  documents_path, model_path, macros, bindings, tmp_path
):
  run(documents_path, model_path, tmp_path / 'queries', macros)
  other = recipe.load([], bindings | {'MAX_NEW_TOKENS': '9'})
  with pytest.raises(errors.InputError, match='MAX_NEW_TOKENS = 8 there'):
    run(documents_path, model_path, tmp_path / 'queries', other)


def test_terminated_command_exits_with_75(
  documents_path, model_path, prompt_path, tmp_path
):
  command = [
    sys.executable, '-m', 'inpars_tpu', 'generate',
    f'--documents={documents_path}', f'--model={model_path}',
    f'--output={tmp_path / "queries"}', f"--gin.PROMPT='{prompt_path}'",
  ]  # fmt: skip
  process = subprocess.Popen(
    command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
  )
  while not (tmp_path / 'queries').exists():
    assert process.poll() is None, process.stderr.read()
  process.send_signal(signal.SIGTERM)
  _, stderr = process.communicate(timeout=60)
  assert process.returncode == cli.INTERRUPTED
  assert stderr.splitlines()[-1].startswith('inpars-tpu: interrupted')
  assert not list((tmp_path / 'queries').glob('*.jsonl*'))


def test_odd_documents_change_no_other_query(model_path, macros, tmp_path):
  good = checkpoints.random_sentences(6, seed=2)
  odd = {
    'empty': '',
    'newlines': '\n' * 50,
    'long': 'the river stone ' * 6_250,
    'one_word': 'x' * 100_000,
    'nul': '\x00 the\x00bird',
    'surrogates': '\ud800 the bird \udc00\udfff',
    'end': '<|endoftext|>',
    'braces': '{document}',
  }
  texts = {f'd{i}': text for i, text in enumerate(good)}
  queries = {}
  for name, documents in (('good', texts), ('all', odd | texts)):
    path = tmp_path / f'{name}.jsonl'
    path.write_text(  # ASCII: half a surrogate pair has no UTF-8.
      ''.join(
        json.dumps({'doc_id': doc_id, 'text': text}) + '\n'
        for doc_id, text in documents.items()
      )
    )
    rows = run(path, model_path, tmp_path / name, macros, save_prompts=True)
    assert [row['doc_id'] for row in rows] == list(documents)
    queries[name] = {row['doc_id']: row for row in rows}
  for doc_id, row in queries['good'].items():
    other = queries['all'][doc_id]
    assert (other['query'], other['finished']) == (
      row['query'],
      row['finished'],
    )
    np.testing.assert_allclose(other['log_probs'], row['log_probs'], atol=1e-4)
  # Each odd one has a query of its own: its prompt holds what is left of it.
  assert all(queries['all'][doc_id]['log_probs'] for doc_id in odd)
  shown = {doc_id: queries['all'][doc_id]['prompt_text'] for doc_id in odd}
  assert shown['empty'] == PROMPT.build('')
  assert shown['newlines'].startswith(PROMPT.before + '\n\n')
  assert shown['surrogates'] == PROMPT.build('\ufffd the bird \ufffd\ufffd')
  assert shown['nul'] == PROMPT.build(odd['nul'])
  assert shown['braces'] == PROMPT.build(odd['braces'])
  for doc_id in ('long', 'one_word'):
    cut = shown[doc_id].removeprefix(PROMPT.before).removesuffix(PROMPT.after)
    assert odd[doc_id].startswith(cut)
    assert 10 < len(cut) < 200
  counts = read_manifest(tmp_path / 'all')['counts']
  assert (
    counts['documents cut']
    - read_manifest(tmp_path / 'good')['counts']['documents cut']
    == 3
  )  # newlines, long, one_word
  assert counts['prompts too long'] == 0


@pytest.mark.parametrize('lines,template,words', [
  (['{"doc_id": "a\\tb", "text": "x"}'], None, "1: id 'a\\tb' is empty or has"),
  (['{"doc_id": "a", "text": "x"}'] * 2, None, "2: doc_id 'a' is there twice"),
  (['{"doc_id": "a", "text": "x"}', '{"doc_id"'], None, '2: not JSON'),
  (['{"doc_id": "a"}'], None, "1: field 'text' is missing"),
  ([''], None, 'no documents'),
  (None, 'Document:\nQuestion:', 'prompt.txt has 0 of {document} or'),
  (None, 'bird ' * 300 + '{document}', 'tokens without any document; the'),
])  # fmt: skip
def test_bad_input_is_one_line_and_nothing_written(
  documents_path, model_path, prompt_path, tmp_path, capsys,
  lines, template, words,
):  # fmt: skip
  if lines is not None:
    documents_path.write_text('\n'.join(lines))
  if template is not None:
    prompt_path.write_text(template)
  code = cli.main([
    'generate', f'--documents={documents_path}', f'--model={model_path}',
    f'--output={tmp_path / "queries"}', f"--gin.PROMPT='{prompt_path}'",
  ])  # fmt: skip
  error = capsys.readouterr().err
  assert code == cli.WRONG_INPUT
  assert error.count('\n') == 1
  assert words in error
  assert not (tmp_path / 'queries').exists()


@pytest.mark.skipif(
  not os.path.exists('/dev/full'), reason='no /dev/full, a disk that is full'
)
def test_full_disk(
  documents_path, model_path, macros, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(generate, 'SHARD_DOCUMENTS', 4)
  monkeypatch.setattr(files.uuid, 'uuid4', lambda: uuid.UUID(int=0))
  output = tmp_path / 'queries'
  flags = [
    'generate', f'--documents={documents_path}', f'--model={model_path}',
    f'--output={output}',
    *(f'--gin.{name}={value!r}' for name, value in macros.only(
      'PROMPT', 'MAX_NEW_TOKENS').items()),
  ]  # fmt: skip
  full = f'queries-00001-of-00003.jsonl.{"0" * 32}.tmp'
  begin = manifest.begin_directory

  def begin_on_a_full_disk(*args, **kwargs):
    job = begin(*args, **kwargs)
    os.symlink('/dev/full', job.output / full)
    return job

  with monkeypatch.context() as patch:
    patch.setattr(manifest, 'begin_directory', begin_on_a_full_disk)
    assert cli.main(flags) == cli.FAILED
  assert capsys.readouterr().err.splitlines()[-1] == (
    'inpars-tpu: no space left on the disk: '
    f'{output}/queries-00001-of-00003.jsonl'
  )
  assert sorted(p.name for p in output.iterdir()) == [
    'manifest.partial.json', 'queries-00000-of-00003.jsonl'
  ]  # fmt: skip
  assert cli.main(flags) == cli.DONE
  assert read_manifest(output)['counts']['out'] == 10


def test_tokenizer_larger_than_the_embedding(model_path, tmp_path):
  folder = tmp_path / 'model'
  small = dict(CONFIG.__dict__, vocab_size=300)
  checkpoints.write_gptj(folder, config_lib.GPTJConfig(**small), seed=0)
  checkpoints.write_gpt2_tokenizer(folder)
  with pytest.raises(errors.InputError, match='400 tokens and the embedding'):
    generator_lib.GPTJ.load(folder)
  convert.check(folder)
