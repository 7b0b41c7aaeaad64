"""TensorFlow for examples and its checkpoints: on the host, and quiet.

Imported before anything else that imports TensorFlow; seqio, slow as well, is
for whoever asks `load` for it. TensorFlow is kept off the accelerators, which
are JAX's, and what its libraries print while they load is dropped.
"""

import contextlib
import importlib
import os
import types
from collections.abc import Iterator

from inpars_tpu import errors


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
  """Drops what native code writes to file descriptor 2."""
  kept = os.dup(2)
  try:
    with open(os.devnull, 'wb') as sink:
      os.dup2(sink.fileno(), 2)
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)


def load(name: str) -> types.ModuleType:
  """Imports a module that imports TensorFlow, quietly.

  Raises:
    InputError: it is not installed; how to get it.
  """
  try:
    with _quiet_stderr():
      return importlib.import_module(name)
  except ModuleNotFoundError as error:
    raise errors.InputError(
      f'this needs {error.name}, which is not installed: '
      "pip install 'inpars_tpu[data]'"
    ) from None


os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
tf = load('tensorflow')
with _quiet_stderr():  # Looking for devices prints too.
  for kind in ('GPU', 'TPU'):
    tf.config.set_visible_devices([], kind)
tfds = load('tensorflow_datasets')
