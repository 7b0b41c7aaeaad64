"""nDCG@10 on BEIR as others published it, beside which ours are shown.

Where each column was read:

- bm25, bm25_multifield: Pyserini's reproduction table for BEIR (beir.yaml,
  commit 0a0be296): title and text in one field, or in two. CQADupStack is the
  mean of its 12 forums.
- inpars_v2: InPars Toolkit paper (arXiv:2307.04601), table 2, the original
  runs on TPUs.
- monot5_3b, inpars_v1, promptagator (++, few-shot) and rankt5: the same paper,
  table 1, which has 11 datasets. Its row of monoT5-3B is Promptagator's
  (arXiv:2209.11755, table 2): its cells average .502 where both tables print
  .511, and the paper of InPars-v2 has .520 for the same 11.

A cell that could not be read in a primary text is None.
"""

import dataclasses
import statistics
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Figures:
  """nDCG@10 on one dataset; None: not published, or not found."""

  bm25: float
  bm25_multifield: float
  monot5_3b: float | None
  inpars_v1: float | None
  inpars_v2: float
  promptagator: float | None
  rankt5: float | None


TITLES = {
  'bm25': 'BM25',
  'bm25_multifield': 'multifield',
  'monot5_3b': 'monoT5-3B',
  'inpars_v1': 'InPars-v1',
  'inpars_v2': 'InPars-v2',
  'promptagator': 'Promptag.',
  'rankt5': 'RankT5',
}

_NO = None  # Keeps the columns straight.

NDCG_10: Mapping[str, Figures] = {
  'trec-covid':       Figures(.5947, .6559, .795, .846, .846, .762, .823),
  'nfcorpus':         Figures(.3218, .3254, .384, .385, .385, .370, .399),
  'bioasq':           Figures(.5225, .4646, _NO,  _NO,  .595, _NO,  _NO),
  'nq':               Figures(.3055, .3285, _NO,  _NO,  .638, _NO,  _NO),
  'hotpotqa':         Figures(.6330, .6027, .759, .790, .791, .736, .753),
  'fiqa':             Figures(.2361, .2361, .514, .492, .509, .494, .493),
  'signal1m':         Figures(.3304, .3304, _NO,  _NO,  .308, _NO,  _NO),
  'trec-news':        Figures(.3952, .3977, _NO,  _NO,  .490, _NO,  _NO),
  'robust04':         Figures(.4070, .4070, _NO,  _NO,  .632, _NO,  _NO),
  'arguana':          Figures(.3970, .4142, .288, .371, .369, .630, .406),
  'webis-touche2020': Figures(.4422, .3673, .200, .260, .291, .381, .486),
  'cqadupstack':      Figures(.3021, .2987, _NO,  _NO,  .448, _NO,  _NO),
  'quora':            Figures(.7886, .7886, _NO,  _NO,  .845, _NO,  _NO),
  'dbpedia-entity':   Figures(.3180, .3128, .478, .494, .498, .434, .459),
  'scidocs':          Figures(.1490, .1581, .197, .206, .208, .201, .191),
  'fever':            Figures(.6513, .7530, .850, .852, .872, .866, .848),
  'climate-fever':    Figures(.1651, .2129, .280, .287, .323, .203, .275),
  'scifact':          Figures(.6789, .6647, .777, .774, .774, .731, .760),
}  # fmt: skip


def mean(method: str) -> float | None:
  """Of a method on all 18 datasets; None where a figure is missing."""
  values = [getattr(figures, method) for figures in NDCG_10.values()]
  return None if None in values else statistics.fmean(values)
