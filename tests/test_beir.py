import json
import time

import pytest

from inpars_tpu import beir, cli, published


def test_the_official_18():
  assert len(beir.DATASETS) == 18
  assert next(iter(beir.DATASETS)) == 'trec-covid'
  assert list(beir.DATASETS)[-1] == 'scifact'
  assert all(name == data.name for name, data in beir.DATASETS.items())


def test_what_is_special():
  def having(test):
    return {name for name, data in beir.DATASETS.items() if test(data)}

  assert having(lambda data: data.drops_own_id) == {'arguana', 'quora'}
  assert having(lambda data: not data.is_public) == {
    'bioasq', 'robust04', 'signal1m', 'trec-news',
  }  # fmt: skip
  assert having(lambda data: data.forums) == {'cqadupstack'}
  assert having(lambda data: data.md5 is None) == having(
    lambda data: not data.is_public
  )


def test_counts_add_up():
  forums = beir.DATASETS['cqadupstack'].forums
  assert len(forums) == 12
  total = beir.DATASETS['cqadupstack'].counts
  for field in ('documents', 'queries', 'judged_queries', 'judgements'):
    assert sum(getattr(c, field) for c in forums.values()) == getattr(
      total, field
    )
  # The paper's 47,282 test queries (Pyserini's table adds up to the same).
  assert (
    sum(data.counts.judged_queries for data in beir.DATASETS.values()) == 47_282
  )
  md5s = [data.md5 for data in beir.DATASETS.values() if data.md5]
  assert len(set(md5s)) == 14
  assert all(len(md5) == 32 and int(md5, 16) for md5 in md5s)


def test_what_to_do_without_a_dataset():
  assert (
    beir.how_to_get(beir.DATASETS['nq'], 'data')
    == 'inpars-tpu download --dataset=nq --data_dir=data'
  )
  message = beir.how_to_get(beir.DATASETS['robust04'], 'data')
  assert 'trec.nist.gov/data/cd45' in message
  assert 'into data/robust04' in message


def test_published_means():
  assert list(published.NDCG_10) == list(beir.DATASETS)
  assert published.mean('bm25') == pytest.approx(0.4244, abs=5e-5)
  assert published.mean('bm25_multifield') == pytest.approx(0.4288, abs=5e-5)
  assert published.mean('inpars_v2') == pytest.approx(0.5457, abs=5e-5)
  assert published.mean('rankt5') is None
  eleven = [f for f in published.NDCG_10.values() if f.rankt5 is not None]
  assert len(eleven) == 11
  means = {
    name: sum(getattr(f, name) for f in eleven) / 11
    for name in ('monot5_3b', 'inpars_v1', 'inpars_v2', 'promptagator')
  }
  # As table 1 of the toolkit's paper prints them, but for monoT5's .511.
  expected = {'monot5_3b': .502, 'inpars_v1': .523, 'inpars_v2': .533,
              'promptagator': .528}  # fmt: skip
  assert means == pytest.approx(expected, abs=6e-4)


@pytest.mark.shared_data
def test_bm25_is_pyserinis(shared_data):
  path = shared_data / 'reference' / 'bm25_beir_expected.json'
  expected = json.loads(path.read_text())
  for name, data in beir.DATASETS.items():
    parts = [f'{name}-{forum}' for forum in data.forums] or [name]
    for column, key in (('bm25', 'flat'), ('bm25_multifield', 'multifield')):
      mean = sum(expected[part][key]['nDCG@10'] for part in parts) / len(parts)
      figure = getattr(published.NDCG_10[name], column)
      assert figure == pytest.approx(mean, abs=5.1e-5)
    indexed = sum(expected[part]['flat']['documents'] for part in parts)
    assert data.counts.documents - indexed == {
      'trec-covid': 1, 'fiqa': 38,
    }.get(name, 0)  # fmt: skip


def test_table(capsys):
  start = time.process_time()
  assert cli.main(['datasets']) == cli.DONE
  assert time.process_time() - start < 1
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].split()[:4] == ['dataset', 'documents', 'queries', 'zip']
  (scifact,) = [line for line in lines if line.startswith('scifact')]
  assert scifact.split() == [
    'scifact', '5,183', '300', '2.8', 'MB', '.6789', '.6647', '.777', '.774',
    '.774', '.731', '.760',
  ]  # fmt: skip
  (bioasq,) = [line for line in lines if line.startswith('bioasq')]
  assert bioasq.split() == ['bioasq', '14,914,603', '500', 'ask', '.5225',
                            '.4646', '.595']  # fmt: skip
  assert len({len(line) for line in lines[:21]}) == 1
