import json

import pytest

from inpars_tpu import (
  cli,
  errors,
  files,
  manifest,
  monot5,
  processes,
  score,
  score_parts,
)
from inpars_tpu import reranker as reranker_lib
from tests import t5_checkpoints

PAIRS = [
  {'query': 'what is a river', 'text': 'the river moves', 'id': 7},
  {'query': 'a boat', 'text': ''},
  {'text': 'stone and water', 'query': 'a boat'},
  {'query': 'a boat', 'text': 'water ' * 50},
  {'query': 'why', 'text': 'the wheel holds the bird é'},
]


@pytest.fixture(scope='module')
def reranker(tmp_path_factory):
  return t5_checkpoints.write_reranker(tmp_path_factory.mktemp('t5') / 'model')


def write(folder, records):
  files.write_jsonl(folder / 'pairs.jsonl', records)
  return folder / 'pairs.jsonl'


def score_file(folder, reranker, output='scored.jsonl', **options):
  score.score(
    folder / 'pairs.jsonl',
    reranker,
    folder / output,
    t5_checkpoints.small_recipe(),
    **options,
  )
  return folder / output


def test_adds_the_score_to_each_line(tmp_path, reranker):
  write(tmp_path, PAIRS)
  output = score_file(tmp_path, reranker)
  records = [json.loads(line) for line in output.read_text().splitlines()]
  model = reranker_lib.MonoT5.load(
    reranker, dtype='float32', max_tokens=32, batch_tokens=128
  )
  expected = model.score_pairs([(p['query'], p['text']) for p in PAIRS])
  for record, pair, value in zip(records, PAIRS, expected, strict=True):
    assert list(record) == [*pair, 'log_prob_true']
    assert record == pair | {'log_prob_true': float(f'{value:.9g}')}
  made = manifest.read(output)
  assert made['counts'] == {'in': 5, 'out': 5, 'documents cut': 1}
  assert made['settings']['MAX_INPUT_TOKENS'] == 32
  assert not (tmp_path / 'scored.jsonl.parts').exists()


def test_a_logit_is_called_so_in_the_file(tmp_path):
  model = t5_checkpoints.write_reranker(tmp_path / 'model')
  monot5.write_spec(model, monot5.RerankerSpec('{query} {document}', None, 200))
  write(tmp_path, PAIRS[:2])
  output = score_file(tmp_path, model)
  records = [json.loads(line) for line in output.read_text().splitlines()]
  assert [set(r) - {'query', 'text', 'id'} for r in records] == [{'logit'}] * 2


def test_command_line(tmp_path, reranker, capsys):
  pairs = write(tmp_path, PAIRS)
  argv = [
    'score',
    f'--pairs_file={pairs}',
    f'--model={reranker}',
    f'--output={tmp_path / "scored.jsonl"}',
    '--gin.MAX_INPUT_TOKENS=32',
    '--gin.SCORE_BATCH_TOKENS=128',
    "--gin.RERANKER_DTYPE='float32'",
  ]
  assert cli.main(argv) == cli.DONE
  assert '5/5' in capsys.readouterr().err
  first = (tmp_path / 'scored.jsonl').read_bytes()
  assert cli.main(argv) == cli.DONE  # Complete already.
  assert (tmp_path / 'scored.jsonl').read_bytes() == first


def test_goes_on_after_the_last_finished_part(tmp_path, reranker, monkeypatch):
  write(tmp_path, PAIRS)
  monkeypatch.setattr(score_parts, 'PART_PAIRS', 2)
  whole = score_file(tmp_path, reranker, 'whole.jsonl').read_bytes()
  with monkeypatch.context() as patch:
    scored = t5_checkpoints.interrupt_after(patch, 2)
    with pytest.raises(t5_checkpoints.Interrupted):
      score_file(tmp_path, reranker)
    assert scored == [2, 2]
  parts = tmp_path / 'scored.jsonl.parts'
  assert not (tmp_path / 'scored.jsonl').exists()
  (parts / 'part-000002.json.tmp').write_text('half a par')
  with monkeypatch.context() as patch:
    scored = t5_checkpoints.interrupt_after(patch, 9)
    output = score_file(tmp_path, reranker)
    assert scored == [1]
  assert output.read_bytes() == whole
  assert manifest.read(output)['counts']['documents cut'] == 1


def test_parts_of_other_settings_are_not_used(tmp_path, reranker, monkeypatch):
  write(tmp_path, PAIRS)
  monkeypatch.setattr(score_parts, 'PART_PAIRS', 2)
  with monkeypatch.context() as patch:
    t5_checkpoints.interrupt_after(patch, 1)
    with pytest.raises(t5_checkpoints.Interrupted):
      score_file(tmp_path, reranker)
  with pytest.raises(errors.InputError, match='made with other settings'):
    score.score(
      tmp_path / 'pairs.jsonl',
      reranker,
      tmp_path / 'scored.jsonl',
      t5_checkpoints.small_recipe(MAX_INPUT_TOKENS='48'),
    )


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('{"query": "a"}', r"pairs.jsonl:2: field 'text' is missing"),
    ('{"text": "a"}', r"pairs.jsonl:2: field 'query' is missing"),
    ('{"query": " ", "text": "a"}', 'pairs.jsonl:2: the query is empty'),
    ('{"query": "a", "text": "\\ud800"}', 'pairs.jsonl:2: .* no Unicode'),
    ('{"query": "a", "text"', 'pairs.jsonl:2: not JSON'),
  ],
)
def test_names_the_line_that_is_wrong(tmp_path, reranker, line, message):
  good = '{"query": "a", "text": "b"}'
  (tmp_path / 'pairs.jsonl').write_text(f'{good}\n{line}\n')
  with pytest.raises(errors.InputError, match=message):
    score_file(tmp_path, reranker)
  assert [path.name for path in tmp_path.iterdir()] == ['pairs.jsonl']


def test_refuses_a_file_without_pairs(tmp_path, reranker):
  write(tmp_path, [])
  with pytest.raises(errors.InputError, match='no pairs'):
    score_file(tmp_path, reranker)


def test_refuses_a_model_that_is_not_there(tmp_path):
  write(tmp_path, PAIRS)
  with pytest.raises(errors.InputError, match='no model directory'):
    score_file(tmp_path, tmp_path / 'nowhere')


def test_parts_do_not_depend_on_the_device():
  assert score_parts.split(3_000) == [range(2_048), range(2_048, 3_000)]
  assert score_parts.split(0) == []


def test_two_processes_share_the_parts(tmp_path, reranker, monkeypatch, caplog):
  write(tmp_path, PAIRS)
  monkeypatch.setattr(score_parts, 'PART_PAIRS', 2)
  alone = score_file(tmp_path, reranker)
  output = tmp_path / 'shared.jsonl'
  for index in (1, 0):
    assert not output.exists()
    with caplog.at_level('INFO', 'inpars_tpu'):
      score_file(
        tmp_path,
        reranker,
        output.name,
        others=processes.Processes(index, 2),
      )
  assert 'of 3 parts these are left: 2 to process 0 (0, 2)' in caplog.text
  assert output.read_bytes() == alone.read_bytes()
  assert manifest.read(output)['counts'] == manifest.read(alone)['counts']
  assert not list(tmp_path.glob('*.parts'))


def test_two_may_write_the_output_at_once(tmp_path, reranker, monkeypatch):
  """The other one clears the parts away while this one reads them."""
  write(tmp_path, PAIRS)
  read = score_parts.Parts.read

  def read_late(parts, counts):
    monkeypatch.setattr(score_parts.Parts, 'read', read)
    score_file(tmp_path, reranker, others=processes.Processes(1, 2))
    return read(parts, counts)

  monkeypatch.setattr(score_parts.Parts, 'read', read_late)
  score_file(tmp_path, reranker, others=processes.Processes(0, 2))
  assert manifest.read(tmp_path / 'scored.jsonl') is not None
