"""The measurement of whole corpora: what it computes, at a tiny size."""

import pytest

from benchmarks import process, scale
from inpars_tpu import cli


def test_each_stage_is_measured_and_leaves_nothing(
  tmp_path, monkeypatch, capsys
):
  verbs = []

  def measure(command):
    verbs.append(command[3])
    assert cli.main(command[3:]) == cli.DONE
    seconds = float(len(verbs))
    return {'seconds': seconds, 'cpu_seconds': 0.5, 'peak_rss_mb': 99.96}

  monkeypatch.setattr(process, 'measure', measure)
  found = scale.measure(tmp_path / 'a', 40, num_queries=10)
  assert verbs == ['sample', 'index', 'negatives']
  assert found['documents'] == 40
  assert found['index'] == {
    'seconds': 2.0,
    'cpu_seconds': 0.5,
    'peak_rss_mb': 100.0,
  }
  lines = (tmp_path / 'a' / 'filtered.jsonl').read_text().splitlines()
  assert len(lines) == 10
  monkeypatch.setattr(
    'sys.argv', ['scale', '--num_documents=12', f'--folder={tmp_path / "b"}']
  )
  scale.main()
  assert '"documents": 12' in capsys.readouterr().out
  assert list((tmp_path / 'b').iterdir()) == []


def test_the_line_through_the_sizes():
  def size(documents, seconds, memory):
    record = {'cpu_seconds': seconds, 'peak_rss_mb': memory}
    return {'documents': documents} | dict.fromkeys(scale.STAGES, record)

  assert scale.extrapolate([size(1_000_000, 5.0, 100.0)]) == {}
  line = scale.extrapolate(
    [size(500_000, 3.0, 150.0), size(1_000_000, 5.0, 200.0)]
  )
  assert line['per_million']['index'] == pytest.approx(
    {'cpu_seconds': 4.0, 'peak_rss_mb': 100.0}
  )
  assert line['at_ten_million']['negatives'] == {
    'cpu_seconds': 41,
    'peak_rss_mb': 1100,
  }
