"""The measurement of negatives: what it computes, at a tiny size."""

import argparse
import collections
import json
import sys

import pytest

from benchmarks import negatives, process, zipf
from inpars_tpu import cli


def test_words_are_as_frequent_as_those_of_a_language():
  documents = list(zipf.documents(2_000))
  assert documents[:3] == list(zipf.documents(3))
  words = [d['title'].split() + d['text'].split() for d in documents]
  assert sum(map(len, words)) / 2_000 == pytest.approx(
    zipf.MEAN_WORDS, rel=0.02
  )
  counted = collections.Counter(word for text in words for word in text)
  (first, most), (_, second) = counted.most_common(2)
  assert first == 'ba' and 0.03 < most / sum(map(len, words)) < 0.05
  assert second < most
  assert len(counted) > 20_000
  assert len({zipf._word(rank) for rank in range(20_000)}) == 20_000


def test_time_and_memory_are_those_of_the_command():
  held = bytearray(b'x') * (300 << 20)  # Not the command's.
  code = 'x = bytearray(b"x") * (200 << 20); sum(range(3_000_000))'
  found = process.measure([sys.executable, '-c', code])
  assert 200 < found['peak_rss_mb'] < 260 < len(held) >> 20
  assert 0.03 < found['cpu_seconds'] < found['seconds'] + 1
  with pytest.raises(SystemExit, match='ZeroDivisionError'):
    process.measure([sys.executable, '-c', '1 / 0'])


def in_this_process(command, **_):
  assert cli.main(command[3:]) == cli.DONE
  return {'seconds': 2.0, 'cpu_seconds': 1.0, 'peak_rss_mb': 99.96}


def toolkit(folder, command):
  """Writes what the toolkit would: ranks the first 15 documents, draws one."""
  queries = (folder / 'filtered.jsonl').read_text().splitlines()
  with (folder / 'tmp-run-docs.jsonl.txt').open('w') as run:
    for query in range(len(queries)):
      for rank in range(15):
        run.write(f'{query} Q0 d{rank} {rank + 1} 1.0 Anserini\n')
  (folder / 'triples.tsv').write_text('q\tpositive\tnegative\n' * len(queries))
  assert '--n_samples=1' in command
  return {'seconds': 13.0, 'cpu_seconds': 4.5, 'peak_rss_mb': 500.0}


def test_both_sides_are_measured_and_compared(tmp_path, monkeypatch):
  counts = negatives.write(tmp_path, zipf.documents(30), num_queries=40)
  assert counts == {'documents': 30, 'queries': 40}
  lines = (tmp_path / 'filtered.jsonl').read_text().splitlines()
  queries = [json.loads(line) for line in lines]
  assert [q['doc_id'] for q in queries[29:32]] == ['d29', 'd0', 'd1']
  for query in queries:
    assert len(query['query'].split()) == 8
    assert f' {query["query"]} ' in f' {query["text"]} '

  def measure(command, **kwargs):
    if 'inpars.generate_triples' in command:
      assert kwargs['environment']['PATH'].startswith('/peer/bin')
      return toolkit(kwargs['folder'], command)
    return in_this_process(command)

  monkeypatch.setattr(process, 'measure', measure)
  monkeypatch.setenv('INPARS_TPU_PEER_PYTHON', '/peer/bin/python')
  found = negatives.compare(tmp_path, argparse.Namespace(rounds=2))
  drawn = negatives._negatives(tmp_path / 'pairs')
  assert list(drawn) == list(range(40))
  in_run = sum(int(doc_id[1:]) < 15 for doc_id in drawn.values())
  assert 0 < in_run < 40
  assert found == {
    'seconds': 2.0,
    'cpu_seconds': 1.0,
    'peak_rss_mb': 100.0,
    'negatives': 40,
    'peer_seconds': 13.0,
    'peer_cpu_seconds': 4.5,
    'peer_peak_rss_mb': 500.0,
    'ratio': 6.5,
    'cpu_ratio': 4.5,
    'peer_negatives': 40,
    'peer_run_lines': 600,
    'found_by_peer': in_run / 40,
  }


def test_ours_alone_without_a_peer(tmp_path, monkeypatch):
  negatives.write(tmp_path, zipf.documents(12), num_queries=3)
  monkeypatch.setattr(process, 'measure', in_this_process)
  monkeypatch.delenv('INPARS_TPU_PEER_PYTHON', raising=False)
  found = negatives.compare(tmp_path, argparse.Namespace(rounds=1))
  assert found['negatives'] == 3
  assert 'ratio' not in found
