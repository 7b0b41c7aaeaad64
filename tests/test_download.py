import dataclasses
import hashlib
import io
import stat
import zipfile

import pytest

from inpars_tpu import beir, cli, collection, download, errors, manifest
from tests import web

FILES = {
  'tiny/corpus.jsonl': '{"_id": "a", "text": "x"}\n{"_id": "b", "text": ""}\n',
  'tiny/queries.jsonl': '{"_id": "q1", "text": "y"}\n\n',
  'tiny/qrels/test.tsv': 'query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\n',
  'tiny/qrels/train.tsv': 'query-id\tcorpus-id\tscore\nq1\ta\t1\n',
}
COUNTS = beir.Counts(documents=2, queries=1, judged_queries=1, judgements=2)


def make_zip(files=FILES) -> bytes:
  data = io.BytesIO()
  with zipfile.ZipFile(data, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, text in files.items():
      archive.writestr(name, text)
  return data.getvalue()


@pytest.fixture
def tiny(monkeypatch):
  """Puts a dataset of that name into the table; takes the zip's bytes."""

  def put(data: bytes, **changes):
    fields = {
      'counts': COUNTS,
      'zip_bytes': len(data),
      'md5': hashlib.md5(data).hexdigest(),
    }
    about = beir.Dataset('tiny', 'Tiny', **(fields | changes))
    monkeypatch.setitem(beir.DATASETS, 'tiny', about)
    return data

  return put


@pytest.fixture
def server(tmp_path):
  folder = tmp_path / 'served'
  folder.mkdir()
  with web.serve(folder) as running:
    running.folder = folder
    yield running


def refuse(data_dir, words, **kwargs):
  with pytest.raises(errors.InputError) as caught:
    download.dataset('tiny', data_dir, **kwargs)
  assert words in str(caught.value)
  assert not (data_dir / 'tiny').exists()
  assert not list(data_dir.glob('*.tmp'))


def test_dataset_from_the_server(tiny, server, tmp_path, capsys):
  data = tiny(make_zip())
  (server.folder / 'tiny.zip').write_bytes(data)
  server.failures += [100]  # Cut off once.
  argv = ['download', '--dataset=tiny', f'--server={server.url}/',
          f'--data_dir={tmp_path}/data']  # fmt: skip
  assert cli.main(argv) == cli.DONE
  folder = tmp_path / 'data' / 'tiny'
  assert capsys.readouterr().out == f'{folder}\n'
  assert [p.name for p in folder.parent.iterdir()] == ['tiny']
  assert len(collection.Corpus(folder / 'corpus.jsonl')) == 2
  assert (folder / 'qrels' / 'train.tsv').exists()
  record = manifest.read(folder)
  assert record['counts'] == dataclasses.asdict(COUNTS)
  assert record['settings']['md5'] == hashlib.md5(data).hexdigest()
  num_requests = len(server.requests)
  assert cli.main(argv) == cli.DONE  # Complete: nothing is fetched.
  assert len(server.requests) == num_requests


def test_dataset_from_a_file(tiny, tmp_path):
  path = tmp_path / 'mine.zip'
  path.write_bytes(tiny(make_zip()))
  download.dataset('tiny', tmp_path / 'data', zip_path=path)
  assert (tmp_path / 'data' / 'tiny' / 'corpus.jsonl').exists()
  assert path.exists()


def test_wrong_or_truncated_zip(tiny, server, tmp_path):
  data = tiny(make_zip())
  data_dir, path = tmp_path / 'data', tmp_path / 'cut.zip'
  data_dir.mkdir()
  path.write_bytes(data[:-30])
  refuse(
    data_dir, "cut.zip is not BEIR's tiny.zip, whose md5 is", zip_path=path
  )
  (server.folder / 'tiny.zip').write_bytes(data[:-30])
  refuse(data_dir, 'is not the published file: its md5:', server=server.url)
  assert list(data_dir.iterdir()) == []
  tiny(data[:-30])  # Whole by its sum, and no zip.
  refuse(data_dir, 'is not a whole zip: ', zip_path=path)


@pytest.mark.parametrize(
  'name', ['tiny/../../out', '/etc/out', '..\\out', 'C:/out']
)
def test_paths_that_lead_out(tiny, tmp_path, name):
  path, data_dir = tmp_path / 'z.zip', tmp_path / 'data'
  data_dir.mkdir()
  path.write_bytes(tiny(make_zip(FILES | {name: 'x'})))
  refuse(data_dir, 'which leads out of its folder', zip_path=path)
  assert list(tmp_path.rglob('*out*')) == []


def test_links_are_refused(tiny, tmp_path):
  data = io.BytesIO()
  with zipfile.ZipFile(data, 'w') as archive:
    link = zipfile.ZipInfo('tiny/corpus.jsonl')
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(link, '/etc/passwd')
  path, data_dir = tmp_path / 'z.zip', tmp_path / 'data'
  data_dir.mkdir()
  path.write_bytes(tiny(data.getvalue()))
  refuse(data_dir, "holds a link: 'tiny/corpus.jsonl'", zip_path=path)


def test_counts_that_differ(tiny, tmp_path):
  path, data_dir = tmp_path / 'z.zip', tmp_path / 'data'
  data_dir.mkdir()
  other = dataclasses.replace(COUNTS, documents=3, judgements=1)
  path.write_bytes(tiny(make_zip(), counts=other))
  refuse(
    data_dir, 'tiny has 2 documents, not 3; 2 judgements, not 1', zip_path=path
  )
  less = {k: v for k, v in FILES.items() if 'queries' not in k}
  path.write_bytes(tiny(make_zip(less)))
  refuse(data_dir, 'holds no queries.jsonl', zip_path=path)


def test_forums(tiny, tmp_path):
  path = tmp_path / 'z.zip'
  forums = {
    name.replace('tiny/', f'tiny/{forum}/'): text
    for forum in ('a', 'b')
    for name, text in FILES.items()
  }
  path.write_bytes(tiny(make_zip(forums), forums={'a': COUNTS, 'b': COUNTS}))
  folder = download.dataset('tiny', tmp_path / 'data', zip_path=path)
  assert (folder / 'b' / 'qrels' / 'test.tsv').exists()
  assert manifest.read(folder)['counts']['b']['documents'] == 2


def test_what_is_not_ours_stays(tiny, tmp_path):
  tiny(make_zip())
  (tmp_path / 'tiny').mkdir()
  with pytest.raises(errors.InputError, match='was not made by download'):
    download.dataset('tiny', tmp_path)


def test_names(tmp_path, capsys):
  for argv, words in (
    (['--dataset=scifacts'], 'did you mean scifact'),
    (['--dataset=signal1m'], 'request it at research.signal-ai.com'),
    (['--synthetic=msmarco'], "unknown dataset 'msmarco'"),
    (['--model=gpt-j'], 'did you mean gpt-j-6b'),
    ([], 'not none'),
    (['--dataset=nq', '--prompts'], 'not --dataset and --prompts'),
    (['--prompts', '--zip=x'], '--zip goes with --dataset'),
  ):
    argv = ['download', f'--data_dir={tmp_path}', *argv]
    assert cli.main(argv) == cli.WRONG_INPUT
    assert words in capsys.readouterr().err
  assert list(tmp_path.iterdir()) == []


def test_synthetic_queries(server, tmp_path, monkeypatch):
  (server.folder / 'q.jsonl').write_text('{"doc_id": "a"}\n{"doc_id": "b"}\n')
  monkeypatch.setitem(download.SYNTHETIC, 'scifact', f'{server.url}/q.jsonl')
  path = download.synthetic('scifact', tmp_path)
  assert path == tmp_path / 'synthetic' / 'scifact.jsonl'
  assert manifest.read(path)['counts'] == {'out': 2}
  assert download.synthetic('scifact', tmp_path) == path
  assert len(server.requests) == 1
  assert set(download.SYNTHETIC) == set(beir.DATASETS)


@pytest.mark.shared_data
def test_prompts(shared_data, server, tmp_path, monkeypatch):
  from inpars_tpu import prompts

  monkeypatch.setattr(download, '_PROMPTS', server.url)
  for name, origin, _ in prompts.PUBLISHED.values():
    path = server.folder / origin
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((shared_data / 'prompts' / name).read_bytes())
  assert cli.main(['download', '--prompts', f'--data_dir={tmp_path}']) == 0
  for name in prompts.PUBLISHED:
    assert prompts.load(name, tmp_path).before
  path.write_text('another')
  (tmp_path / 'prompts' / 'inpars_templates.yaml').unlink()
  with pytest.raises(errors.InputError, match='its sha256:570cd28'):
    download.published_prompts(tmp_path)


def test_addresses():
  """As they were published; never fetched here."""
  assert download.SYNTHETIC['scifact'] == (
    'https://huggingface.co/datasets/inpars/generated-data/resolve/'
    '36148f2112783e53f95e786b90a2a88800c83f2d/scifact/queries.jsonl'
  )
  assert download._PROMPTS.startswith(
    'https://raw.githubusercontent.com/zetaalphavector/InPars/9865521'
  )
