"""Model directories with random weights: for tests, measurements, the demo.

A tensor's values depend on the seed and its name alone, and shards are written
one at a time: a 6B model needs the memory of one shard.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from inpars_tpu import errors, files, manifest, model_dir, monot5, tokenizer
from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.gptj import convert as gptj_convert
from inpars_tpu.t5 import config as t5_config
from inpars_tpu.t5 import tensors as t5_tensors

_MAX_INPUT_TOKENS = 512  # T5's model_max_length.
_GPTJ_STD = 0.02  # GPT-J's initializer_range.

# layers, model dim, heads, rotary dim.
_GPTJ_SIZES = {
  'gptj_tiny': (2, 32, 4, 4),
  'gptj_10m': (8, 256, 4, 32),
  'gptj_125m': (12, 768, 12, 32),  # Named after GPT-2's; 162M, untied head.
  'gptj_6b': (28, 4_096, 16, 64),
}
# layers, d_model, heads, d_kv, d_ff.
_T5_SIZES = {
  't5_tiny': (2, 32, 4, 8, 64),
  't5_16m': (4, 256, 4, 64, 1_024),
  't5_small': (6, 512, 8, 64, 2_048),
  't5_base': (12, 768, 12, 64, 3_072),
  't5_large': (24, 1_024, 16, 64, 4_096),
  't5_3b': (24, 1_024, 32, 128, 16_384),
}
SIZE_NAMES = (*_GPTJ_SIZES, *_T5_SIZES)
# GPT-J's embedding has 50,400 rows for GPT-2's 50,257 tokens; T5's has 32,128
# for 32,000 pieces and 100 sentinels, which is the next multiple of 128.
_GPT2_TOKENS, _GPTJ_ROWS = 50_257, 50_400
_T5_PIECES, _NUM_SENTINELS = 32_000, 100
_ROW_MULTIPLE = 128


def main(args) -> None:
  """`inpars-tpu init`."""
  if not args.seed.isdigit():
    raise errors.InputError(f'--seed={args.seed} is not a natural number')
  init(args.config, args.tokenizer, args.output, seed=int(args.seed))


def init(
  config: str,
  tokenizer_dir: files.PathLike,
  output: files.PathLike,
  *,
  seed: int,
) -> None:
  """Writes a Hugging Face directory with random float32 weights.

  Args:
    config: a named size, or the path of a config.json.
    tokenizer_dir: its tokenizer files are copied into the model.
    output: the model directory.
    seed: of the weights.

  Raises:
    InputError: an unknown name, a tokenizer that does not fit the
      architecture or has more tokens than the embedding has rows.
  """
  hf_config = resolve_config(config, tokenizer_dir)
  is_gptj = hf_config['model_type'] == 'gptj'
  if not is_gptj:  # Both words must be pieces.
    monot5.label_ids(monot5.MONOT5, tokenizer.T5Tokenizer(tokenizer_dir))
  job = manifest.begin_directory(
    'init',
    output,
    settings={'config': hf_config, 'seed': seed},
    inputs={'tokenizer': tokenizer_dir},
  )
  if job.is_complete:
    return
  if is_gptj:
    sizes = gptj_config.GPTJConfig.from_hf(hf_config)
    shapes, spread = gptj_convert.hf_shapes(sizes), _gptj_std
  else:
    sizes = t5_config.T5Config.from_hf(hf_config)
    shapes, spread = t5_tensors.hf_shapes(sizes), _t5_std(sizes)
  writer = model_dir.TensorWriter(job.output)
  for name, shape in shapes.items():
    writer.add(name, _random(name, shape, spread(name), seed))
  writer.close()
  model_dir.copy_tokenizer(tokenizer_dir, job.output)
  _write_limits(job.output, is_gptj, hf_config)
  if not is_gptj:
    monot5.write_spec(job.output, monot5.MONOT5)
  files.write_json(job.output / 'config.json', hf_config)
  job.finish(num_parameters=sum(int(np.prod(s)) for s in shapes.values()))


def resolve_config(
  config: str, tokenizer_dir: files.PathLike
) -> dict[str, Any]:
  """The config.json of a named size or a file, its rows fit for a tokenizer.

  Raises:
    InputError: as `init`.
  """
  if config in _GPTJ_SIZES:
    return named_config(
      config, tokenizer.GPT2Tokenizer(tokenizer_dir).num_tokens
    )
  if config in _T5_SIZES:
    return named_config(config, tokenizer.T5Tokenizer(tokenizer_dir).num_tokens)
  if not epath.Path(config).exists():
    raise errors.unknown('config', config, SIZE_NAMES)
  hf_config = model_dir.read_config(config, ('gptj', 't5', 'mt5'), 'init')
  _check_tokenizer(hf_config, tokenizer_dir)
  return hf_config


def named_config(name: str, num_tokens: int | None = None) -> dict[str, Any]:
  """The config.json of a named size.

  Args:
    name: of a GPT-J or a T5.
    num_tokens: of its tokenizer; None: as the published models have it.

  Raises:
    InputError: an unknown name.
  """
  if name in _GPTJ_SIZES:
    layers, width, heads, rotary = _GPTJ_SIZES[name]
    return gptj_config.GPTJConfig(
      vocab_size=_rows(num_tokens or _GPT2_TOKENS),
      num_layers=layers,
      model_dim=width,
      mlp_dim=4 * width,
      num_heads=heads,
      rotary_dim=rotary,
    ).to_hf()
  if name in _T5_SIZES:
    layers, width, heads, d_kv, d_ff = _T5_SIZES[name]
    return t5_config.T5Config(
      vocab_size=_rows((num_tokens or _T5_PIECES) + _NUM_SENTINELS),
      num_layers=layers,
      num_decoder_layers=layers,
      d_model=width,
      num_heads=heads,
      d_kv=d_kv,
      d_ff=d_ff,
    ).to_hf()
  raise errors.unknown('config', name, SIZE_NAMES)


def _check_tokenizer(
  hf_config: Mapping[str, Any], tokenizer_dir: files.PathLike
) -> None:
  is_gptj = hf_config['model_type'] == 'gptj'
  kind = tokenizer.GPT2Tokenizer if is_gptj else tokenizer.T5Tokenizer
  model_dir.check_vocabulary(
    tokenizer_dir, kind(tokenizer_dir).num_tokens, hf_config['vocab_size']
  )


def _rows(num_tokens: int) -> int:
  if num_tokens == _GPT2_TOKENS:
    return _GPTJ_ROWS
  return -(-num_tokens // _ROW_MULTIPLE) * _ROW_MULTIPLE


def _random(
  name: str, shape: tuple[int, ...], std: float | None, seed: int
) -> np.ndarray:
  """A float32 tensor: normal with `std`; None: ones (a norm's scale)."""
  if std is None:
    return np.ones(shape, np.float32)
  if std == 0:
    return np.zeros(shape, np.float32)
  generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
  return generator.standard_normal(shape, np.float32) * np.float32(std)


def _gptj_std(name: str) -> float | None:
  if name.endswith('.bias'):
    return 0.0
  return None if 'ln_' in name else _GPTJ_STD


def _t5_std(sizes: t5_config.T5Config):
  """Spreads of Mesh TensorFlow's T5, as transformers has them."""
  width = sizes.d_model**-0.5
  by_name = {
    'shared': 1.0,
    'lm_head': 1.0,
    'q': (sizes.d_model * sizes.d_kv) ** -0.5,
    'k': width,
    'v': width,
    'o': (sizes.num_heads * sizes.d_kv) ** -0.5,
    'relative_attention_bias': width,
    'wi': width,
    'wi_0': width,
    'wi_1': width,
    'wo': sizes.d_ff**-0.5,
    'layer_norm': None,
    'final_layer_norm': None,
  }
  return lambda name: by_name[name.split('.')[-2]]


def _write_limits(
  directory: epath.Path, is_gptj: bool, hf_config: Mapping[str, Any]
) -> None:
  """Says in tokenizer_config.json which tokenizer it is and its limit."""
  path = directory / 'tokenizer_config.json'
  there = files.read_json(path, 'tokenizer config') if path.exists() else {}
  if is_gptj:
    name, limit = 'GPT2Tokenizer', hf_config['n_positions']
  else:
    name, limit = 'T5Tokenizer', _MAX_INPUT_TOKENS
  files.write_json(
    path, {'tokenizer_class': name, **there, 'model_max_length': limit}
  )
