"""Checkpoints of training, by Orbax: written behind its back, whole or absent.

`DIRECTORY/<step>/`. What a kill leaves of one has another name; it is not seen
and is deleted the next time.
"""

import errno
import logging
import os
import shutil
from typing import Any

import jax
import orbax.checkpoint as ocp

from inpars_tpu import errors, files, stores

_log = logging.getLogger(__name__)

_NUM_KEPT = 2


class Checkpoints:
  """The newest states of one training, by step. Use it in a `with`."""

  def __init__(self, directory: files.PathLike):
    self._directory = stores.absolute(directory)  # Orbax wants it so.
    self._manager = ocp.CheckpointManager(
      self._directory,
      item_handlers=ocp.StandardCheckpointHandler(),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.LatestN(_NUM_KEPT),
        cleanup_tmp_directories=True,
        enable_async_checkpointing=True,
      ),
    )

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *_) -> None:
    self._manager.close()  # Waits for what is being written.

  def save(self, step: int, state: Any) -> None:
    """Writes a state on another thread; its arrays may be given away now.

    Raises:
      OSError: the disk has no room for it, or had none for the one before.
    """
    self._check_room(sum(array.nbytes for array in jax.tree.leaves(state)))
    try:
      self._manager.save(step, args=ocp.args.StandardSave(state))
    except ValueError as error:  # Of the one before, or a file's.
      if 'No space left' not in str(error):
        raise
      raise self._no_room() from None

  def restore(self, like: Any) -> tuple[int, Any] | None:
    """Reads the newest state that can be read.

    One that cannot, as after a crash of the machine, is put aside, and the log
    says so.

    Args:
      like: jax.ShapeDtypeStruct, with its sharding, of every array.

    Returns:
      (step, state), or None where there is none.

    Raises:
      InputError: the checkpoint is whole, and of other arrays.
    """
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        stored = self._manager.item_metadata(step).tree
        is_of_another = _shapes(stored) != _shapes(like)
        if not is_of_another:
          args = ocp.args.StandardRestore(like)
          return step, self._manager.restore(step, args=args)
      except (AttributeError, ValueError, KeyError, OSError) as error:
        self._put_aside(step, error)
        continue
      raise errors.InputError(
        f'{self._directory / str(step)} is a checkpoint of another model, or '
        'of its layers stacked otherwise: give another --output, or delete it'
      )
    return None

  def _check_room(self, num_bytes: int) -> None:
    """Before Orbax begins: it would leave its threads in a bad way."""
    is_local = not stores.is_remote(self._directory)
    if is_local and shutil.disk_usage(self._directory).free < num_bytes:
      raise self._no_room()

  def _no_room(self) -> OSError:
    return OSError(
      errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._directory)
    )

  def _put_aside(self, step: int, error: Exception) -> None:
    aside = self._directory / f'unreadable-{step}'
    if aside.exists():
      aside.rmtree()
    (self._directory / str(step)).rename(aside)
    self._manager.reload()
    reason = ' '.join(str(error).split())[:200]
    _log.info(
      'checkpoint %d cannot be read and is now %s: %s', step, aside, reason
    )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """'params.encoder.w' -> (3, 2): Orbax keeps a tuple with names as a dict."""

  def name(key) -> str:
    for kind in ('name', 'key', 'idx'):  # Of a field, a dict, a sequence.
      if hasattr(key, kind):
        return str(getattr(key, kind))
    raise TypeError(f'{key!r} is no key of a tree of ours')

  return {
    '.'.join(map(name, path)): tuple(leaf.shape)
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }
