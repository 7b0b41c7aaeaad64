from benchmarks import corpus


def test_measures_what_rerank_does(tmp_path):
  corpus.write(tmp_path, num_documents=50, num_queries=3, hits=20)
  measured = corpus.measure(tmp_path, num_reads=10)
  assert measured['documents'] == 50
  assert measured['run_lines'] == 60
  assert measured['reads'] == 10
  assert measured['peak_rss_mb'] >= measured['open_peak_rss_mb'] > 10
