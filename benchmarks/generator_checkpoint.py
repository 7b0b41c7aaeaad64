"""Random generators for measurements, whose queries have a natural length.

Weights of standard deviation 0.05; the bias of the newline's logit is set so
that greedy queries have 17 to 18 tokens on average (the published ones have
15 to 20).
"""

import json
import pathlib

import numpy as np
import tokenizers

from benchmarks import side_by_side
from inpars_tpu import collection, files, generator, init, model_dir
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import convert

MEAN_TOKENS = (17.0, 18.0)
_STD = 0.05
_BPE_TOKENS = 8_192
_NEWLINE = 198  # Of GPT-2's alphabet, which every byte-level BPE begins with.
_BIAS = 'lm_head.bias'
# Documents that the bias is fitted on: those measured, where they are quick.
_PROBES = {'gptj_10m': 256}
_PROBES_ELSEWHERE = 32


def documents(num_documents: int) -> list[dict[str, str]]:
  """SciFact documents, from the first on: `doc_id`, `text`."""
  corpus = collection.Corpus(
    side_by_side.test_data() / 'data' / 'beir' / 'scifact' / 'corpus.jsonl'
  )
  chosen = (corpus[i] for i in range(num_documents))
  return [{'doc_id': d.doc_id, 'text': d.text} for d in chosen]


def write(name: str, directory: pathlib.Path) -> pathlib.Path:
  """Writes a named size into `directory`, unless it is there."""
  if (directory / 'ready').exists():
    return directory
  tokenizer_dir = directory / 'tokenizer'
  if name == 'gptj_10m':
    _train_bpe(tokenizer_dir)
  else:
    model_dir.copy_tokenizer(
      side_by_side.test_data() / 'tokenizers' / 'gptj', tokenizer_dir
    )
  hf_config = init.resolve_config(name, tokenizer_dir)
  config = config_lib.GPTJConfig.from_hf(hf_config)
  model_dir.copy_tokenizer(tokenizer_dir, directory)
  files.write_json(
    directory / 'tokenizer_config.json',
    {
      'tokenizer_class': 'GPT2Tokenizer',
      'eos_token': '<|endoftext|>',
      'bos_token': '<|endoftext|>',
      'unk_token': '<|endoftext|>',
      'model_max_length': config.max_positions,
    },
  )
  files.write_json(directory / 'config.json', hf_config)
  probes = documents(_PROBES.get(name, _PROBES_ELSEWHERE))
  _fit_bias(directory, config, [probe['text'] for probe in probes])
  (directory / 'ready').touch()
  return directory


def _train_bpe(directory: pathlib.Path) -> None:
  """A BPE of 8,192 trained on the corpus, the end of text its last token."""
  trained = tokenizers.ByteLevelBPETokenizer()
  trained.train_from_iterator(
    (document['text'] for document in documents(2_000)),
    vocab_size=_BPE_TOKENS - 1,
    show_progress=False,
  )
  directory.mkdir(parents=True, exist_ok=True)
  trained.save_model(str(directory))
  path = directory / 'vocab.json'
  vocabulary = json.loads(path.read_text())
  assert vocabulary['Ċ'] == _NEWLINE
  vocabulary['<|endoftext|>'] = len(vocabulary)
  path.write_text(json.dumps(vocabulary, ensure_ascii=False))


def _write_tensors(directory, config, bias: float) -> None:
  random = np.random.default_rng(1)
  writer = model_dir.TensorWriter(directory)
  for name, shape in convert.hf_shapes(config).items():
    if name.endswith(('ln_1.weight', 'ln_f.weight')):
      tensor = np.ones(shape, np.float32)
    elif name.endswith('.bias'):
      tensor = np.zeros(shape, np.float32)
    else:
      tensor = random.standard_normal(shape, np.float32) * np.float32(_STD)
    if name == _BIAS:
      tensor[_NEWLINE] = bias
    writer.add(name, tensor)
  writer.close()


def _fit_bias(directory, config, texts) -> None:
  """Bisects the newline's bias until queries are long and short enough."""
  low, high = 0.0, 16.0
  for _ in range(12):
    bias = (low + high) / 2
    _write_tensors(directory, config, bias)
    gptj = generator.GPTJ.load(directory, 'float32')
    queries = gptj.generate(
      texts, prompt='toolkit_gbq', data_dir=side_by_side.test_data()
    )
    mean = float(np.mean([len(query.log_probs) for query in queries]))
    if MEAN_TOKENS[0] <= mean <= MEAN_TOKENS[1]:
      return
    low, high = (bias, high) if mean > MEAN_TOKENS[1] else (low, bias)
  raise RuntimeError(f'no bias gives queries of {MEAN_TOKENS} tokens')
