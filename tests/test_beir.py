from inpars_tpu import beir


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
  assert len(set(beir.DATASETS['cqadupstack'].forums)) == 12
