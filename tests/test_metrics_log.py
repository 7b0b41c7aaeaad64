import json

import pytest

from inpars_tpu import metrics_log

LINES = [{'step': i, 'loss': 1 / i} for i in (1, 2, 3)]


def write(path, lines, *, last_step=0, events_dir=None):
  with metrics_log.MetricsLog(path, events_dir, last_step) as log:
    for line in lines:
      log.write(line)


def test_one_line_for_each_step_in_full_precision(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  write(path, LINES)
  assert path.read_text() == (
    '{"step": 1, "loss": 1.0}\n'
    '{"step": 2, "loss": 0.5}\n'
    '{"step": 3, "loss": 0.3333333333333333}\n'
  )


def test_goes_on_after_a_step(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  write(path, LINES)
  write(path, [{'step': 2, 'loss': 9.0}], last_step=1)
  assert (
    path.read_text() == '{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 9.0}\n'
  )


@pytest.mark.parametrize('half', ['{"st', '{"step": 3, "loss": 0.25}'])
def test_cuts_off_a_half_line(tmp_path, half):
  path = tmp_path / 'metrics.jsonl'
  write(path, LINES[:2])
  with path.open('a') as stream:
    stream.write(half)
  write(path, LINES[2:], last_step=2)
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert lines == LINES
  write(path, [], last_step=0)
  assert path.read_text() == ''


def test_whole_lines_while_it_runs(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  with metrics_log.MetricsLog(path, None, 0) as log:
    log.write(LINES[0])
    assert path.read_text() == '{"step": 1, "loss": 1.0}\n'


def test_knows_its_last_record(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  with metrics_log.MetricsLog(path, None, 0) as log:
    assert log.last == {}
    log.write(LINES[0])
    log.write(LINES[1])
    assert log.last == LINES[1]
  with metrics_log.MetricsLog(path, None, 1) as log:
    assert log.last == LINES[0]


def test_events_as_tensorboard_reads_them(tmp_path):
  from inpars_tpu import host_tensorflow

  tf = host_tensorflow.tf
  last = {**LINES[2], 'validation_mrr': 0.75}
  write(
    tmp_path / 'm.jsonl', [*LINES[:2], last], events_dir=tmp_path / 'events'
  )
  (file,) = (tmp_path / 'events').iterdir()
  events = [
    tf.compat.v1.Event.FromString(record.numpy())
    for record in tf.data.TFRecordDataset(str(file))
  ]
  values = [
    (event.step, value.tag, tf.make_ndarray(value.tensor).item())
    for event in events
    for value in event.summary.value
  ]
  assert values[:2] == [(1, 'train/loss', 1.0), (2, 'train/loss', 0.5)]
  assert values[3] == (3, 'validation/mrr', 0.75)
  (value,) = events[1].summary.value
  assert value.metadata.plugin_data.plugin_name == 'scalars'
