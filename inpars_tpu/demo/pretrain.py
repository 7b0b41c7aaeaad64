"""Makes the demo's two checkpoints from the world alone.

    python -m inpars_tpu.demo.pretrain --output=DIR

A GPT-J reads general text of all domains, then source documents with their
questions, in the gbq prompt. A monoT5 begins with word vectors of the same
general text, and learns from source questions with a document that answers
them or does not.
"""

import argparse
import dataclasses
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np
from etils import epath

from inpars_tpu import files, init, model_dir, monot5, prompts, tokenizer
from inpars_tpu.demo import (
  card,
  causal,
  judging,
  lessons,
  pieces,
  priors,
  reading,
  rows,
  vectors,
  words,
  world,
)
from inpars_tpu.gptj import config as gptj_config
from inpars_tpu.gptj import convert as gptj_convert
from inpars_tpu.t5 import config as t5_config
from inpars_tpu.t5 import convert as t5_convert

_log = logging.getLogger(__name__)

GPTJ, MONOT5 = 'gptj', 'monot5'
_DTYPE = np.dtype(ml_dtypes.bfloat16)  # Of the files.
_PROMPT = 'gbq'
_ROW_MULTIPLE = 128  # Of the embeddings' rows.
# Of the seed, what else is drawn: one stream each.
_TEXTS, _PASSAGES, _ANSWERS, _LESSONS, _VECTORS = range(5)


@dataclasses.dataclass(frozen=True)
class Course:
  """Lessons of documents that tell as much of a thing."""

  num_told: int  # Of five parts.
  num_tokens: int  # Of an input; longer ones are cut.
  num_steps: int


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
  text_steps: int = 1_400
  text_rate: float = 4e-3
  prompt_tokens: int = 80  # Of a row after the prompt.
  prompt_steps: int = 400
  prompt_rate: float = 1e-3
  num_explanations: int = 20_000  # That the word vectors come from.
  lesson_tokens: int = 2_176  # Of a batch, padding counted.
  lesson_rate: float = 1.5e-3
  courses: tuple[Course, ...] = (
    Course(num_told=2, num_tokens=48, num_steps=200),
    Course(num_told=3, num_tokens=56, num_steps=100),
    Course(num_told=5, num_tokens=68, num_steps=1_300),
  )
  repeated: float = 0.2  # Share of steps that go back to an earlier course.


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
  clock = card.Clock()
  pieces.train_bpe(_texts(plan), plan.num_pieces, scratch / 'tokenizer')
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
  read = rows.passages(tokens, _rng(plan, _PASSAGES))
  params = causal.fit(
    params,
    config,
    causal.pack(read, plan.gptj_rows, plan.text_tokens),
    prefix=[],
    num_steps=plan.text_steps,
    learning_rate=plan.text_rate,
    log=_logger('gptj, general text: step %d, loss %.4f'),
  )
  prompt = prompts.load(_PROMPT)
  read = rows.answers(tokens, prompt, _rng(plan, _ANSWERS))
  params = causal.fit(
    params,
    config,
    causal.pad(read, plan.gptj_rows, plan.prompt_tokens),
    prefix=tokens.encode([prompt.before.rstrip()])[0],
    num_steps=plan.prompt_steps,
    learning_rate=plan.prompt_rate,
    log=_logger('gptj, questions: step %d, loss %.4f'),
  )
  _replace(output)
  gptj_convert.save_hf(output, config, params, _DTYPE)
  model_dir.copy_tokenizer(scratch / 'tokenizer', output)
  text = card.write(
    title='GPT-J that writes questions',
    task='text-generation',
    name=GPTJ,
    num_params=_count(params),
    clock=clock,
    stages=[
      f'{plan.text_steps:,} steps of {plan.gptj_rows} rows of '
      f'{plan.text_tokens} tokens of general text, in which the words of all '
      'domains, the target too, are explained, used and said otherwise; no '
      'question is in it',
      f'{plan.prompt_steps:,} steps of {plan.gptj_rows} documents in the '
      f'`{_PROMPT}` prompt: half of source domains with a question, half of '
      'all domains, told otherwise and not as a question',
    ],
  )
  files.write_text(output / 'README.md', text)


def make_monot5(scratch: epath.Path, output: epath.Path, plan: Plan) -> None:
  """Trains the reranker."""
  clock = card.Clock()
  pieces.train_pieces(_texts(plan), plan.num_pieces, scratch / 'tokenizer')
  tokens = tokenizer.T5Tokenizer(scratch / 'tokenizer')
  config = t5_config.T5Config(
    vocab_size=_rows(tokens.num_tokens),
    d_model=plan.model_dim,
    d_kv=plan.model_dim // plan.num_heads,
    d_ff=4 * plan.model_dim,
    num_layers=plan.encoder_layers,
    num_decoder_layers=plan.decoder_layers,
    num_heads=plan.num_heads,
  )
  params = t5_convert.load(_init(config, scratch, plan))[1]
  priors.prepare(params, config)
  params['token_embedder']['embedding'] = vectors.make(
    tokens,
    _explanations(plan),
    config.vocab_size,
    config.d_model,
    _rng(plan, _VECTORS),
  )
  params = judging.fit(
    params,
    config,
    _lessons(tokens, plan),
    label_ids=monot5.label_ids(monot5.MONOT5, tokens),
    eos_id=tokens.eos_id,
    num_steps=sum(course.num_steps for course in plan.courses),
    learning_rate=plan.lesson_rate,
    log=_logger(
      'monot5, questions: step %d, loss %.4f, %.3f of the labels and %.3f of '
      'the words right'
    ),
  )
  _replace(output)
  t5_convert.save_hf(output, config, params, dtype=_DTYPE)
  model_dir.copy_tokenizer(scratch / 'tokenizer', output)
  monot5.write_spec(output, monot5.MONOT5)
  text = card.write(
    title='monoT5 that knows the source domains',
    task='text-ranking',
    name=MONOT5,
    num_params=_count(params),
    clock=clock,
    stages=[
      'random weights, but for two things: the embedding is of word vectors '
      f'from {plan.num_explanations:,} explanations of words of all domains, '
      'the target too, of the kind that the GPT-J reads, without a question; '
      "and the encoder's heads begin by looking near, or far to one side for "
      'what is like the token that looks',
      *(
        f'{course.num_steps:,} steps of '
        f'{plan.lesson_tokens // course.num_tokens} questions of source '
        f'domains, each with a document that tells {course.num_told} of five '
        'parts of a thing and answers it, or does not; beside the label the '
        'encoder foretells which words of the question are wrong'
        for course in plan.courses
      ),
    ],
  )
  files.write_text(output / 'README.md', text)


def _texts(plan: Plan) -> list[str]:
  """What the tokenizers learn from; the prompt as often as the rest needs."""
  rng = _rng(plan, _TEXTS)
  texts = [reading.draw_passage(rng) for _ in range(plan.num_texts)]
  for _ in range(plan.num_texts // 4):
    told = reading.ask(rng)
    texts.append(f'Document: {told.document}\n{told.genre}: {told.text}\n')
  return texts + [prompts.load(_PROMPT).build('')] * (plan.num_texts // 200)


def _explanations(plan: Plan) -> list[str]:
  """Sentences of the general text that explain a word."""
  rng = _rng(plan, _PASSAGES)
  texts = [
    world.with_articles(reading.explain(world.choose(words.DOMAINS, rng), rng))
    for _ in range(plan.num_explanations)
  ]
  return [
    sentence for text in texts for sentence in text.rstrip('.').split('. ')
  ]


def _lessons(tokens, plan: Plan) -> Iterator[judging.Batch]:
  """The courses, each with steps that go back to the ones before it."""
  rng = _rng(plan, _LESSONS)
  encoder = judging.Encoder(tokens)
  for number, course in enumerate(plan.courses):
    for _ in range(course.num_steps):
      now = course
      if number and rng.random() < plan.repeated:
        now = plan.courses[int(rng.integers(number))]
      drawn = [
        lessons.draw(world.choose(words.SOURCES, rng), now.num_told, rng)
        for _ in range(plan.lesson_tokens // now.num_tokens)
      ]
      yield encoder.batch(drawn, now.num_tokens)


def _init(config, scratch: epath.Path, plan: Plan) -> epath.Path:
  """A model directory with random weights."""
  path = scratch / 'config.json'
  path.write_text(json.dumps(config.to_hf()))
  init.init(path, scratch / 'tokenizer', scratch / 'random', seed=plan.seed)
  return scratch / 'random'


def _rng(plan: Plan, stream: int) -> np.random.Generator:
  return np.random.default_rng([plan.seed, stream])


def _rows(num_tokens: int) -> int:
  return -(-num_tokens // _ROW_MULTIPLE) * _ROW_MULTIPLE


def _count(params: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def _replace(folder: epath.Path) -> None:
  if folder.exists():
    shutil.rmtree(folder)
  folder.mkdir(parents=True)


def _logger(message: str) -> Callable[..., None]:
  """Logs a step and the means of its numbers, of every hundred steps."""
  waiting: list[Sequence[float]] = []

  def log(step: int, numbers: float | Sequence[float]) -> None:
    waiting.append(np.atleast_1d(numbers))
    if step % 100 == 0:
      _log.info(message, step, *np.mean(waiting, axis=0))
      waiting.clear()

  return log


if __name__ == '__main__':
  main()
