"""Random rerankers for measurements, and real pairs to score.

As `inpars-tpu init` makes them, but the decoder looks at few tokens and heeds
them: scores of pairs differ by nats, as a trained reranker's do, and not by
tenths.
"""

import itertools
import math
import pathlib

import numpy as np

from benchmarks import side_by_side
from inpars_tpu import collection, files, init, model_dir

# End of a tensor's name -> what it is multiplied by.
_SCALES = {
  'EncDecAttention.q.weight': 4.0,
  'EncDecAttention.o.weight': 4.0,
  'decoder.final_layer_norm.weight': 2.0,
}


def pairs(num_pairs: int, document_share: float = 1) -> list[dict[str, str]]:
  """Queries of SciFact with documents: the judged ones, then others.

  In the order of the qrels; query i has document i of the corpus after that,
  then document i + 1, until there are enough.

  Args:
    num_pairs: how many.
    document_share: of each document's words so much is kept, from its start:
      0.54 makes pairs of 247 tokens on average, 1 of 390.
  """
  folder = side_by_side.test_data() / 'data' / 'beir' / 'scifact'
  corpus = collection.Corpus(folder / 'corpus.jsonl')
  queries = collection.read_queries(folder / 'queries.jsonl')
  qrels = collection.read_qrels(folder / 'qrels' / 'test.tsv')
  judged = ((q, corpus.find(d)) for q in qrels for d in qrels[q])
  others = (
    (query, (i + shift) % len(corpus))
    for shift in itertools.count()
    for i, query in enumerate(qrels)
  )
  chosen = itertools.islice(itertools.chain(judged, others), num_pairs)
  return [
    {
      'query': collection.clean(queries[query]),
      'text': first_words(corpus[place].text, document_share),
    }
    for query, place in chosen
  ]


def first_words(text: str, share: float) -> str:
  """The first words of a text, `share` of them, rounded up."""
  words = text.split(' ')
  return ' '.join(words[: math.ceil(share * len(words))])


def write(name: str, directory: pathlib.Path) -> pathlib.Path:
  """Writes a named size into `directory`, unless it is there."""
  if (directory / 'ready').exists():
    return directory
  plain = directory / 'plain'
  init.init(name, side_by_side.test_data() / 'tokenizers/t5', plain, seed=1)
  reader = model_dir.TensorReader(plain)
  writer = model_dir.TensorWriter(directory)
  for tensor_name in reader.shapes:
    scales = [s for end, s in _SCALES.items() if tensor_name.endswith(end)]
    scale = np.float32(scales[0] if scales else 1)
    writer.add(tensor_name, reader.read(tensor_name) * scale)
  writer.close()
  model_dir.copy_tokenizer(plain, directory)
  for file in ('config.json', 'reranker.json'):
    files.write_text(directory / file, (plain / file).read_text())
  (directory / 'ready').touch()
  return directory
