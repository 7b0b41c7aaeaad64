"""The 18 datasets of BEIR, and what is special about some of them.

The only module that knows their names (BEIR, arXiv:2104.08663, table 1,
without MS MARCO, which BEIR trains on).
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Dataset:
  """One dataset of BEIR, under the name of its folder."""

  name: str
  # Queries are documents of the corpus too: a run leaves out the document that
  # has the query's own id, as BEIR does.
  drops_own_id: bool = False
  # One pool of documents and one reranker, but negatives, runs and metrics
  # for each forum, averaged.
  forums: tuple[str, ...] = ()
  is_public: bool = True  # False: its owners give it out, BEIR cannot.


_CQADUPSTACK_FORUMS = (
  'android',
  'english',
  'gaming',
  'gis',
  'mathematica',
  'physics',
  'programmers',
  'stats',
  'tex',
  'unix',
  'webmasters',
  'wordpress',
)

DATASETS: Mapping[str, Dataset] = {
  dataset.name: dataset
  for dataset in (
    Dataset('trec-covid'),
    Dataset('nfcorpus'),
    Dataset('bioasq', is_public=False),
    Dataset('nq'),
    Dataset('hotpotqa'),
    Dataset('fiqa'),
    Dataset('signal1m', is_public=False),
    Dataset('trec-news', is_public=False),
    Dataset('robust04', is_public=False),
    Dataset('arguana', drops_own_id=True),
    Dataset('webis-touche2020'),
    Dataset('cqadupstack', forums=_CQADUPSTACK_FORUMS),
    Dataset('quora', drops_own_id=True),
    Dataset('dbpedia-entity'),
    Dataset('scidocs'),
    Dataset('fever'),
    Dataset('climate-fever'),
    Dataset('scifact'),
  )
}
