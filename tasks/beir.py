"""A task for each of BEIR's 18 datasets, `inpars_scifact` and so on.

`inpars_beir` mixes those whose corpus anyone can download. CQADupStack is one
of them: its forums are one pool of documents, with one reranker.
"""

from inpars_tpu import beir
from inpars_tpu.tasks import reranking

for name in beir.DATASETS:
  reranking.register(name)

reranking.mix('beir', [d.name for d in beir.DATASETS.values() if d.is_public])
