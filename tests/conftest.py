"""Strict JAX for every test, and where the shared collections are."""

import os
import pathlib

import pytest


def pytest_configure(config):
  import jax

  jax.config.update('jax_numpy_rank_promotion', 'raise')
  jax.config.update('jax_numpy_dtype_promotion', 'strict')


@pytest.fixture(scope='session')
def shared_data() -> pathlib.Path:
  """The folder of real collections, tokenizers and prompts."""
  folder = os.environ.get('INPARS_TPU_TEST_DATA')
  if not folder:
    pytest.skip('INPARS_TPU_TEST_DATA does not name the shared collections')
  return pathlib.Path(folder)
