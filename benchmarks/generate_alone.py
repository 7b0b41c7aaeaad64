"""The generator on whatever devices there are, beside a plain matrix product.

Random weights are made on the devices and prompts have no text, so that 6B
needs no checkpoint and no tokenizer. FLOP/s are of needed work
(inpars_tpu/flops.py): padding, dummies and rows that wait count for nothing.

Random weights write tokens that are as good as drawn; one in MEAN_NEW_TOKENS of
the vocabulary is a stop token. So lengths of queries are geometric, cut at
MAX_NEW_TOKENS: rows end at less even times than those of a real generator.
"""

import argparse
import math

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import side_by_side
from inpars_tpu import (
  flops,
  generate,
  init,
  prompt_tokens,
  row_batch,
  row_decoder,
)
from inpars_tpu.gptj import config as config_lib
from inpars_tpu.gptj import convert, model, sharding

PREFIX_TOKENS = 312
MEAN_TOKENS = 170  # Of a prompt, after the prefix.
MAX_TOKENS = 256
MAX_NEW_TOKENS = 64
MEAN_NEW_TOKENS = 15
_MIN_TOKENS = 24


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds what only --alone reads."""
  parser.add_argument('--mesh', default=None, help='alone: data=2,model=4')
  parser.add_argument(
    '--shard_documents',
    type=int,
    default=generate.SHARD_DOCUMENTS,
    help='alone: prompts between which all rows end, as in shards of queries',
  )


def measure(args: argparse.Namespace) -> side_by_side.Record:
  """Decodes after random prompts twice, then times the matrix product."""
  config = config_lib.GPTJConfig.from_hf(init.named_config(args.config))
  decoder = random_decoder(config, args.dtype, args.mesh)
  built = random_prompts(args.num_documents, config.vocab_size)
  limits = {'max_new_tokens': MAX_NEW_TOKENS, 'batch_size': args.batch_size}

  def work() -> tuple[list[row_batch.Ended], int, bool]:
    steps_before = decoder.num_row_steps
    shared = decoder.read_shared(built)
    ended: list[row_batch.Ended] = []
    for start in range(0, len(built.own), args.shard_documents):
      shard = range(len(built.own))[start : start + args.shard_documents]
      ended += decoder.decode(built, shared, shard, **limits)
    num_steps = decoder.num_row_steps - steps_before
    return ended, num_steps, shared.table is not None

  (ended, num_row_steps, has_table), record = side_by_side.measure_twice(work)
  num_own = sum(map(len, built.own))
  num_new = sum(len(row.tokens) for row in ended)
  of_prompt, of_new = flops.by_weights(config)
  by_weights = of_prompt * (PREFIX_TOKENS + num_own) + of_new * num_new
  return {
    'config': args.config,
    'dtype': args.dtype,
    'mesh': str(decoder.shape),
    'documents': len(ended),
    'shard_documents': args.shard_documents,
    'prefix_tokens': PREFIX_TOKENS,
    'mean_tokens': round(num_own / len(ended), 1),
    'mean_new_tokens': round(num_new / len(ended), 2),
    'rows': decoder.num_rows(built, **limits),
    'documents_per_s': round(len(ended) / record['seconds'], 3),
    'new_tokens_per_s': round(num_new / record['seconds'], 3),
    # The first token of a row is written by prefill, not by a step.
    'occupancy': round((num_new - len(ended)) / num_row_steps, 4),
    # It spares a part of the work that counts as needed: 3% at 6B.
    'has_first_table': has_table,
    'tflops_per_s_by_weights': side_by_side.tera(
      by_weights / record['seconds']
    ),
    **side_by_side.beside_matmul(
      needed_flops(config, built, ended),
      record,
      args.dtype,
      num_devices=math.prod(decoder.shape),
    ),
  }


def needed_flops(
  config: config_lib.GPTJConfig,
  built: prompt_tokens.Prompts,
  ended: list[row_batch.Ended],
) -> int:
  """Of the prefix, once, and of each prompt and what was written after it."""
  return flops.read_prefix(config, len(built.prefix)) + sum(
    sum(
      flops.write_query(
        config,
        len(built.prefix),
        len(built.own[row.index]),
        len(row.tokens) - 1,
      )
    )
    for row in ended
  )


def random_decoder(
  config: config_lib.GPTJConfig, dtype: str, mesh_text: str | None
) -> row_decoder.RowDecoder:
  """A decoder with random weights and stop tokens."""
  kind = jnp.dtype(dtype)
  weight_bytes = convert.num_bytes(config, kind)
  mesh = row_decoder.make_mesh(mesh_text, config, kind, weight_bytes)
  is_stop = np.zeros(config.vocab_size, bool)
  num_stops = config.vocab_size // MEAN_NEW_TOKENS
  is_stop[
    np.random.default_rng(2).choice(config.vocab_size, num_stops, replace=False)
  ] = True
  return row_decoder.RowDecoder(
    config,
    random_params(config, kind, mesh),
    is_stop,
    dtype=kind,
    mesh=mesh,
    weight_bytes=weight_bytes,
  )


def random_params(
  config: config_lib.GPTJConfig, dtype: jnp.dtype, mesh: sharding.Mesh
) -> model.Params:
  """Weights drawn where they lie, each kernel by its number of inputs.

  What layers add stays small beside the embedding: else all rows grow alike
  with depth, and a few tokens, stop tokens or not, are written again and again.
  """
  key = jax.random.key(1)
  structs, tree = jax.tree_util.tree_flatten_with_path(
    convert.abstract_params(config, dtype, mesh=mesh)
  )

  def draw(number, path, struct):
    names = [key.key for key in path if hasattr(key, 'key')]
    std = {'embedding': 1.0, 'bias': 0.0, 'scale': 0.0}.get(
      names[-1], struct.shape[0] ** -0.5
    )
    if 'out' in names or 'mlp_out' in names:
      std *= (2 * config.num_layers) ** -0.5
    drawn = side_by_side.normal(
      jax.random.fold_in(key, number), struct.shape, struct.dtype, std,
      struct.sharding,
    )  # fmt: skip
    return drawn + 1 if names[-1] == 'scale' else drawn

  return tree.unflatten(
    [draw(number, *struct) for number, struct in enumerate(structs)]
  )


def random_prompts(num_prompts: int, vocab_size: int) -> prompt_tokens.Prompts:
  """Prompts after a common prefix, MEAN_TOKENS of their own on average."""
  random = np.random.default_rng(1)
  lengths = side_by_side.random_lengths(
    random, num_prompts, mean=MEAN_TOKENS, low=_MIN_TOKENS, high=MAX_TOKENS
  )
  return prompt_tokens.Prompts(
    prefix=random.integers(0, vocab_size, PREFIX_TOKENS).tolist(),
    own=[random.integers(0, vocab_size, n, np.int32) for n in lengths],
    buckets=prompt_tokens.choose_buckets(lengths),
    num_chars=[0] * num_prompts,  # Of no text.
    num_cut=0,
  )
