from benchmarks import sample


def test_measures_a_process_of_its_own(tmp_path):
  measured = sample.measure(tmp_path, num_documents=300)
  assert (measured['documents'], measured['drawn']) == (300, 300)
  assert measured['cpu_seconds'] > 0 and measured['peak_rss_mb'] > 10
