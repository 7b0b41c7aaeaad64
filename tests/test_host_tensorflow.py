import importlib
import os

import pytest

from inpars_tpu import errors, host_tensorflow


def test_leaves_accelerators_alone():
  visible = host_tensorflow.tf.config.get_visible_devices()
  assert {device.device_type for device in visible} == {'CPU'}


def test_says_what_is_missing(monkeypatch):
  def fail(name):
    raise ModuleNotFoundError(f'No module named {name!r}', name=name)

  monkeypatch.setattr(importlib, 'import_module', fail)
  with pytest.raises(errors.InputError, match=r'seqio, which.*inpars_tpu\[da'):
    host_tensorflow.load('seqio')


def test_what_is_printed_while_loading_is_dropped(monkeypatch, capfd):
  monkeypatch.setattr(
    importlib, 'import_module', lambda _: os.write(2, b'chatter')
  )
  host_tensorflow.load('noisy')
  os.write(2, b'after')
  assert capfd.readouterr().err == 'after'
