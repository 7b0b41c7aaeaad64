import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from inpars_tpu import cli, errors, generate, prompts, recipe, tokenizer
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


def write_model(directory):
  checkpoints.write_gpt2_tokenizer(directory)
  # A likely newline, so that some queries end and some do not.
  newline = tokenizer.GPT2Tokenizer(directory).ids_with_newline()[0]
  checkpoints.write_gptj(directory, CONFIG, seed=4, head_bias={newline: 2.5})
  return directory


@pytest.fixture(scope='module')
def model_path(tmp_path_factory):
  return write_model(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def generator(model_path):
  return generator_lib.GPTJ.load(model_path, 'float32')


@pytest.fixture
def documents_path(tmp_path):
  path = tmp_path / 'documents.jsonl'
  texts = [*checkpoints.random_sentences(7, seed=5), '', '\n\n', 'a ' * 500]
  path.write_text(
    ''.join(
      json.dumps({'doc_id': f'd{i}', 'text': text}) + '\n'
      for i, text in enumerate(texts)
    )
  )
  return path


@pytest.fixture
def macros(tmp_path):
  template = tmp_path / 'prompt.txt'
  template.write_text(PROMPT.build('{document}'))
  return recipe.load([], BINDINGS | {'PROMPT': f"'{template}'"})


def greedy_by_hand(generator, text: str, max_new_tokens: int):
  """Token by token, each time from the whole prompt, one row, no cache."""
  ids = generator.tokenizer.encode([PROMPT.build(text)])[0]
  stops, tokens, log_probs = generator.tokenizer.ids_with_newline(), [], []
  for _ in range(max_new_tokens):
    row = np.zeros((1, 128), np.int32)
    row[0, : len(ids + tokens)] = ids + tokens
    logits, _ = PREFILL(
      generator._params,
      CONFIG,
      model.empty_prefix(generator._params, CONFIG),
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


def decode(generator, texts, batch_size, max_new_tokens=8):
  built = generator.build_prompts(
    texts, PROMPT, max_document_tokens=20, max_new_tokens=max_new_tokens
  )
  prefix = generator.read_prefix(built)
  return dict(
    generator.write_queries(
      built,
      prefix,
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
      generator, generator.tokenizer.cut(text, 20), 8
    )
    assert got[index].text == query
    assert got[index].is_finished == is_finished
    np.testing.assert_allclose(got[index].log_probs, log_probs, atol=1e-4)
  assert {query.is_finished for query in got.values()} == {True, False}


def test_prompt_that_does_not_fit_is_left_empty(generator):
  texts = ['the river', 'a ' * 600]
  queries = generator.generate(
    texts, prompt='vanilla', max_document_tokens=500, max_new_tokens=8
  )
  assert queries[1] == generator_lib.Query('', [], True)


def run(documents_path, model_path, output, macros, **kwargs):
  generate.generate(documents_path, model_path, output, macros, **kwargs)
  return [
    json.loads(line)
    for path in sorted(output.glob('queries-*.jsonl'))
    for line in path.read_text().splitlines()
  ]


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
  record = json.loads((output / 'manifest.json').read_text())
  assert record['counts']['in'] == record['counts']['out'] == 10
  assert record['counts']['documents cut'] >= 1
  assert record['counts']['never ended'] == sum(
    not row['finished'] for row in rows
  )


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
  record = json.loads((broken / 'manifest.json').read_text())
  (broken / 'manifest.json').unlink()
  (broken / 'manifest.partial.json').write_text(json.dumps(record))
  (broken / 'queries-00001-of-00003.jsonl').unlink()
  (broken / 'queries-00001-of-00003.jsonl.tmp').write_text('{"doc_')
  run(documents_path, model_path, broken, macros)
  for path in sorted((tmp_path / 'whole').glob('queries-*')):
    assert (broken / path.name).read_bytes() == path.read_bytes()


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
      shard_index=index, num_shards=2,
    )  # fmt: skip
  assert parts == whole
  assert (output / 'manifest.json').exists()
  assert not (output / 'manifest.partial.json').exists()


def test_another_number_of_processes_goes_on(
  documents_path, model_path, macros, tmp_path, monkeypatch
):
  monkeypatch.setattr(generate, 'SHARD_DOCUMENTS', 4)
  output = tmp_path / 'parts'
  run(documents_path, model_path, output, macros, shard_index=2, num_shards=3)
  first = output / 'queries-00002-of-00003.jsonl'
  assert [p.name for p in output.glob('queries-*')] == [first.name]
  written = first.stat().st_mtime_ns
  rows = run(documents_path, model_path, output, macros)
  assert [row['doc_id'] for row in rows] == [f'd{i}' for i in range(10)]
  assert first.stat().st_mtime_ns == written


@pytest.mark.parametrize('flags', [
  ['--shard_index=2', '--num_shards=2'],
  ['--num_shards=0'],
  ['--shard_index=a'],
])  # fmt: skip
def test_wrong_shards(documents_path, model_path, tmp_path, capsys, flags):
  output = tmp_path / 'queries'
  code = cli.main([
    'generate', f'--documents={documents_path}', f'--model={model_path}',
    f'--output={output}', "--gin.PROMPT='gbq'", *flags,
  ])  # fmt: skip
  assert code == cli.WRONG_INPUT
  assert '--shard_index=' in capsys.readouterr().err
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
  documents_path, model_path, macros, tmp_path
):
  run(documents_path, model_path, tmp_path / 'queries', macros)
  other = recipe.load([], BINDINGS | {'MAX_NEW_TOKENS': '9'})
  with pytest.raises(errors.InputError, match='MAX_NEW_TOKENS = 8 there'):
    run(documents_path, model_path, tmp_path / 'queries', other)


def test_terminated_command_exits_with_75(documents_path, model_path, tmp_path):
  command = [
    sys.executable, '-m', 'inpars_tpu', 'generate',
    f'--documents={documents_path}', f'--model={model_path}',
    f'--output={tmp_path / "queries"}', "--gin.PROMPT='gbq'",
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


def test_tokenizer_larger_than_the_embedding(model_path, tmp_path):
  folder = tmp_path / 'model'
  small = dict(CONFIG.__dict__, vocab_size=300)
  checkpoints.write_gptj(folder, config_lib.GPTJConfig(**small), seed=0)
  checkpoints.write_gpt2_tokenizer(folder)
  with pytest.raises(errors.InputError, match='400 tokens and the embedding'):
    generator_lib.GPTJ.load(folder)
  convert.check(folder)
