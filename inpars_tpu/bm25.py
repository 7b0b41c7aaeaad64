"""BM25 by Lucene, in process: index a corpus, search it, draw negatives.

The only module, with `bm25_java` under it, that knows Pyserini (whose jar holds
Anserini and Lucene) and Java. Pyserini's own Python is never imported: its
searcher needs torch and 13 s. Scores and order are Anserini's: ties by document
id, 4 digits, tied scores lowered so that trec_eval keeps the order.
"""

import concurrent.futures
import itertools
import json
import logging
import os
import pathlib
import random
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from etils import epath

from inpars_tpu import bm25_java, collection, errors, files, stores, trec

PREBUILT = 'pyserini:'  # --index=pyserini:NAME is one that Anserini publishes.
DEFAULT_LANGUAGE = 'en'

_log = logging.getLogger(__name__)

_ANALYZER_FILE = 'analyzer.json'  # Beside Lucene's files; it ignores others.
_SEARCH_CHUNK = 100  # A chunk's hits are all on Java's heap: 26 MB.
_DRAW_CHUNK = 256
_TIED_WINDOW = 2  # Hits on both sides of one, in which its equals are sought.
_NUM_THREADS = os.cpu_count() or 1
_INDEX_BUFFER_MB = 256  # Well below the heap, however large the corpus.

Query = tuple[str, str, str | None]  # (query_id, text, id never drawn or None).


def build_index(
  corpus: files.PathLike | collection.Corpus,
  index_dir: files.PathLike,
  language: str = DEFAULT_LANGUAGE,
) -> dict[str, int]:
  """Indexes title + space + text of every document, as they stand.

  What `index_dir` holds is no index until all of it is there; an index that
  was there before is replaced.

  Args:
    corpus: path of corpus.jsonl, or the same opened.
    index_dir: a directory, made where it does not exist. Lucene's files are
      made on a local disk, and go up into a store when they are whole.
    language: Anserini's two-letter code of the analyzer; it is kept beside
      the index, so that queries are analyzed alike.

  Returns:
    {'documents': in the corpus, 'indexed': .., 'empty': without any text}.

  Raises:
    InputError: what `collection.Corpus` raises, an unknown language, nothing
      to index, no Java.
  """
  check(language)
  if not isinstance(corpus, collection.Corpus):
    corpus = collection.Corpus(corpus)
  if not stores.is_remote(index_dir):
    return _build(corpus, _absolute(index_dir), language)
  for old in epath.Path(index_dir).glob('segments_*'):
    old.unlink()
  with stores.local_writer(index_dir) as folder:  # segments_N goes up last.
    counts = _build(corpus, _absolute(folder), language)
  return counts


def _build(
  corpus: collection.Corpus, index_dir: pathlib.Path, language: str
) -> dict[str, int]:
  java = bm25_java.start()
  work_dir = index_dir / 'building'
  shutil.rmtree(work_dir, ignore_errors=True)  # Of a call that was killed.
  # A folder of its own: Anserini reads every file beside the corpus too.
  (work_dir / 'corpus').mkdir(parents=True)
  try:
    _copy_corpus(corpus, work_dir / 'corpus' / 'corpus.jsonl')
    num_indexed, num_empty = _run_indexer(java, work_dir, language)
    if lost := len(corpus) - num_indexed - num_empty:
      raise errors.InputError(
        f'{corpus.path}: Lucene did not index {lost} of {len(corpus)} '
        'documents; its own messages are above'
      )
    if not _has_words(java, work_dir / 'lucene'):
      raise errors.InputError(
        f'{corpus.path}: no document has a word to index (language {language})'
      )
    _move_index(work_dir / 'lucene', index_dir, language)
  finally:
    shutil.rmtree(work_dir, ignore_errors=True)
  return {'documents': len(corpus), 'indexed': num_indexed, 'empty': num_empty}


def check(language: str) -> None:
  """Raises InputError without Java, or an analyzer of the language."""
  analyzers = bm25_java.start().AnalyzerMap.analyzerMap.keySet().toArray()
  known = {DEFAULT_LANGUAGE, *analyzers}
  if language not in known:
    raise errors.unknown('language', language, known)


def open_index(
  index_dir: files.PathLike,
  k1: float = 0.9,
  b: float = 0.4,
  language: str | None = None,
) -> 'Index':
  """Opens an index of ours, any other of Anserini, or pyserini:NAME.

  Args:
    index_dir: a directory, or the name of a prebuilt index, which is
      downloaded when it is first used.
    k1: BM25's saturation of term frequency.
    b: BM25's length normalisation, 0 to 1.
    language: of the analyzer of queries; None: what the index says, and
      English where it was made elsewhere.

  Raises:
    InputError: no Lucene index there, or one of another make; an unknown or
      unreachable prebuilt index; an unknown language; no Java.
  """
  if is_prebuilt(index_dir):
    index_dir = bm25_java.fetch_prebuilt(
      os.fspath(index_dir).removeprefix(PREBUILT)
    )
  else:
    files.must_exist(index_dir, 'index')
  return Index(_absolute(stores.local(index_dir)), k1, b, language)


def is_prebuilt(index: files.PathLike) -> bool:
  """Whether `index` names an index that Anserini publishes, not a folder."""
  return os.fspath(index).startswith(PREBUILT)


class Index:
  """A Lucene index that is open for search; `open_index` makes it."""

  def __init__(
    self, index_dir: pathlib.Path, k1: float, b: float, language: str | None
  ):
    self._java = java = bm25_java.start()
    self.path = index_dir
    with bm25_java.java_errors():
      self._reader = _open_reader(java, index_dir)
      if self._reader.getSumTotalTermFreq('contents') <= 0:
        raise errors.InputError(
          f"{index_dir}: no words in its field 'contents': not Anserini's"
        )
      language = language or _read_language(index_dir)
      check(language)
      self.num_documents = self._reader.numDocs()
      self._batch = java.SimpleSearcher(str(index_dir))
      self._batch.set_bm25(k1, b)
      if language != DEFAULT_LANGUAGE:
        self._batch.set_language(language)
      self._analyzer = self._batch.get_analyzer()
      self._searcher = java.IndexSearcher(
        java.cast('org.apache.lucene.index.IndexReader', self._reader)
      )
      self._searcher.setSimilarity(java.BM25Similarity(k1, b))

  def search(self, queries: Mapping[str, str], hits: int = 1000) -> trec.Run:
    """Ranks the documents for each query; `search_each` says how."""
    return dict(self.search_each(queries, hits))

  def search_each(
    self, queries: Mapping[str, str], hits: int = 1000
  ) -> Iterator[tuple[str, trec.Ranking]]:
    """Yields (query_id, ranking), in the order of `queries`.

    Args:
      queries: query_id -> text, read as a bag of words.
      hits: most documents per query.

    Yields:
      Best first, equal scores in order of document id; no two scores are the
      same as 32-bit floats. Empty where no word of the query is indexed.
    """
    for chunk in _chunks(queries.items(), _SEARCH_CHUNK):
      ids, texts = self._java.ArrayList(), self._java.ArrayList()
      for query_id, text in chunk:
        ids.add(query_id)
        texts.add(_to_java(text))
      with bm25_java.java_errors():
        found = self._batch.batch_search(texts, ids, hits, _NUM_THREADS)
      for query_id, _ in chunk:
        ranked = found.get(query_id)  # One conversion for all of them.
        scores = separate_ties([hit.score for hit in ranked])
        doc_ids = [hit.docid for hit in ranked]
        yield query_id, list(zip(doc_ids, scores, strict=True))

  def draw(
    self,
    queries: Iterable[Query],
    *,
    hits: int = 1000,
    num: int = 1,
    seed: int = 1,
  ) -> Iterator[tuple[str, list[str]]]:
    """Yields (query_id, ids drawn from the query's top `hits`), in order.

    Ranks come from `random.Random(f'{seed}:{query_id}')`, so a draw depends
    on nothing but its own query; the run itself never leaves Lucene. Unlike
    the InPars toolkit's, the source document is never drawn.

    Args:
      queries: (query_id, text, id of the source document or None) each.
      hits: depth of the ranking that is drawn from.
      num: distinct documents per query; fewer come, or none, where the
        ranking holds fewer besides the source.
      seed: of all draws.
    """
    with concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
      for chunk in _chunks(queries, _DRAW_CHUNK):
        with bm25_java.java_errors():
          texts = [text for _, text, _ in chunk]
          ranked = pool.map(self._top_hits, texts, itertools.repeat(hits))
          # Only `_top_hits` may run on other threads: pyjnius keeps the
          # receiver of a call with its class, and mixes up two objects.
          for (query_id, text, source_id), top in zip(
            chunk, ranked, strict=True
          ):
            rng = random.Random(f'{seed}:{query_id}')
            yield (
              query_id,
              self._draw_ids(top, text, hits, num, source_id, rng),
            )

  def _top_hits(self, text: str, hits: int):
    """The top by score and one more; equal scores in Lucene's own order.

    Told to order those by id, Lucene looks at every document that has a word
    of the query, for twice the time.
    """
    return self._searcher.search(self._query(text), hits + 1)

  def _query(self, text: str):
    return self._java.bag_of_words.buildQuery(
      'contents', self._analyzer, _to_java(text)
    )

  def _draw_ids(self, top, text, hits, num, source_id, rng) -> list[str]:
    num_hits = min(hits, top.totalHits.value)
    drawn: list[str] = []
    ranks: set[int] = set()
    while len(drawn) < num and len(ranks) < num_hits:
      rank = rng.randrange(num_hits)
      if rank in ranks:
        continue
      ranks.add(rank)
      doc_id = self._id_at(rank, top, text, hits)
      if doc_id != source_id:
        drawn.append(doc_id)
    return drawn

  def _id_at(self, rank: int, top, text: str, hits: int) -> str:
    """The document at a rank of `top`, equal scores in the order of ids."""
    num_hits = min(hits + 1, top.totalHits.value)
    size = _TIED_WINDOW
    while True:
      start, stop = max(rank - size, 0), min(rank + size + 1, num_hits)
      # Each hit that comes to Python is an object: so a few at a time.
      found = self._java.TopDocs.merge(start, stop - start, [top]).scoreDocs
      scores = [hit.score for hit in found]
      score = scores[rank - start]
      is_cut = scores[-1] == score and stop == num_hits > hits
      if is_cut or (
        (scores[0] != score or start == 0)
        and (scores[-1] != score or stop == num_hits)
      ):
        break
      size *= 4
    if is_cut:  # Which of the last ones are in the top, their ids say.
      top = self._searcher.search(
        self._query(text), hits, self._java.by_score_then_id, True
      )
      return self._id(self._java.TopDocs.merge(rank, 1, [top]).scoreDocs[0])
    first = scores.index(score)
    tied = found[first : first + scores.count(score)]
    return sorted(map(self._id, tied))[rank - start - first]

  def _id(self, hit) -> str:
    return self._searcher.storedFields().document(hit.doc).get('id')


def separate_ties(scores: Sequence[float]) -> list[float]:
  """Decimals that fall strictly, also where they are read as 32-bit floats.

  Anserini rounds to 4 digits and lowers tied scores by 1e-6 each, which a
  32-bit float above 16 does not hold; those go down by its smallest step, or
  trec_eval would turn their order round.

  [4.1719, 4.171899, 40.1234, 40.1234] ->
    [4.1719, 4.171899, 40.1234, 40.123398]
  """
  decimals = [round(score, 6) for score in scores]
  if np.all(np.diff(np.asarray(decimals, np.float32)) < 0):
    return decimals
  lowered = trec.strictly_decreasing(decimals)
  return [
    decimal if np.float32(decimal) == low else float(str(np.float32(low)))
    for decimal, low in zip(decimals, lowered, strict=True)
  ]


def _copy_corpus(corpus: collection.Corpus, path: pathlib.Path) -> None:
  """Anserini stops without a word at a document whose title is missing."""
  with open(path, 'w', encoding='ascii') as stream:
    for document in corpus:
      record = {'_id': document.doc_id, 'title': document.title}
      record['text'] = document.body
      stream.write(json.dumps(record) + '\n')  # ASCII, or surrogates fail.


def _run_indexer(java, work_dir, language) -> tuple[int, int]:
  args = java.IndexArgs()
  args.collectionClass = 'BeirFlatCollection'
  args.generatorClass = 'DefaultLuceneDocumentGenerator'
  args.input = str(work_dir / 'corpus')
  args.index = str(work_dir / 'lucene')
  args.language = language
  args.threads = 1  # One file is one thread's work.
  args.memoryBuffer = _INDEX_BUFFER_MB
  args.quiet = True
  with bm25_java.java_errors():
    indexer = java.IndexCollection(args)
    indexer.run()
    counters = indexer.getCounters()
  return counters.indexed.get(), counters.empty.get()


def _has_words(java, lucene_dir: pathlib.Path) -> bool:
  with bm25_java.java_errors():
    reader = _open_reader(java, lucene_dir)
    num_words = reader.getSumTotalTermFreq('contents')
    reader.close()
  return num_words > 0


def _move_index(lucene_dir, index_dir, language) -> None:
  """Moves segments_N last: without it, the rest is no index."""
  for old in index_dir.glob('segments_*'):
    old.unlink()
  files.write_json(index_dir / _ANALYZER_FILE, {'language': language})
  names = [path.name for path in lucene_dir.iterdir()]
  names.remove('write.lock')
  for name in sorted(names, key=lambda name: name.startswith('segments_')):
    os.replace(lucene_dir / name, index_dir / name)


def _open_reader(java, index_dir: pathlib.Path):
  # Lucene would make a folder that does not exist.
  folder = java.Paths.get(str(index_dir)) if index_dir.is_dir() else None
  if not folder or not java.DirectoryReader.indexExists(
    directory := java.FSDirectory.open(folder)
  ):
    raise errors.InputError(
      f'{index_dir} is no Lucene index; inpars-tpu index makes one'
    )
  try:
    return java.DirectoryReader.open(directory)
  except java.JavaException as error:
    reason = bm25_java.first_line(error)
    raise errors.InputError(
      f'{index_dir}: Lucene cannot read this index: {reason}'
    ) from None


def _read_language(index_dir: pathlib.Path) -> str:
  path = index_dir / _ANALYZER_FILE
  if not path.exists():
    _log.info(
      'bm25: %s was made elsewhere; its language is taken to be %r',
      index_dir, DEFAULT_LANGUAGE,
    )  # fmt: skip
    return DEFAULT_LANGUAGE
  return files.read_json(path, 'analyzer of the index')['language']


def _absolute(path: files.PathLike) -> pathlib.Path:
  return pathlib.Path(os.path.abspath(path))


def _to_java(text: str) -> str:
  """Lone surrogates, which Java's strings from Python cannot hold, are '?'."""
  return text.encode('utf-8', 'replace').decode()


def _chunks(items: Iterable, size: int) -> Iterator[list]:
  items = iter(items)
  while chunk := list(itertools.islice(items, size)):
    yield chunk
