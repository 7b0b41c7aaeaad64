"""A task for a corpus of your own: copy this file and change the name.

The name is that of the folder which holds corpus.jsonl, or what was given as
--name to `inpars-tpu negatives`. For t5x, import your copy in the gin file.
"""

from inpars_tpu.tasks import reranking

reranking.register('my_corpus')
