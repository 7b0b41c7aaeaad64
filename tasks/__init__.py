"""seqio tasks `inpars_<dataset>`: BEIR's, and your own as in my_corpus.py.

Import this package as `inpars_tpu.tasks`, in gin too.
"""

from inpars_tpu.tasks import beir, my_corpus  # They register their tasks.
from inpars_tpu.tasks.reranking import mix, register, vocabulary

__all__ = ['beir', 'mix', 'my_corpus', 'register', 'vocabulary']
