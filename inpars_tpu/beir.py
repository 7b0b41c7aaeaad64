"""The 18 datasets of BEIR, and what is special about some of them.

The only module that knows their names (BEIR, arXiv:2104.08663, table 1,
without MS MARCO, which BEIR trains on), sizes and addresses. Where they are
from, each in at least two places:

- md5: README of github.com/beir-cellar/beir; downloads.json of ir_datasets,
  whose sizes of the zips are also those of TFDS (checksums.tsv). The server's
  Touche-2020 is its second version.
- counts of the public ones: metadata.json of ir_datasets; the judged queries
  also qrels.beir-v1.0.0-*.test.txt of castorini/anserini-tools, the documents
  also Pyserini's flat indexes, which leave out empty ones (1 of TREC-COVID, 38
  of FiQA).
- counts of the others: queries and judgements from the same qrels, except
  Robust04's; documents as the flat index has them, so without empty ones. What
  their queries.jsonl holds besides judged queries depends on who makes it, and
  neither that nor Robust04's judgements in BEIR's form were found: None.
- tasks: what Promptagator (arXiv:2209.11755) says before the document and the
  query, as the InPars toolkit's templates.yaml has it; none was found for
  Climate-FEVER.
"""

import dataclasses
from collections.abc import Mapping

from inpars_tpu import published

SERVER = 'https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets'


@dataclasses.dataclass(frozen=True)
class Counts:
  """Lines of a dataset's files; None: not known."""

  documents: int
  queries: int | None  # Of queries.jsonl: those of all splits.
  judged_queries: int  # Of qrels/test.tsv, and its lines:
  judgements: int | None


@dataclasses.dataclass(frozen=True)
class Dataset:
  """One dataset of BEIR, under the name of its folder."""

  name: str
  title: str
  counts: Counts  # Of all forums together, where there are forums.
  zip_bytes: int | None = None
  md5: str | None = None  # Of the zip.
  # Queries are documents of the corpus too: a run leaves out the document that
  # has the query's own id, as BEIR does.
  drops_own_id: bool = False
  # One pool of documents and one reranker, but negatives, runs and metrics
  # for each forum, averaged.
  forums: Mapping[str, Counts] = dataclasses.field(default_factory=dict)
  ask: str | None = None  # Who gives it out, where BEIR cannot.
  # Promptagator's words before the document and before the query.
  task: tuple[str, str] | None = None

  @property
  def is_public(self) -> bool:
    """Whether BEIR's server has it."""
    return self.ask is None


_FORUMS = {
  'android': Counts(22_998, 699, 699, 1_696),
  'english': Counts(40_221, 1_570, 1_570, 3_765),
  'gaming': Counts(45_301, 1_595, 1_595, 2_263),
  'gis': Counts(37_637, 885, 885, 1_114),
  'mathematica': Counts(16_705, 804, 804, 1_358),
  'physics': Counts(38_316, 1_039, 1_039, 1_933),
  'programmers': Counts(32_176, 876, 876, 1_675),
  'stats': Counts(42_269, 652, 652, 913),
  'tex': Counts(68_184, 2_906, 2_906, 5_154),
  'unix': Counts(47_382, 1_072, 1_072, 1_693),
  'webmasters': Counts(17_405, 506, 506, 1_395),
  'wordpress': Counts(48_605, 541, 541, 744),
}

DATASETS: Mapping[str, Dataset] = {
  dataset.name: dataset
  for dataset in (
    Dataset('trec-covid', 'TREC-COVID', Counts(171_332, 50, 50, 66_336),
            73_876_720, 'ce62140cb23feb9becf6270d0d1fe6d1',
            task=('', 'Question:')),
    Dataset('nfcorpus', 'NFCorpus', Counts(3_633, 3_237, 323, 12_334),
            2_448_432, 'a89dba18a62ef92f7d323ec890a0d38d',
            task=('Article:', 'Query:')),
    Dataset('bioasq', 'BioASQ', Counts(14_914_603, None, 500, 2_359),
            ask='register at participants-area.bioasq.org (task 9b)'),
    Dataset('nq', 'NQ', Counts(2_681_468, 3_452, 3_452, 4_201),
            498_307_926, 'd4d3d2e48787a744b6f6e691ff534307'),
    Dataset('hotpotqa', 'HotpotQA', Counts(5_233_329, 97_852, 7_405, 14_810),
            654_025_350, 'f412724f78b0d91183a0e86805e16114',
            task=('Evidence:', 'Vexed question:')),
    Dataset('fiqa', 'FiQA-2018', Counts(57_638, 6_648, 648, 1_706),
            17_948_027, '17918ed23cd04fb15047f73e6c3bd9d9', task=('', '')),
    Dataset('signal1m', 'Signal-1M (RT)', Counts(2_866_315, None, 97, 1_899),
            ask='request it at research.signal-ai.com/datasets/'
            'signal1m-tweetir.html'),
    Dataset('trec-news', 'TREC-NEWS', Counts(594_589, None, 57, 15_655),
            ask='request the Washington Post collection of NIST: '
            'trec.nist.gov/data/wapost'),
    Dataset('robust04', 'Robust04', Counts(528_036, None, 249, None),
            ask='request TREC disks 4 and 5 of NIST: trec.nist.gov/data/cd45'),
    Dataset('arguana', 'ArguAna', Counts(8_674, 1_406, 1_406, 1_406),
            3_773_617, '8ad3e3c2a5867cdced806d6503f29b99', drops_own_id=True,
            task=('Argument:', 'Counter argument:')),
    Dataset('webis-touche2020', 'Touche-2020', Counts(382_545, 49, 49, 2_214),
            227_132_363, '46f650ba5a527fc69e0a6521c5a23563',
            task=('', 'Debate:')),
    Dataset('cqadupstack', 'CQADupStack',
            Counts(457_199, 13_145, 13_145, 23_703),
            5_343_728_040, '4e41456d7df8ee7760a7f866133bda78', forums=_FORUMS),
    Dataset('quora', 'Quora', Counts(522_931, 15_000, 10_000, 15_675),
            15_853_968, '18fb154900ba42a600f84b839c173167', drops_own_id=True),
    Dataset('dbpedia-entity', 'DBPedia', Counts(4_635_922, 467, 400, 43_515),
            639_285_131, 'c2a39eb420a3164af735795df012ac2c',
            task=('entity:', 'query:')),
    Dataset('scidocs', 'SCIDOCS', Counts(25_657, 1_000, 1_000, 29_928),
            142_471_588, '38121350fc3a4d2f48850f6aff52e4a9',
            task=('', 'The passage is about')),
    Dataset('fever', 'FEVER', Counts(5_416_568, 123_142, 6_666, 7_937),
            1_236_988_269, '5a818580227bfb4b35bb6fa46d9b6c03',
            task=('', 'Is it true that')),
    Dataset('climate-fever', 'Climate-FEVER',
            Counts(5_416_593, 1_535, 1_535, 4_681),
            1_228_666_652, '8b66f0a9126c521bae2bde127b4dc99d'),
    Dataset('scifact', 'SciFact', Counts(5_183, 1_109, 300, 339),
            2_816_079, '5f7d1de60b170fc8027bb7898e2efca1',
            task=('', 'Finding:')),
  )
}  # fmt: skip


def parts(name: str) -> tuple[str, ...]:
  """Folders below a dataset's with a test each: its forums, or itself, ('',).

  parts('scifact') -> ('',); parts('cqadupstack') -> ('android', ...)
  """
  dataset = DATASETS.get(name)
  return tuple(dataset.forums) if dataset and dataset.forums else ('',)


def how_to_get(dataset: Dataset, data_dir: object) -> str:
  """What to do where a dataset is not there: one command, or whom to ask."""
  if dataset.is_public:
    return f'inpars-tpu download --dataset={dataset.name} --data_dir={data_dir}'
  return (
    f"{dataset.title} is not BEIR's to give out: {dataset.ask}; put "
    f'corpus.jsonl, queries.jsonl and qrels/test.tsv into '
    f'{data_dir}/{dataset.name}, as examples/dataset of '
    'github.com/beir-cellar/beir says'
  )


def main(args) -> None:
  """`inpars-tpu datasets`: the table on stdout."""
  print(format_table())


def format_table() -> str:
  """The datasets as rows; the published nDCG@10 as columns."""
  methods = [field.name for field in dataclasses.fields(published.Figures)]
  rows = [['dataset', 'documents', 'queries', 'zip',
           *(published.TITLES[method] for method in methods)]]  # fmt: skip
  for name, dataset in DATASETS.items():
    figures = published.NDCG_10[name]
    size = 'ask' if not dataset.zip_bytes else _size(dataset.zip_bytes)
    rows.append(
      [name, f'{dataset.counts.documents:,}',
       f'{dataset.counts.judged_queries:,}', size,
       *(_figure(method, getattr(figures, method)) for method in methods)]
    )  # fmt: skip
  means = (_figure(method, published.mean(method)) for method in methods)
  rows.append(['mean of 18', '', '', '', *means])
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    '  '.join(
      cell.rjust(width) if i else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    for row in rows
  ]
  lines.insert(1, '-' * len(lines[0]))
  lines.insert(-1, lines[1])
  notes = [
    '',
    'queries: the judged test queries. zip "ask": its owners give it out;',
    'inpars-tpu download --dataset=NAME says who. The others: nDCG@10 as',
    'published, where inpars_tpu/published.py says; empty: not found.',
  ]
  return '\n'.join([*lines, *notes])


def _figure(method: str, value: float | None) -> str:
  if value is None:
    return ''
  digits = 4 if method.startswith('bm25') else 3  # As they were published.
  return f'{value:.{digits}f}'.removeprefix('0')


def _size(num_bytes: int) -> str:
  """_size(2_816_079) -> '2.8 MB'; _size(5_343_728_040) -> '5.3 GB'."""
  if num_bytes < 1e9:
    return f'{num_bytes / 1e6:.1f} MB'
  return f'{num_bytes / 1e9:.1f} GB'
