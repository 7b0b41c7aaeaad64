import pytest

from inpars_tpu import device, errors, machines


def test_a_v3_8_has_eight_devices_of_half_a_chip():
  machine = machines.find('v3-8')
  assert (machine.num_chips, machine.num_devices, machine.num_hosts) == (
    4,
    8,
    1,
  )
  assert machine.topology == machine.host_topology == 'v3:2x2'
  assert machine.device == device.Device('tpu', int(15.48 * 2**30))
  assert machine.device_flops == 61.5e12
  assert machine.device_bandwidth == 450e9
  assert machine.price == 8.0


@pytest.mark.parametrize(
  ('name', 'devices', 'hosts', 'topology', 'price'),
  [
    ('v3-32', 32, 4, 'v3:4x4', 32.0),
    ('v4-8', 4, 1, 'v4:2x2x1', 12.88),
    ('v4-32', 16, 4, 'v4:2x2x4', 51.52),
    ('v5litepod-8', 8, 1, 'v5e:2x4', 9.6),
    ('v5litepod-64', 64, 16, 'v5e:8x8', 76.8),
    ('v6e-1', 1, 1, 'v6e:1x1', 2.7),
    ('a100-40gb-8', 8, 1, None, 29.36),
    ('h100-1', 1, 1, None, None),
  ],
)
def test_types(name, devices, hosts, topology, price):
  machine = machines.find(name)
  assert (machine.num_devices, machine.num_hosts) == (devices, hosts)
  assert machine.devices_per_host * hosts == devices
  assert machine.topology == topology
  assert machine.price == (price if price is None else pytest.approx(price))


def test_a_pod_is_of_hosts_of_four_chips():
  assert machines.find('v4-32').host_topology == 'v4:2x2x1'
  assert machines.find('v5litepod-64').host_topology == 'v5e:2x2'
  assert machines.find('v6e-8').host_topology == 'v6e:2x4'


def test_here_is_what_jax_sees():
  machine = machines.here()
  assert machine.name == f'{machine.num_devices} cpu'
  assert (machine.chip.backend, machine.device_flops) == ('cpu', None)


def test_every_known_name_is_found():
  assert all(machines.find(name).name == name for name in machines.names())


def test_cpu_is_this_machine_and_nobody_knows_how_fast():
  machine = machines.find('cpu')
  assert machine.device == device.Device('cpu', device.machine_bytes())
  assert (machine.device_flops, machine.price) == (None, None)


def test_an_unknown_name_says_the_nearest():
  with pytest.raises(errors.InputError, match="'v3-9'; did you mean v3-8"):
    machines.find('v3-9')
