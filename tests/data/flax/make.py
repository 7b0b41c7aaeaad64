"""Writes what is beside it, with Hugging Face's last Flax models.

Needs transformers 4.41.2, flax 0.8.4, jax 0.4.26: not this project's. As tests
use it: t5/ and gptj/ (in shards), and in outputs.npz the logits of INPUTS.
"""

import pathlib

import numpy as np
import transformers
from flax import traverse_util

FOLDER = pathlib.Path(__file__).parent
INPUTS = np.array([[5, 9, 3, 17, 1], [8, 2, 1, 0, 0]], np.int32)
TARGETS = np.array([[0, 7], [0, 20]], np.int32)

T5 = transformers.T5Config(
  vocab_size=24,
  d_model=8,
  d_kv=2,
  d_ff=12,
  num_layers=1,
  num_decoder_layers=2,
  num_heads=3,
  feed_forward_proj='gated-gelu',
  tie_word_embeddings=False,
  decoder_start_token_id=0,
)
GPTJ = transformers.GPTJConfig(
  vocab_size=24,
  n_positions=16,
  n_embd=8,
  n_layer=2,
  n_head=2,
  rotary_dim=2,
  n_inner=12,
)


def randomise(params):
  flat = traverse_util.flatten_dict(params, sep='/')
  for i, name in enumerate(sorted(flat)):
    shape = flat[name].shape
    tensor = 0.3 * np.random.default_rng(i).normal(size=shape)
    is_scale = len(shape) == 1 and not name.endswith('bias')
    flat[name] = (tensor + is_scale).astype(np.float32)
  return traverse_util.unflatten_dict(flat, sep='/')


def main():
  t5 = transformers.FlaxT5ForConditionalGeneration(T5)
  t5.params = randomise(t5.params)
  t5.save_pretrained(FOLDER / 't5')
  gptj = transformers.FlaxGPTJForCausalLM(GPTJ)
  gptj.params = randomise(gptj.params)
  gptj.save_pretrained(FOLDER / 'gptj', max_shard_size='2KB')
  outputs = {
    't5': t5(
      input_ids=INPUTS,
      attention_mask=(INPUTS != 0).astype(int),
      decoder_input_ids=TARGETS,
    ).logits,
    'gptj': gptj(input_ids=INPUTS[:1]).logits,
  }
  np.savez_compressed(FOLDER / 'outputs.npz', **outputs)
  for left in FOLDER.glob('*/generation_config.json'):
    left.unlink()


if __name__ == '__main__':
  main()
