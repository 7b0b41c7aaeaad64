import dataclasses

import pytest
from etils import epath

from inpars_tpu import page, report_record, report_stages
from tests import report_runs


@pytest.fixture
def record(tmp_path):
  folder = tmp_path / 'scifact'
  report_runs.write_making(folder)
  return report_record.read(epath.Path(folder))


def test_time_and_cost(record):
  figure, table = report_stages.time(record, price=4.0)
  assert figure.rows[0] == ['sample', '90.0']
  # 90 s on two devices are 0.05 hours.
  assert table.rows[0] == ['sample', '2 TPU v3', '90.0', '0.0500', '0.20']
  assert table.rows[-1] == ['sum', '', '450.0', '0.2500', '1.00']
  assert 'Cost at 4 for one device and hour.' in table.note
  _, table = report_stages.time(record, None)
  assert table.header == ['stage', 'devices', 'seconds', 'device-hours']
  assert table.rows[-1] == ['sum', '', '450.0', '0.2500']


def test_a_process_without_devices_counts_as_one():
  stage = {'seconds': 1_800.0, 'devices': []}
  assert report_stages.device_hours(stage) == 0.5
  assert report_stages.device_hours(stage | {'devices': ['cpu'] * 4}) == 2.0


def test_the_plan_beside_what_was_measured(record):
  stages = {
    'generate': {'flops': 9e15, 'seconds': 45.0},
    'filter': {'flops': 9e12, 'seconds': None},
    'index': {'flops': 0, 'seconds': 1.0},
    'train': {'flops': 1e15, 'seconds': 1.0},  # Not there yet.
  }
  plan = {'machine': '2 TPU v3', 'utilisation': 0.4, 'stages': stages}
  *_, table = report_stages.time(
    dataclasses.replace(record, plan=plan), price=None
  )
  assert table.title == 'Planned and measured'
  # 9,000 TFLOP in 90 seconds.
  assert table.rows == [
    ['generate', '9,000', '45.0', '90.0', '100'],
    ['filter', '9', '', '90.0', '0.1'],
  ]
  assert table.note.startswith('Planned for 2 TPU v3, at 40% of its peaks')


def test_counts(record):
  (table,) = report_stages.counts(record)
  assert table.rows[0] == ['sample', 'in', '12,345']
  assert ['filter', 'dropped: too few tokens', '8'] in table.rows


def test_recipe(record):
  tables = {table.title: table for table in report_stages.recipe(record)}
  assert isinstance(tables['Recipe'], page.Table)
  assert tables['Recipe'].rows == [
    ['FILTER_BY', '"reranker"', 'filter'], ['NUM_PAIRS', '30', 'filter'],
    ['SEED', '7', 'sample'],
  ]  # fmt: skip
  assert tables['Versions'].rows == [['jax', '0.10.2']]
  assert 'Inputs' not in tables
