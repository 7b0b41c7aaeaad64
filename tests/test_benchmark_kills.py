import json

from benchmarks import kills


def test_files_are_equal_but_for_their_times(tmp_path):
  found = []
  for name, seconds in (('a', 1.5), ('b', 2.5)):
    folder = tmp_path / name
    (folder / 'index').mkdir(parents=True)
    (folder / 'index' / '_0.si').write_text(name)
    (folder / 'report.html').write_text(str(seconds))
    (folder / 'documents.jsonl').write_text('{}\n')
    record = {
      'seconds': seconds,
      'inputs': {'corpus': {'path': name, 'sha256': 'c'}},
      'counts': {'in': 1},
    }
    (folder / 'documents.jsonl.manifest.json').write_text(json.dumps(record))
    found.append(kills.outputs(str(folder)))
  assert found[0] == found[1] == {
    'documents.jsonl': b'{}\n',
    'documents.jsonl.manifest.json': {
      'inputs': {'corpus': {'sha256': 'c'}},
      'counts': {'in': 1},
    },
  }  # fmt: skip
  (tmp_path / 'b' / 'documents.jsonl').write_text('{} \n')
  assert kills.outputs(str(tmp_path / 'b')) != found[0]
