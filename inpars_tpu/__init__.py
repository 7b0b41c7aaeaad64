"""From a corpus that nobody has labelled to a reranker that knows it.

InPars-v2 (arXiv:2301.01820) in JAX. The names below are loaded when they are
first used, so that importing the package costs nothing.
"""

import importlib
from typing import Any

__version__ = '0.1.0'

_API = {
  'GPTJ': 'inpars_tpu.generator',
  'MonoT5': 'inpars_tpu.reranker',
  'bm25': 'inpars_tpu.bm25',
}

__all__ = ['GPTJ', 'MonoT5', '__version__', 'bm25']


def __getattr__(name: str) -> Any:
  if name not in _API:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(_API[name])
  return getattr(module, name, module)
