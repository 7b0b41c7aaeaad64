"""Strict JAX for every test, and where the shared collections are."""

import os
import pathlib
from collections.abc import Iterator

import pytest
from etils import epath

from tests import store


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


@pytest.fixture(scope='session')
def bucket(tmp_path_factory) -> Iterator[epath.Path]:
  """A bucket of a stand-in for Google Cloud Storage."""
  with pytest.MonkeyPatch.context() as patch:
    with store.serve(tmp_path_factory.mktemp('copies')) as environment:
      for name, value in environment.items():
        patch.setenv(name, value)
      yield epath.Path(f'gs://{store.BUCKET}')
