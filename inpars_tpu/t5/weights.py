"""The weights of one T5 as they are stored, in whatever format that is."""

import dataclasses
import os
from collections.abc import Callable

import numpy as np

from inpars_tpu import errors
from inpars_tpu.t5 import config as config_lib
from inpars_tpu.t5 import tensors


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights of one T5, wherever they are kept; they fit `config`.

  Attributes:
    config: sizes.
    where: the directory or checkpoint, for messages.
    read_raw: array of one of our paths, [in, out].
    step: how often Adafactor was run on them; 0 where it left no slots.
    read_slots: Adafactor's slots of one of our paths, by t5x's names.
  """

  config: config_lib.T5Config
  where: os.PathLike | str
  read_raw: Callable[[tensors.Path], np.ndarray]
  step: int = 0
  read_slots: Callable[[tensors.Path], dict[str, np.ndarray]] = lambda _: {}

  def read(self, path: tensors.Path) -> np.ndarray:
    """One array, in the dtype that is stored; a kernel may be a turned view.

    Raises:
      InputError: a float16 that had no room for the number it was made from.
    """
    array = self.read_raw(path)
    if array.dtype == np.float16 and not np.isfinite(array).all():
      raise errors.InputError(
        f'{self.where}: {"/".join(path)} holds infinities: weights beyond '
        '65,504 were saved as float16; get them in bfloat16 or float32'
      )
    return array
