"""Random checkpoints and tokenizers, small enough for tests."""

import pathlib
from collections.abc import Mapping

import numpy as np
import tokenizers

from inpars_tpu import files, model_dir
from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.gptj import convert as gptj_convert

WORDS = (
  'the a of in and is what how why which water river stone bird boat wheel '
  'light green old cold moves holds carries sleeps near under after true false '
  'Query Document Relevant Example Good Bad Question'
).split()


def random_sentences(count: int, seed: int) -> list[str]:
  """Sentences of 5 to 20 of `WORDS`."""
  generator = np.random.default_rng(seed)
  return [
    ' '.join(generator.choice(WORDS, generator.integers(5, 20))) + '.'
    for _ in range(count)
  ]


def write_gpt2_tokenizer(directory: pathlib.Path) -> pathlib.Path:
  """A byte-level BPE of 400 tokens, trained on `WORDS`."""
  directory.mkdir(parents=True, exist_ok=True)
  trained = tokenizers.ByteLevelBPETokenizer()
  trained.train_from_iterator(
    random_sentences(200, seed=0),
    vocab_size=400,
    special_tokens=['<|endoftext|>'],
    show_progress=False,
  )
  trained.save_model(str(directory))
  return directory


def write_gptj(
  directory: pathlib.Path,
  config: gptj_config.GPTJConfig,
  seed: int,
  head_bias: Mapping[int, float] | None = None,
) -> pathlib.Path:
  """A GPT-J whose every tensor is random, biases and norms too.

  `head_bias` (token -> bias) makes some tokens likely, a newline for instance.
  """
  generator = np.random.default_rng(seed)
  writer = model_dir.TensorWriter(directory)
  for name, shape in gptj_convert.hf_shapes(config).items():
    tensor = generator.normal(0, 0.25, shape)
    if name.endswith(('ln_1.weight', 'ln_f.weight')):
      tensor += 1
    if name == 'lm_head.bias':
      for token, bias in (head_bias or {}).items():
        tensor[token] = bias
    writer.add(name, tensor.astype(np.float32))
  writer.close()
  files.write_json(directory / 'config.json', config.to_hf())
  return directory
