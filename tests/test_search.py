import argparse
import json

import pytest

from inpars_tpu import collection, errors, evaluate, index, recipe, search, trec

DOCUMENTS = [
  {'_id': 'a', 'title': '', 'text': 'cat cat dog'},
  {'_id': 'b', 'title': '', 'text': 'cat dog bird'},
  {'_id': 'c', 'title': '', 'text': 'cat dog bird'},
]
QUERIES = {'q1': 'cats', 'c': 'a bird', 'q3': 'unheard', 'q4': 'dog'}


def write_jsonl(path, records):
  path.write_text(''.join(json.dumps(record) + '\n' for record in records))
  return path


@pytest.fixture(scope='module')
def index_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('search')
  corpus = write_jsonl(folder / 'corpus.jsonl', DOCUMENTS)
  index.index_corpus(corpus, folder / 'index')
  return folder / 'index'


@pytest.fixture
def queries(tmp_path):
  records = [{'_id': name, 'text': text} for name, text in QUERIES.items()]
  return write_jsonl(tmp_path / 'queries.jsonl', records)


@pytest.fixture(scope='module')
def macros():
  return recipe.load()


def ranked(path):
  run = trec.read_run(path)
  return {name: [doc_id for doc_id, _ in hits] for name, hits in run.items()}


def test_main_writes_a_trec_run(index_dir, queries, tmp_path, macros):
  output = tmp_path / 'bm25.trec'
  search.main(
    argparse.Namespace(
      index=str(index_dir), queries=str(queries), qrels=None,
      output=str(output), exclude_own_id=False, recipe=macros,
    )
  )  # fmt: skip
  # cat: idf ln(1 + .5 / 3.5); tf 2 and 1 of three words, the mean length.
  assert output.read_text().splitlines()[:3] == [
    'q1 Q0 a 1 0.0921 bm25',
    'q1 Q0 b 2 0.0703 bm25',
    'q1 Q0 c 3 0.070299 bm25',
  ]
  assert ranked(output) == {
    'q1': ['a', 'b', 'c'],
    'c': ['b', 'c'],
    'q4': ['a', 'b', 'c'],
  }
  record = json.loads((tmp_path / 'bm25.trec.manifest.json').read_text())
  assert record['settings'] == {
    'BM25_K1': 0.9,
    'BM25_B': 0.4,
    'FIRST_STAGE_HITS': 1000,
    'judged_only': False,
    'exclude_own_id': False,
  }
  assert record['counts'] == {
    'in': 4,
    'out': 3,
    'dropped': {'not judged': 0, 'without hits': 1},
  }


def test_only_judged_queries_are_searched(index_dir, queries, tmp_path, macros):
  qrels = tmp_path / 'test.tsv'
  qrels.write_text('query-id\tcorpus-id\tscore\nq4\ta\t1\nc\tx\t0\n')
  output = tmp_path / 'run.trec'
  search.search(index_dir, queries, output, macros, qrels=qrels)
  assert list(ranked(output)) == ['c', 'q4']


def test_own_document_is_left_out(index_dir, queries, tmp_path, macros):
  output = tmp_path / 'run.trec'
  search.search(index_dir, queries, output, macros, exclude_own_id=True)
  assert ranked(output)['c'] == ['b']
  assert ranked(output)['q1'] == ['a', 'b', 'c']


def test_macros_are_followed(index_dir, queries, tmp_path):
  macros = recipe.load(
    [], {'FIRST_STAGE_HITS': '1', 'BM25_K1': '0.0', 'BM25_B': '0.0'}
  )
  search.search(index_dir, queries, tmp_path / 'run.trec', macros)
  # Without k1 a document scores its idf, ln(1 + .5 / 3.5), so all are tied.
  line = (tmp_path / 'run.trec').read_text().splitlines()[0]
  assert line == 'q1 Q0 a 1 0.1335 bm25'
  assert ranked(tmp_path / 'run.trec')['c'] == ['b']


def test_a_run_has_equal_bytes_whenever_it_is_made(
  index_dir, queries, tmp_path, macros
):
  first, second = tmp_path / 'first.trec', tmp_path / 'second.trec'
  search.search(index_dir, queries, first, macros)
  index.index_corpus(index_dir.parent / 'corpus.jsonl', tmp_path / 'index')
  search.search(tmp_path / 'index', queries, second, macros)
  assert first.read_bytes() == second.read_bytes()
  before = first.stat().st_mtime_ns
  search.search(tmp_path / 'index', queries, first, macros)  # An equal index.
  assert first.stat().st_mtime_ns == before


def check_refused(tmp_path, index, queries, message, **options):
  before = sorted(tmp_path.rglob('*'))
  with pytest.raises(errors.InputError, match=message):
    search.search(
      index, queries, tmp_path / 'run.trec', recipe.load(), **options
    )
  assert sorted(tmp_path.rglob('*')) == before


def test_wrong_input_writes_nothing(index_dir, queries, tmp_path):
  check_refused(tmp_path, tmp_path / 'no', queries, '^no index at .*/no$')
  check_refused(tmp_path, tmp_path, queries, 'is no Lucene index; inpars-tpu')
  check_refused(tmp_path, index_dir, tmp_path / 'no', '^no queries at .*/no$')
  check_refused(
    tmp_path, 'pyserini:trec-cvoid', queries, 'unknown prebuilt index'
  )
  queries.write_text('{"_id": "q"}\n')
  check_refused(tmp_path, index_dir, queries, ":1: field 'text' is missing")
  queries.write_text('{"_id": "q", "text": "unheard of"}\n')
  check_refused(tmp_path, index_dir, queries, 'none of the 1 queries finds a d')


def test_judged_queries_must_be_there(index_dir, queries, tmp_path):
  qrels = tmp_path / 'test.tsv'
  qrels.write_text('query-id\tcorpus-id\tscore\nq8\ta\t1\nq9\ta\t1\n')
  message = "test.tsv: all 2 judged queries have no text .'q8', 'q9'."
  check_refused(tmp_path, index_dir, queries, message, qrels=qrels)


@pytest.mark.shared_data
@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('scifact', ['0.6789', '0.9253', '0.9767']),
    ('cranfield', ['0.3510', '0.7224', '0.9518']),
  ],
)
def test_official_figures_of_bm25(
  shared_data, tmp_path, macros, name, expected
):
  folder = shared_data / 'data' / 'beir' / name
  qrels = folder / 'qrels' / 'test.tsv'
  index.index_corpus(folder / 'corpus.jsonl', tmp_path / 'index')
  search.search(
    tmp_path / 'index',
    folder / 'queries.jsonl',
    tmp_path / 'bm25.trec',
    macros,
    qrels=qrels,
  )
  means, _ = evaluate.evaluate_runs(
    collection.read_qrels(qrels),
    {'bm25': trec.read_run(tmp_path / 'bm25.trec')},
  )
  found = [f'{means["bm25"][m]:.4f}' for m in ('nDCG@10', 'R@100', 'R@1000')]
  assert found == expected
