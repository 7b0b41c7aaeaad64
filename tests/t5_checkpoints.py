"""Random T5 checkpoints and a small vocabulary of pieces, for tests.

A tensor's values depend on its name and shape alone, so that the outputs of
Hugging Face's T5 that are stored in data/ are for the same weights.
"""

import io
import pathlib
import zlib

import numpy as np
import sentencepiece

from inpars_tpu import files, model_dir, monot5, recipe, t5x_checkpoint
from inpars_tpu import reranker as reranker_lib
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import tensors
from tests import checkpoints

# Unlike sizes wherever two could be confused.
V1_0 = config_lib.T5Config(
  vocab_size=256,
  d_model=32,
  d_kv=8,
  d_ff=40,
  num_layers=2,
  num_decoder_layers=3,
  num_heads=6,
)
V1_1 = config_lib.T5Config(
  vocab_size=256,
  d_model=32,
  d_kv=8,
  d_ff=40,
  num_layers=3,
  num_decoder_layers=2,
  num_heads=6,
  is_gated=True,
  activation='gelu_new',
  tie_word_embeddings=False,
  scale_decoder_output=False,
)


def random_weights(config: config_lib.T5Config) -> dict[str, np.ndarray]:
  """Hugging Face's name -> float32 tensor; norms and biases are random too."""
  weights = {}
  for name, shape in tensors.hf_shapes(config).items():
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    tensor = generator.normal(size=shape)
    if name.endswith('layer_norm.weight'):
      tensor = 1 + 0.2 * tensor
    elif not name.startswith('shared') and 'relative' not in name:
      tensor *= shape[1] ** -0.5  # [out, in]
    weights[name] = tensor.astype(np.float32)
  return weights


def write_weights(
  directory: pathlib.Path, weights: dict[str, np.ndarray], **options
) -> None:
  """Writes safetensors; options are those of TensorWriter."""
  writer = model_dir.TensorWriter(directory, **options)
  for name, tensor in weights.items():
    writer.add(name, tensor)
  writer.close()


def write_t5(
  directory: pathlib.Path, config: config_lib.T5Config, **options
) -> pathlib.Path:
  """A Hugging Face directory without a tokenizer."""
  write_weights(directory, random_weights(config), **options)
  files.write_json(directory / 'config.json', config.to_hf())
  return directory


def write_t5x(
  directory: pathlib.Path,
  config: config_lib.T5Config,
  weights: dict[str, np.ndarray] | None = None,
) -> pathlib.Path:
  """A t5x checkpoint with config.json beside it, parameters only.

  `weights` as `random_weights` gives them, which are the default.
  """
  weights = weights or random_weights(config)
  writer = t5x_checkpoint.Writer(directory, step=0)
  for name, path in tensors.names(config).items():
    if name in weights:
      is_turned = path[-1] in ('kernel', 'rel_embedding')
      tensor = weights[name].T if is_turned else weights[name]
      writer.add('/'.join(('target', *path)), tensor)
  writer.close()
  files.write_json(directory / 'config.json', config.to_hf())
  return directory


def write_pieces(directory: pathlib.Path, *more_words: str) -> pathlib.Path:
  """A spiece.model of 68 pieces, with each label word in one of them.

  `more_words` are a piece each beside those.
  """
  directory.mkdir(parents=True, exist_ok=True)
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(checkpoints.random_sentences(400, seed=0)),
    model_writer=model,
    vocab_size=68 + len(more_words),
    user_defined_symbols=[f'▁{word}' for word in more_words],
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    minloglevel=2,
  )
  (directory / 'spiece.model').write_bytes(model.getvalue())
  return directory


def write_reranker(
  directory: pathlib.Path, config: config_lib.T5Config = V1_0
) -> pathlib.Path:
  """A whole directory: weights, pieces, reranker.json."""
  write_t5(directory, config)
  write_pieces(directory)
  monot5.write_spec(directory, monot5.MONOT5)
  return directory


def small_recipe(**macros: str) -> recipe.Recipe:
  """The default recipe with one small shape for all scoring, in float32."""
  return recipe.load(
    bindings={
      'MAX_INPUT_TOKENS': '32',
      'SCORE_BATCH_TOKENS': '128',
      'RERANKER_DTYPE': "'float32'",
    }
    | macros
  )


class Interrupted(BaseException):
  """What `interrupt_after` raises."""


def interrupt_after(monkeypatch, num_parts: int) -> list[int]:
  """Makes scoring die after some parts; returns the sizes of those it did."""
  scored = []
  score_inputs = reranker_lib.MonoT5.score_inputs

  def score_some(self, inputs, progress=None):
    if len(scored) == num_parts:
      raise Interrupted
    scored.append(len(inputs))
    return score_inputs(self, inputs, progress)

  monkeypatch.setattr(reranker_lib.MonoT5, 'score_inputs', score_some)
  return scored
