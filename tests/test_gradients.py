"""The trainer's gradients against torch's, stored in data/t5_gradients_hf.npz.

Of each tensor: its norm, and 32 of its numbers. The torch test makes them anew:
where the file is missing it writes it, else it compares.
"""

import pathlib

import numpy as np
import pytest
from flax import traverse_util

from inpars_tpu import batches, trainer
from inpars_tpu.t5 import tensors
from tests import test_t5_network

STORED = pathlib.Path(__file__).parent / 'data' / 't5_gradients_hf.npz'
CONFIGS = test_t5_network.CONFIGS
FALSE, TRUE, EOS = 6, 61, 1
Z_LOSS = 1e-2  # So much that leaving it out would show.
NUM_TOKENS = (150, 37, 3, 90)  # Two microbatches, one of them grouped.
NUM_NUMBERS = 32


def make_examples() -> batches.Examples:
  generator = np.random.default_rng(5)
  return batches.Examples.collect(
    batches.Example(
      np.append(generator.integers(2, 256, length - 1), EOS).astype(np.int32),
      np.array([TRUE if i % 2 else FALSE, EOS], np.int32),
      label=i % 2,
      group=0,
    )
    for i, length in enumerate(NUM_TOKENS)
  )


def sample(gradient: np.ndarray) -> np.ndarray:
  """Its norm, then numbers at even distances."""
  flat = gradient.reshape(-1)
  places = np.linspace(0, len(flat) - 1, NUM_NUMBERS).astype(int)
  norm = np.linalg.norm(flat.astype(np.float64))
  return np.append(norm, flat[places]).astype(np.float32)


def our_gradients(name: str) -> dict[str, np.ndarray]:
  """Hugging Face's name -> gradient of the mean loss, as torch has it."""
  settings = trainer.Settings(
    seed=1,
    num_steps=1,
    batch_size=len(NUM_TOKENS),
    learning_rate=1e-3,
    dropout_rate=0.0,
    z_loss=Z_LOSS,
    dtype='float32',
    max_input_tokens=150,
    microbatch_tokens=300,
  )
  model_trainer = trainer.Trainer(CONFIGS[name], settings, [FALSE, TRUE])
  sums, num_terms = model_trainer.add_up(
    test_t5_network.load(name), make_examples(), np.arange(4), step=1
  )
  assert model_trainer.num_programs() == 2
  gradients = traverse_util.flatten_dict(sums.gradients)
  found = {}
  for hf_name, path in tensors.names(CONFIGS[name]).items():
    gradient = np.asarray(gradients[path]) / num_terms
    found[hf_name] = gradient.T if tensors.is_transposed(path) else gradient
  return found


def torch_gradients(name: str) -> dict[str, np.ndarray]:
  model, torch = test_t5_network.hugging_face(CONFIGS[name])
  examples = make_examples()
  inputs = np.zeros((len(examples), max(NUM_TOKENS)), np.int64)
  for i in range(len(examples)):
    inputs[i, : NUM_TOKENS[i]] = examples.inputs(i)
  inputs, targets = torch.from_numpy(inputs), torch.from_numpy(examples.targets)
  logits = model(
    input_ids=inputs,
    attention_mask=(inputs != 0).long(),
    decoder_input_ids=torch.nn.functional.pad(targets.long(), (1, 0))[:, :-1],
  ).logits
  log_z = logits.logsumexp(-1)
  chosen = logits.gather(-1, targets.long()[..., None])[..., 0]
  (log_z - chosen + Z_LOSS * log_z**2).mean().backward()
  gradients = {
    key: parameter.grad.numpy()
    for key, parameter in model.named_parameters()
    if parameter.grad is not None
  }
  copies = ['encoder.embed_tokens.weight', 'decoder.embed_tokens.weight']
  if CONFIGS[name].tie_word_embeddings:
    copies.append('lm_head.weight')
  gradients['shared.weight'] = sum(
    gradients.pop(key) for key in ('shared.weight', *copies) if key in gradients
  )
  return {key: gradients[key] for key in tensors.names(CONFIGS[name])}


def assert_close(found: np.ndarray, expected: np.ndarray, name: str) -> None:
  """Within 1e-4 of the tensor's own norm, and of a typical number of it."""
  error = np.linalg.norm(found[1:] - expected[1:])
  assert error <= 1e-4 * np.linalg.norm(expected[1:]), name
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize('name', CONFIGS)
def test_gradients_equal_torch(name):
  with np.load(STORED) as stored:
    expected = {
      key.removeprefix(f'{name}/'): stored[key]
      for key in stored
      if key.startswith(f'{name}/')
    }
  gradients = our_gradients(name)
  assert gradients.keys() == expected.keys()
  for key, gradient in gradients.items():
    assert_close(sample(gradient), expected[key], key)
    assert expected[key][0] > 0


@pytest.mark.torch
def test_torch_gives_the_stored_gradients():
  found = {}
  for name in CONFIGS:
    theirs = torch_gradients(name)
    for key, gradient in our_gradients(name).items():
      error = np.linalg.norm(gradient - theirs[key])
      assert error <= 1e-4 * np.linalg.norm(theirs[key]), key
    found |= {f'{name}/{k}': sample(v) for k, v in theirs.items()}
  if not STORED.exists():
    np.savez_compressed(STORED, **found)
  with np.load(STORED) as stored:
    assert sorted(stored) == sorted(found)
    for key, value in found.items():
      assert_close(value, stored[key], key)
