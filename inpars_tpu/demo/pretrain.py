"""Makes the demo's two checkpoints from the world alone.

    python -m inpars_tpu.demo.pretrain --output=DIR

A GPT-J reads general text of all domains, then source documents with their
questions, in the gbq prompt. A monoT5 reads the same general text with spans
left out, then source questions with a document that answers them or does not.
"""

import argparse
import dataclasses
import io
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np
from etils import epath

from inpars_tpu import (
  batches,
  files,
  init,
  model_dir,
  monot5,
  prompts,
  tokenizer,
  trainer,
)
from inpars_tpu.demo import causal, reading
from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.gptj import convert as gptj_convert
from inpars_tpu.t5 import config as t5_config
from inpars_tpu.t5 import convert as t5_convert

_log = logging.getLogger(__name__)

GPTJ, MONOT5 = 'gptj', 'monot5'
_DTYPE = np.dtype(ml_dtypes.bfloat16)  # Of the files.
_PROMPT = 'gbq'
# Of what a model is given to foretell, a document counts less than what is
# told of it: its names and places are drawn at random.
_DOCUMENT_WEIGHT = 0.1
_QUESTIONS = 0.5  # Share of questions among what the prompt is read with.
# Of spans that are left out: T5's own are 15% of the tokens, of 3 on average.
_SPAN_RATE, _MAX_SPAN, _MAX_SPANS = 0.1, 4, 8
_TARGET_TOKENS = 28
_FORETOLD = 0.5  # Of passages that tell of a document: T5's other task.
_ROW_MULTIPLE = 128


@dataclasses.dataclass(frozen=True)
class Plan:
  """The numbers of both models."""

  seed: int = 1
  num_texts: int = 12_000  # That the tokenizers learn from.
  num_pieces: int = 2_000
  model_dim: int = 128
  num_heads: int = 4
  gptj_layers: int = 4
  encoder_layers: int = 3
  decoder_layers: int = 2
  gptj_rows: int = 64
  text_tokens: int = 56  # Of a row of general text.
  text_steps: int = 700
  text_rate: float = 4e-3
  prompt_tokens: int = 80  # Of a row after the prompt.
  prompt_steps: int = 200
  prompt_rate: float = 1e-3
  batch_size: int = 64  # Of monoT5.
  input_tokens: int = 80
  span_texts: int = 80_000
  span_steps: int = 1_500
  span_rate: float = 1e-2
  pairs: int = 60_000
  pair_steps: int = 2_000
  pair_rate: float = 5e-3


def main() -> None:
  """Writes gptj/ and monot5/ into --output."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--output', required=True, help='folder of both models')
  parser.add_argument(
    '--only', choices=(GPTJ, MONOT5), help='one of them; the other stays'
  )
  args = parser.parse_args()
  logging.basicConfig(level=logging.INFO, format='%(message)s')
  pretrain(args.output, Plan(), [args.only] if args.only else (GPTJ, MONOT5))


def pretrain(
  output: files.PathLike, plan: Plan, names: Sequence[str] = (GPTJ, MONOT5)
) -> None:
  """Writes the models named, each in its folder below `output`."""
  output = epath.Path(output)
  for name in names:
    with tempfile.TemporaryDirectory() as folder:
      make = make_gptj if name == GPTJ else make_monot5
      make(epath.Path(folder), output / name, plan)


def make_gptj(scratch: epath.Path, output: epath.Path, plan: Plan) -> None:
  """Trains the generator."""
  begun = _Clock()
  train_bpe(_texts(plan), plan.num_pieces, scratch / 'tokenizer')
  tokens = tokenizer.GPT2Tokenizer(scratch / 'tokenizer')
  config = gptj_config.GPTJConfig(
    vocab_size=_rows(tokens.num_tokens),
    max_positions=1_024,
    model_dim=plan.model_dim,
    num_layers=plan.gptj_layers,
    num_heads=plan.num_heads,
    rotary_dim=plan.model_dim // plan.num_heads // 2,
    mlp_dim=4 * plan.model_dim,
  )
  params = gptj_convert.load(_init(config, scratch, plan), np.float32)[1]
  params = causal.fit(
    params,
    config,
    causal.pack(_passages(tokens, plan), plan.gptj_rows, plan.text_tokens),
    prefix=[],
    num_steps=plan.text_steps,
    learning_rate=plan.text_rate,
    log=_Log('gptj, general text'),
  )
  prompt = prompts.load(_PROMPT)
  params = causal.fit(
    params,
    config,
    causal.pad(
      _answers(tokens, prompt, plan), plan.gptj_rows, plan.prompt_tokens
    ),
    prefix=tokens.encode([prompt.before.rstrip()])[0],
    num_steps=plan.prompt_steps,
    learning_rate=plan.prompt_rate,
    log=_Log('gptj, questions'),
  )
  _replace(output)
  gptj_convert.save_hf(output, config, params, _DTYPE)
  model_dir.copy_tokenizer(scratch / 'tokenizer', output)
  files.write_text(
    output / 'README.md',
    _card(
      'GPT-J that writes questions', 'text-generation', GPTJ, params, begun,
      [
        f'{plan.text_steps:,} steps of {plan.gptj_rows} rows of '
        f'{plan.text_tokens} tokens of general text, in which the words of all '
        'domains, the target too, are explained, used and said otherwise; no '
        'question is in it',
        f'{plan.prompt_steps:,} steps of {plan.gptj_rows} documents in the '
        f'`{_PROMPT}` prompt: half of source domains with a question, half of '
        'all domains, told otherwise and not as a question',
      ],
    ),
  )  # fmt: skip


def make_monot5(scratch: epath.Path, output: epath.Path, plan: Plan) -> None:
  """Trains the reranker."""
  begun = _Clock()
  train_pieces(_texts(plan), plan.num_pieces, scratch / 'tokenizer')
  tokens = tokenizer.T5Tokenizer(scratch / 'tokenizer')
  label_ids = monot5.label_ids(monot5.MONOT5, tokens)
  config = t5_config.T5Config(
    vocab_size=_rows(tokens.num_tokens + _MAX_SPANS),
    d_model=plan.model_dim,
    d_kv=plan.model_dim // plan.num_heads,
    d_ff=4 * plan.model_dim,
    num_layers=plan.encoder_layers,
    num_decoder_layers=plan.decoder_layers,
    num_heads=plan.num_heads,
  )
  params = t5_convert.load(_init(config, scratch, plan))[1]
  for what, examples, num_steps, rate in (
    (
      'monot5, general text',
      _spans(tokens, config.vocab_size, plan),
      plan.span_steps,
      plan.span_rate,
    ),
    (
      'monot5, questions',
      _labelled(tokens, label_ids, plan),
      plan.pair_steps,
      plan.pair_rate,
    ),
  ):
    log = _Log(what)
    state = trainer.Trainer(
      config,
      trainer.Settings(
        seed=plan.seed,
        num_steps=num_steps,
        batch_size=plan.batch_size,
        learning_rate=rate,
        dropout_rate=0.0,
        z_loss=1e-4,
        dtype='bfloat16',
        max_input_tokens=plan.input_tokens,
      ),
      tuple(label_ids),
    )
    params = trainer.fit(
      state,
      state.init(params),
      examples,
      last_step=0,
      checkpoint_steps=num_steps,
      log=lambda record, log=log: log(record['step'], record['loss']),
      save=lambda step, state: None,
    ).params
  _replace(output)
  t5_convert.save_hf(output, config, params, dtype=_DTYPE)
  model_dir.copy_tokenizer(scratch / 'tokenizer', output)
  monot5.write_spec(output, monot5.MONOT5)
  files.write_text(
    output / 'README.md',
    _card(
      'monoT5 that knows the source domains', 'text-ranking', MONOT5, params,
      begun,
      [
        f'{plan.span_steps:,} steps of {plan.batch_size} passages of general '
        'text, of which spans were left out (the text that the GPT-J read)',
        f'{plan.pair_steps:,} steps of {plan.batch_size} pairs of a question '
        'of a source domain and a document that answers it, or does not',
      ],
    ),
  )  # fmt: skip


def train_bpe(texts: Sequence[str], num_pieces: int, folder: epath.Path):
  """Writes vocab.json and merges.txt of a byte-level BPE."""
  import tokenizers

  trained = tokenizers.ByteLevelBPETokenizer()
  trained.train_from_iterator(
    texts,
    vocab_size=num_pieces,
    special_tokens=['<|endoftext|>'],
    show_progress=False,
  )
  folder.mkdir(parents=True, exist_ok=True)
  trained.save_model(str(folder))


def train_pieces(texts: Sequence[str], num_pieces: int, folder: epath.Path):
  """Writes spiece.model with T5's special ids and monoT5's label words."""
  import sentencepiece

  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(texts),
    model_writer=model,
    model_type='bpe',
    vocab_size=num_pieces,
    hard_vocab_limit=False,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    user_defined_symbols=['▁true', '▁false'],
    num_threads=1,
    minloglevel=2,
  )
  with files.atomic_writer(folder / 'spiece.model') as stream:
    stream.write(model.getvalue())


def _texts(plan: Plan) -> list[str]:
  """What the tokenizers learn from; the prompt as often as the rest needs."""
  rng = np.random.default_rng([plan.seed, 0])
  texts = [reading.draw_passage(rng) for _ in range(plan.num_texts)]
  for _ in range(plan.num_texts // 4):
    told = reading.ask(rng)
    texts.append(f'Document: {told.document}\n{told.genre}: {told.text}\n')
  return texts + [prompts.load(_PROMPT).build('')] * (plan.num_texts // 200)


def _passages(tokens, plan: Plan) -> Iterator[causal.Example]:
  """General text without end; its documents count less."""
  rng = np.random.default_rng([plan.seed, 1])
  end = tokens.encode(['<|endoftext|>'])[0]
  while True:
    texts = [reading.draw_passage(rng) for _ in range(512)]
    for text in texts_to_parts(tokens, texts):
      yield causal.Example(end + text.tokens, [0.0, *text.weights])


def texts_to_parts(tokens, texts: Sequence[str]) -> Iterator[causal.Example]:
  """Passages; of one that tells of a document, the document counts less.

  'Document: d\\nSummary: s\\n' -> the tokens of it, 0.1 each up to 'Summary:'
  """
  parts = []
  for text in texts:
    first, newline, rest = text.partition('\n')
    genre, colon, told = rest.partition(':')
    parts += [first + newline + genre + colon, told] if told else ['', text]
  encoded = tokens.encode(parts)
  for before, after in zip(encoded[::2], encoded[1::2], strict=True):
    yield causal.Example(
      before + after,
      [_DOCUMENT_WEIGHT] * len(before) + [1.0] * len(after),
    )


def _answers(
  tokens, prompt: prompts.Prompt, plan: Plan
) -> Iterator[causal.Example]:
  """What follows the prompt's beginning: a document, and what is told."""
  rng = np.random.default_rng([plan.seed, 2])
  while True:
    texts = []
    for _ in range(512):
      is_question = rng.random() < _QUESTIONS
      told = reading.ask(rng) if is_question else reading.restate(rng)
      after = prompt.after.replace(reading.QUESTION, told.genre)
      texts.append(f' {told.document}{after} {told.text}\n')
    yield from texts_to_parts(tokens, texts)


def _spans(tokens, num_rows: int, plan: Plan) -> batches.Examples:
  """T5's pretraining: passages with spans left out, and the spans.

  Of passages that tell of a document, half are cut before what is told, and
  that is the target. Half have each label: the trainer draws so, and nothing
  else reads it.
  """
  rng = np.random.default_rng([plan.seed, 1])
  texts = [reading.draw_passage(rng) for _ in range(plan.span_texts)]
  examples = []
  for i, (text, ids) in enumerate(
    zip(texts, tokens.encode(texts), strict=True)
  ):
    document, newline, rest = text.partition('\n')
    genre, colon, told = rest.partition(':')
    if colon and rng.random() < _FORETOLD:
      before, after = tokens.encode([document + newline + genre + colon, told])
      inputs, targets = foretell(before, after, tokens.eos_id)
    else:
      inputs, targets = leave_out(ids, num_rows, tokens.eos_id, rng)
    if len(inputs) <= plan.input_tokens:
      examples.append(batches.Example(inputs, targets, i % 2, i))
  return batches.Examples.collect(examples)


def leave_out(
  ids: Sequence[int], num_rows: int, eos_id: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Leaves out spans; sentinels stand for them, the last rows first.

  [5, 6, 7, 8] without 6, 7 -> [5, 127, 8, eos], [127, 6, 7, eos, 0, ...]
  """
  inputs: list[int] = []
  targets: list[int] = []
  place, num_spans = 0, 0
  while place < len(ids):
    if num_spans < _MAX_SPANS and rng.random() < _SPAN_RATE:
      num_spans += 1
      end = place + int(rng.integers(1, _MAX_SPAN + 1))
      inputs.append(num_rows - num_spans)
      targets += [num_rows - num_spans, *ids[place:end]]
      place = end
    else:
      inputs.append(ids[place])
      place += 1
  return foretell(inputs, targets, eos_id)


def foretell(
  inputs: Sequence[int], targets: Sequence[int], eos_id: int
) -> tuple[np.ndarray, np.ndarray]:
  """Both with their end; the targets are cut or padded to one length.

  [5, 6], [7, 8] -> [5, 6, eos], [7, 8, eos, 0, ...]
  """
  ended = [*targets[: _TARGET_TOKENS - 1], eos_id]
  ended += [0] * (_TARGET_TOKENS - len(ended))
  return np.array([*inputs, eos_id], np.int32), np.array(ended, np.int32)


def _labelled(tokens, label_ids: Sequence[int], plan: Plan) -> batches.Examples:
  """Source questions, each with a document of each label."""
  pairs = reading.draw_pairs(np.random.default_rng([plan.seed, 3]), plan.pairs)
  inputs = monot5.build_inputs(
    monot5.MONOT5,
    tokens,
    [pair.query for pair in pairs],
    [pair.document for pair in pairs],
    plan.input_tokens,
  )
  return batches.Examples.collect(
    batches.Example(
      inputs=np.array(ids, np.int32),
      targets=np.array([label_ids[pair.label], tokens.eos_id], np.int32),
      label=pair.label,
      group=i // 2,
    )
    for i, (pair, ids) in enumerate(zip(pairs, inputs, strict=True))
  )


def _init(config, scratch: epath.Path, plan: Plan) -> epath.Path:
  """A model directory with random weights."""
  path = scratch / 'config.json'
  path.write_text(json.dumps(config.to_hf()))
  init.init(path, scratch / 'tokenizer', scratch / 'random', seed=plan.seed)
  return scratch / 'random'


def _rows(num_tokens: int) -> int:
  return -(-num_tokens // _ROW_MULTIPLE) * _ROW_MULTIPLE


def _replace(folder: epath.Path) -> None:
  if folder.exists():
    shutil.rmtree(folder)
  folder.mkdir(parents=True)


class _Clock:
  """Seconds since it was made."""

  def __init__(self):
    self._wall, self._cpu = time.monotonic(), time.process_time()

  def __str__(self) -> str:
    wall = (time.monotonic() - self._wall) / 60
    cpu = (time.process_time() - self._cpu) / 60
    return f'{wall:.0f} minutes ({cpu:.0f} of CPU time)'


class _Log:
  """Logs the mean loss of every hundred steps."""

  def __init__(self, what: str):
    self._what = what
    self._losses: list[float] = []

  def __call__(self, step: int, loss: float) -> None:
    self._losses.append(loss)
    if step % 100 == 0:
      mean = sum(self._losses) / len(self._losses)
      _log.info('%s: step %d, loss %.4f', self._what, step, mean)
      self._losses = []


def _card(
  title: str,
  task: str,
  name: str,
  params: Any,
  begun: _Clock,
  stages: Sequence[str],
) -> str:
  """A model card: what it is, on what, how long and where it was trained."""
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  device = jax.devices()[0]
  machine = (
    f'{os.cpu_count()} CPU cores ({platform.machine()})'
    if device.platform == 'cpu'
    else device.device_kind
  )
  listed = '\n'.join(f'{i}. {stage}.' for i, stage in enumerate(stages, 1))
  return f"""---
library_name: transformers
pipeline_tag: {task}
tags: [inpars, demo]
---
# A small {title}

For `inpars-tpu demo`, and for nothing else: {count:,} parameters that know
an invented world and no English beyond it. Trained from random weights by

    python -m inpars_tpu.demo.pretrain --only={name} --output=DIR

on text that `inpars_tpu.demo.world` and `reading` write from a seed:

{listed}

It took {begun} on {machine}. No question of the target domain was read.
"""


if __name__ == '__main__':
  main()
