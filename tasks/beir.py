"""A task for each of BEIR's 18 datasets: `inpars_scifact` and so on."""

from inpars_tpu import beir
from inpars_tpu.tasks import reranking

for name in beir.DATASETS:
  reranking.register(name)
