"""launch/ against a stand-in gcloud whose VMs are folders: tests/gcloud.py."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from inpars_tpu import errors
from launch import gcloud, job, machine, sweep, sweep_plan, tpu, worker

TESTS = pathlib.Path(__file__).parent
VM = ['--name=mine', '--zone=europe-west4-a', '--type=v3-8']
COMMAND = ['--', 'sample', '--corpus=c.jsonl', '--output=out/documents.jsonl']
TO_BUCKET = ['--', 'sample', '--corpus=c', '--output=gs://b/work/documents']
UV = """#!/bin/bash
# `uv venv` makes the folder, `uv pip install` the program of the test.
mkdir -p .venv/bin
if [ "$1" = pip ]; then
  cp "$FAKE_GCLOUD/program" .venv/bin/inpars-tpu
  chmod +x .venv/bin/inpars-tpu
fi
"""
PROGRAM = """#!/bin/bash
[ "$1" = --version ] && exit
echo "runs $*"
mkdir -p out && echo here > out/documents.jsonl
"""


class Cloud:
  """The stand-in's folder, and what a test asks of it."""

  def __init__(self, folder):
    self.folder = folder

  def runs(self, program):
    (self.folder / 'program').write_text(program)

  def fails(self, words, text, *, times=1, code=1):
    with (self.folder / 'fails').open('a') as file:
      file.write(f'{words}\t{times}\t{code}\t{text}\n')

  def calls(self):
    """What was asked of gcloud, in short: 'create', 'ssh start', ..."""
    path = self.folder / 'calls'
    lines = path.read_text().splitlines() if path.exists() else []
    return [shorten(line) for line in lines]

  def exists(self, name='mine'):
    return (self.folder / 'vms' / name).exists()


def shorten(line):
  group, *rest = line.removeprefix('compute tpus ').split()
  for verb in ('start', 'follow', 'stop', 'guard'):
    if f'worker.py {verb}' in line:
      return f'ssh {verb}'
  if 'install.sh' in line:
    return 'ssh install' if rest[0] == 'ssh' else f'{rest[0]} check'
  return f'queue {rest[0]}' if group == 'queued-resources' else rest[0]


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  folder = tmp_path / 'cloud'
  (folder / 'bin').mkdir(parents=True)
  for name, text in (
    ('gcloud', f'#!/bin/sh\nexec {sys.executable} {TESTS}/gcloud.py "$@"\n'),
    ('python3', f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
    ('uv', UV),
  ):
    (folder / 'bin' / name).write_text(text)
    (folder / 'bin' / name).chmod(0o755)
  monkeypatch.setenv('PATH', f'{folder}/bin{os.pathsep}{os.environ["PATH"]}')
  monkeypatch.setenv('FAKE_GCLOUD', str(folder))
  monkeypatch.setattr(machine, 'pack', pack_little)
  monkeypatch.setattr(machine, 'POLL_SECONDS', 0.01)
  monkeypatch.setattr(job, 'RETRY_SECONDS', 0.01)
  monkeypatch.setattr(job, 'RECONNECT_SECONDS', 0.01)
  cloud = Cloud(folder)
  cloud.runs(PROGRAM)
  yield cloud
  for vm in (folder / 'vms').glob('*'):
    subprocess.run(
      [folder / 'bin' / 'gcloud', 'compute', 'tpus', 'tpu-vm', 'delete',
       vm.name, '--zone=z'], check=False,  # It may delete itself just now.
    )  # fmt: skip


def pack_little(archive):
  """What the VM needs of the clone, in place of all of it."""
  subprocess.run(
    ['tar', '-czf', archive, 'launch', 'Makefile', 'requirements.lock'],
    cwd=machine.ROOT, check=True,
  )  # fmt: skip


def refuse(capsys, *argv):
  """The one line of a call that exits with 2, after gcloud's own words."""
  assert tpu.main(argv) == 2
  *shown, last = capsys.readouterr().err.splitlines()
  assert last.startswith('tpu: ')
  assert not any(line.startswith('tpu: ') for line in shown)
  return last


def test_from_nothing_to_a_result(cloud, tmp_path, capsys):
  assert tpu.main(['all', *VM, f'--to={tmp_path}/results', *COMMAND]) == 0
  assert cloud.calls() == [
    'describe', 'create', 'scp', 'ssh install', 'ssh guard', 'ssh start',
    'describe', 'ssh follow', 'scp', 'delete',
  ]  # fmt: skip
  assert (tmp_path / 'results' / 'documents.jsonl').read_text() == 'here\n'
  assert not cloud.exists()
  captured = capsys.readouterr()
  assert captured.out == (
    'w0: runs sample --corpus=c.jsonl --output=out/documents.jsonl\n'
  )
  assert '+ gcloud compute tpus tpu-vm create mine' in captured.err


def test_several_commands_stop_at_the_first_that_fails(cloud, capsys):
  cloud.runs("""#!/bin/bash
[ "$1" = --version ] && exit
echo "$1"; [ "$1" != datasets ]
""")
  commands = ['--', 'download', '--prompts', '--', 'datasets', *TO_BUCKET]
  assert tpu.main(['all', *VM, *commands]) == 1
  assert capsys.readouterr().out == 'w0: download\nw0: datasets\n'
  assert cloud.calls().count('ssh install') == 1


def test_step_by_step(cloud, tmp_path, capsys):
  for verb in ('create', 'install'):
    assert tpu.main([verb, *VM]) == 0
  assert tpu.main(['run', *VM, *COMMAND]) == 0
  assert tpu.main(['logs', *VM]) == 0
  assert capsys.readouterr().out.count('w0: runs sample') == 2
  assert tpu.main(['status', *VM]) == 0
  assert capsys.readouterr().out == 'mine: READY v3-8\n'
  assert tpu.main(['copy', *VM, '--source=out', f'--to={tmp_path}/r']) == 0
  assert (tmp_path / 'r' / 'out' / 'documents.jsonl').exists()
  assert tpu.main(['delete', *VM]) == 0
  assert tpu.main(['delete', *VM]) == 0  # Not being there is done.
  assert tpu.main(['status', *VM]) == 0
  assert capsys.readouterr().out == 'mine: not found \n'


def test_dry_run_prints_every_command_and_needs_no_gcloud(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv('PATH', str(tmp_path))
  words = ['all', *VM, '--dry_run', '--bucket=gs://b', *TO_BUCKET]
  assert tpu.main(words) == 0
  lines = [
    line.removeprefix('gcloud ')
    for line in capsys.readouterr().out.splitlines()
    if not line.startswith('#')
  ]
  assert [shorten(line) for line in lines] == [
    'cp check', 'ls', 'describe', 'create', 'scp', 'ssh install', 'ssh install',
    'ssh guard', 'ssh start', 'describe', 'ssh follow', 'delete',
  ]  # fmt: skip
  assert lines[3] == (
    'compute tpus tpu-vm create mine --zone=europe-west4-a '
    '--accelerator-type=v3-8 --version=tpu-ubuntu2204-base'
  )


@pytest.mark.parametrize('kind,version', [
  ('v2-8', 'tpu-ubuntu2204-base'), ('v4-32', 'tpu-ubuntu2204-base'),
  ('v5litepod-64', 'v2-alpha-tpuv5-lite'), ('v5p-8', 'v2-alpha-tpuv5'),
  ('v6e-64', 'v2-alpha-tpuv6e'),
])  # fmt: skip
def test_image_goes_by_the_generation(capsys, kind, version):
  words = ['create', *VM[:2], f'--type={kind}', '--project=p', '--spot']
  assert tpu.main([*words, '--create_flag=--network=n', '--dry_run']) == 0
  assert capsys.readouterr().out == (
    'gcloud compute tpus tpu-vm create mine --zone=europe-west4-a --project=p '
    f'--accelerator-type={kind} --version={version} --spot --network=n\n'
  )


def test_queued_resource(cloud, capsys):
  assert tpu.main(['all', *VM, '--queued', '--spot', '--keep', *COMMAND]) == 0
  assert cloud.calls()[:6] == [
    'describe', 'queue describe', 'queue create', 'queue describe',
    'queue describe', 'queue describe',
  ]  # fmt: skip
  lines = (cloud.folder / 'calls').read_text().splitlines()
  assert lines[2] == (
    'compute tpus queued-resources create mine --zone=europe-west4-a '
    '--node-id=mine --accelerator-type=v3-8 '
    '--runtime-version=tpu-ubuntu2204-base --spot'
  )
  err = capsys.readouterr().err
  assert 'mine: WAITING_FOR_RESOURCES\n' in err
  assert 'a spot VM that is taken away begins anew' in err
  assert 'mine stays, and costs' in err
  assert cloud.exists()
  assert tpu.main(['delete', *VM, '--queued']) == 0
  assert not cloud.exists()


def test_queue_that_fails_is_left(cloud, capsys):
  (cloud.folder / 'queue').mkdir()
  (cloud.folder / 'queue' / 'mine').write_text('PROVISIONING\nFAILED')
  line = refuse(capsys, 'all', *VM, '--queued', '--keep', *COMMAND)
  assert 'mine is FAILED in the queue, and was deleted' in line
  assert cloud.calls()[-1] == 'queue delete'


def test_pod_shows_each_worker_and_ends_with_the_worst(cloud, capsys):
  cloud.runs("""#!/bin/bash
[ "$1" = --version ] && exit
echo "at $INPARS_TPU_HOST"
case $INPARS_TPU_HOST in *-2) exit 1;; *-3) exit 75;; esac
""")
  pod = [*VM[:2], '--type=v4-32']
  assert tpu.main(['all', *pod, '--keep', *COMMAND]) == 1
  out = sorted(capsys.readouterr().out.splitlines())
  assert out == [f'w{i}: at t1v-n-0123abcd-w-{i}' for i in range(4)]
  assert cloud.exists()


def test_processes_of_a_pod_find_each_other(capsys):
  words = ['generate', '--documents=d', '--model=m', '--output=q']
  alone = job.meeting([*words, '--num_shards=2', '--shard_index=0'])
  assert alone == [*words, '--num_shards=2', '--shard_index=0']
  assert job.meeting(['sample', '--corpus=c']) == ['sample', '--corpus=c']
  for kind, is_pod in (('v3-8', False), ('v4-8', False), ('v6e-8', False),
                       ('v5litepod-16', True), ('v3-32', True)):  # fmt: skip
    vm = [*VM[:2], f'--type={kind}', '--dry_run']
    assert tpu.main(['run', *vm, '--', *words]) == 0
    out = capsys.readouterr().out
    assert ('--output=q --coordinator_address=auto' in out) == is_pod


@pytest.mark.parametrize('codes,verdict', [
  ([0, 0], 0), ([0, 75], 75), ([0, 143], 75), ([137, 75], 75), ([1, 75], 1),
  ([2, 1], 2), ([139, 0], 1),
])  # fmt: skip
def test_verdict_of_several_workers(codes, verdict):
  assert job.verdict(dict(enumerate(codes))) == verdict


@pytest.mark.parametrize('step,later', [
  ('tpu-vm create', ['delete']), ('tpu-vm scp', ['delete']),
  ('install.sh', ['delete']), ('worker.py start', ['delete']),
])  # fmt: skip
def test_stops_at_the_first_failure_and_deletes(cloud, capsys, step, later):
  cloud.fails(step, 'ERROR: (gcloud.x) something new', code=3)
  assert tpu.main(['all', *VM, '--to=x', *COMMAND]) == 1
  last = capsys.readouterr().err.splitlines()[-1]
  if step == 'tpu-vm create':  # Nothing to delete.
    later = []
    assert last == (
      'tpu: gcloud compute tpus tpu-vm create mine failed with exit code 3: '
      'ERROR: (gcloud.x) something new'
    )
  calls = cloud.calls()
  failed = {
    'tpu-vm create': 'create', 'tpu-vm scp': 'scp',
    'install.sh': 'ssh install', 'worker.py start': 'ssh start',
  }  # fmt: skip
  assert calls[calls.index(failed[step]) + 1 :] == later
  assert not cloud.exists()


def test_spot_vm_that_vanishes_is_created_again(cloud, capsys):
  cloud.runs("""#!/bin/bash
[ "$1" = --version ] && exit
work=$FAKE_GCLOUD/buckets/b/work; mkdir -p $work
if [ ! -e $work/part ]; then
  echo "first part"; echo 1 > $work/part
  sed -i s/READY/PREEMPTED/ $FAKE_GCLOUD/vms/mine/vm.json
  kill -KILL $PPID $$
fi
echo "second part"
""")
  words = ['all', *VM, '--spot', '--bucket=gs://b', *TO_BUCKET]
  assert tpu.main(words) == 0
  captured = capsys.readouterr()
  assert captured.out.endswith('w0: second part\n')
  assert 'again (1 of 3)' in captured.err
  calls = [c for c in cloud.calls() if c in ('create', 'delete', 'ssh start')]
  assert calls == [
    'create', 'ssh start', 'delete', 'create', 'ssh start', 'delete',
  ]  # fmt: skip


def test_follow_on_a_vm_that_is_being_deleted_ends_nothing(
  tmp_path, monkeypatch, capfd
):
  for name in ('LOG', 'PROCESS', 'ENDED'):
    monkeypatch.setattr(worker, name, tmp_path / name)
  monkeypatch.setenv('INPARS_TPU_HOST', 'mine-w-0')
  worker.LOG.write_text('a line\n')
  assert worker.follow({}) == worker.WRONG
  assert capfd.readouterr().out == '[w0] a line\n'


@pytest.mark.parametrize('flags,num_created', [([], 1), (['--spot'], 2)])
def test_vm_that_is_not_there_any_more(cloud, capsys, flags, num_created):
  cloud.runs("""#!/bin/bash
[ "$1" = --version ] && exit
work=$FAKE_GCLOUD/buckets/b/work/documents; mkdir -p $work
[ -e $work/part ] && exit
touch $work/part
gcloud compute tpus tpu-vm delete mine --zone=z
""")
  code = tpu.main(['all', *VM, *flags, *TO_BUCKET])
  assert (code, cloud.calls().count('create')) == (4 - 2 * num_created,
                                                   num_created)  # fmt: skip
  assert not cloud.exists()


def test_no_room_for_a_vm_that_has_worked_is_waited_for(
  cloud, capsys, monkeypatch
):
  monkeypatch.setattr(job, 'CAPACITY_SECONDS', 0.01)
  cloud.runs("""#!/bin/bash
[ "$1" = --version ] && exit
work=$FAKE_GCLOUD/buckets/b/work/documents; mkdir -p $work
[ -e $work/part ] && exit
touch $work/part
echo 'tpu-vm create	1	1	There is no more capacity in the zone' \
  > $FAKE_GCLOUD/fails
sed -i s/READY/PREEMPTED/ $FAKE_GCLOUD/vms/mine/vm.json
exit 75
""")
  assert tpu.main(['all', *VM, *TO_BUCKET]) == 0
  calls = [c for c in cloud.calls() if c in ('create', 'ssh start')]
  assert calls == ['create', 'ssh start', 'create', 'create', 'ssh start']


def test_code_75_goes_on_on_the_same_vm_while_there_is_progress(cloud, capsys):
  cloud.runs("""#!/bin/bash
[ "$1" = --version ] && exit
work=$FAKE_GCLOUD/buckets/b/work/documents; mkdir -p $work
n=$(ls $work | wc -l)
[ $n = 4 ] && exit 0
touch $work/$n; exit 75
""")
  words = ['all', *VM, '--max_retries=1', *TO_BUCKET]
  assert tpu.main(words) == 0
  calls = cloud.calls()
  assert calls.count('ssh start') == 5
  assert calls.count('create') == calls.count('ssh install') == 1


def test_retries_without_progress_end(cloud, capsys):
  cloud.runs("""#!/bin/bash
[ "$1" = --version ] && exit
mkdir -p $FAKE_GCLOUD/buckets/b/work/documents
touch $FAKE_GCLOUD/buckets/b/work/documents/$RANDOM$RANDOM.tmp
exit 75
""")
  line = refuse(capsys, 'all', *VM, '--max_retries=2', *TO_BUCKET)
  assert '2 retries brought nothing new' in line
  assert cloud.calls().count('ssh start') == 3
  assert not cloud.exists()


def test_wrong_input_is_not_tried_again(cloud, capsys):
  cloud.runs("""#!/bin/bash
[ "$1" = --version ] && exit
echo "inpars-tpu: no corpus at c"; exit 2
""")
  assert tpu.main(['all', *VM, *TO_BUCKET]) == 2
  assert cloud.calls().count('ssh start') == 1
  assert not cloud.exists()


def test_follow_goes_on_after_a_broken_connection(cloud, capsys):
  cloud.runs("""#!/bin/bash
[ "$1" = --version ] && exit
for i in 1 2 3; do echo "line $i"; sleep 0.3; done
""")
  cloud.fails('worker.py follow', 'Connection closed by 1.2.3.4', code=255)
  assert tpu.main(['all', *VM, *TO_BUCKET]) == 0
  assert capsys.readouterr().out == 'w0: line 1\nw0: line 2\nw0: line 3\n'
  assert cloud.calls().count('ssh follow') == 2


QUOTA = "Quota limit 'TPUV3sPerProjectPerZoneForTPUAPI' has been exceeded."
CAPACITY = (
  'There is no more capacity in the zone "europe-west4-a"; you can try in '
  'another zone where Cloud TPU Nodes are offered'
)
NO_TYPE = (
  'Cloud TPU received a bad request. the accelerator v3-8 was not found in '
  'zone europe-west4-a [EID: 0x945ef875d10e8e13]'
)
NO_LOGIN = (
  'You do not currently have an active account selected.\\nPlease run:\\n\\n'
  '  $ gcloud auth login'
)
NO_PROJECT = 'Error parsing [tpu].\\nFailed to find attribute [project].'
NO_BUCKET = (
  '[me@x.com] does not have permission to access b instance [b] (or it may '
  'not exist): me@x.com does not have storage.objects.create access to the '
  'Google Cloud Storage object.'
)
NO_KEY = 'SSH Key is not present in the SSH agent. Please run "ssh-add k"'
NO_SSH = 'ssh: connect to host 1.2.3.4 port 22: Connection timed out'
DENIED = "PERMISSION_DENIED: Permission 'tpu.nodes.create' denied on p"


@pytest.mark.parametrize('step,text,words', [
  ('tpu-vm describe', NO_LOGIN, 'not logged in: run gcloud auth login'),
  ('tpu-vm describe', NO_PROJECT, 'no project: give --project=NAME'),
  ('tpu-vm create', QUOTA, 'ask for quota'),
  ('tpu-vm create', CAPACITY, 'all are taken: try again later'),
  ('tpu-vm create', NO_TYPE, 'the zone has no such type'),
  ('tpu-vm create', DENIED, 'needs the roles TPU Admin'),
  ('storage cp', NO_BUCKET, 'give it the role Storage Object Admin'),
  ('gcloud storage cp', NO_BUCKET, 'give it the role Storage Object Admin'),
  ('tpu-vm scp', NO_KEY, 'ssh-add ~/.ssh/google_compute_engine'),
  ('tpu-vm scp', NO_SSH, 'a worker is not to be reached by ssh'),
])  # fmt: skip
def test_what_gcloud_complains_of_is_one_line(cloud, capsys, step, text, words):
  cloud.fails(step, f'ERROR: (gcloud.x.y) {text}')
  line = refuse(capsys, 'all', *VM, '--bucket=gs://b', *TO_BUCKET)
  assert words in line
  assert text.split('\\n')[-1 if 'find' in text else 0] in line
  assert not cloud.exists()


def test_worker_that_is_lost_for_good(cloud, capsys, monkeypatch):
  monkeypatch.setattr(job, 'MAX_RECONNECTS', 2)
  assert tpu.main(['create', *VM]) == tpu.main(['install', *VM]) == 0
  cloud.fails('worker.py follow', NO_SSH, times=9, code=255)
  line = refuse(capsys, 'run', *VM, *COMMAND)
  assert '1 of 1 workers of mine are not to be reached by ssh' in line
  assert cloud.calls().count('ssh follow') == 2


def test_name_that_is_taken(cloud, capsys):
  assert tpu.main(['create', *VM]) == 0
  line = refuse(capsys, 'create', *VM)
  assert 'the name is taken: give another --name' in line
  other = [*VM[:2], '--type=v2-8']
  line = refuse(capsys, 'all', *other, *TO_BUCKET)
  assert line == 'tpu: mine is there, and a v3-8: give another --name'
  assert cloud.exists()


def test_busy_vm_is_left_alone(cloud, capsys):
  cloud.runs("""#!/bin/bash
[ "$1" = --version ] && exit
trap 'echo saved; exit 75' TERM
echo begun; while true; do sleep 0.05; done
""")
  assert tpu.main(['create', *VM]) == tpu.main(['install', *VM]) == 0
  other = job.Job(
    machine.Machine(
      machine.Settings('mine', 'europe-west4-a', 'v3-8'), gcloud.Gcloud()
    ),
  )
  other.start(['run', '--x'])
  line = refuse(capsys, 'all', *VM, *TO_BUCKET)
  assert '`stop` ends it, `logs` follows it' in line
  assert 'still busy with: run --x' in line
  assert cloud.exists()
  other.start(['run', '--x'])  # The same command: attaches.
  assert tpu.main(['stop', *VM]) == 0
  assert tpu.main(['logs', *VM]) == 75
  assert capsys.readouterr().out == 'w0: begun\nw0: saved\n'


def test_idle_vm_deletes_itself(cloud, capsys):
  assert tpu.main(['create', *VM]) == 0
  cloud.runs("""#!/bin/bash
[ "$1" = --version ] && exit
sleep 0.5; echo done
""")
  assert tpu.main(['install', *VM, '--idle_minutes=0.05']) == 0
  assert tpu.main(['run', *VM, *COMMAND]) == 0
  assert capsys.readouterr().out == 'w0: done\n'
  deadline = time.monotonic() + 60
  while cloud.exists() and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not cloud.exists()
  assert (cloud.folder / 'calls').read_text().splitlines()[-1] == (
    'compute tpus tpu-vm delete mine --zone=europe-west4-a --quiet'
  )


@pytest.mark.parametrize('argv,words', [
  (['crate', *VM], "invalid choice: 'crate'"),
  (['create', *VM, '--tpye=x'], 'unrecognized arguments: --tpye=x'),
  (['create', *VM[:2]], '--type: give it, or put it into --env_file'),
  (['create', *VM[:2], '--type=v7-8'], "unknown generation of --type 'v7'"),
  (['create', *VM[:2], '--type=v3'], 'a generation and a size'),
  (['create', *VM[1:], '--name=A_b'], '--name=A_b: lower case'),
  (['create', *VM, '--bucket=b'], '--bucket=b: gs://NAME'),
  (['create', *VM, '--max_retries=x'], '--max_retries=x: a number'),
  (['create', *VM, *COMMAND], 'create takes no command after --'),
  (['run', *VM], 'what is to be run?'),
  (['all', *VM, '--', 'rnu'], "unknown verb 'rnu'; did you mean run or"),
  (['all', *VM, *COMMAND, '--gin.SEDE=1'], 'did you mean SEED?'),
  (['all', *VM, *COMMAND], 'out/documents.jsonl goes with the VM'),
  (['copy', *VM], 'copy needs --source'),
  (['create', '--env_file=no.env'], '--env_file=no.env: No such file'),
])  # fmt: skip
def test_wrong_words_cost_nothing(cloud, capsys, argv, words):
  assert words in refuse(capsys, *argv)
  assert cloud.calls() == []


def test_no_gcloud(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('PATH', str(tmp_path))
  assert 'no gcloud on the PATH' in refuse(capsys, 'create', *VM)


def test_env_file(tmp_path, capsys):
  path = tmp_path / 'my.env'
  path.write_text(
    'NAME=other  # A remark.\n\nZONE="us-central2-b"\nTYPE=v4-8\nSPOT=true\n'
    'CREATE_FLAG=--network=n --internal-ips\n'
  )
  words = [f'--env_file={path}', '--dry_run', '--name=mine']
  assert tpu.main(['create', *words]) == 0
  assert capsys.readouterr().out == (
    'gcloud compute tpus tpu-vm create mine --zone=us-central2-b '
    '--accelerator-type=v4-8 --version=tpu-ubuntu2204-base --spot --network=n '
    '--internal-ips\n'
  )
  path.write_text('ZONNE=x\n')
  line = refuse(capsys, 'create', *words)
  assert f"unknown name in {path}:1 'zonne'; did you mean zone" in line


def test_runs_as_a_file_from_elsewhere(tmp_path):
  outs = []
  for name, *words in (
    ('tpu.py', 'create', *VM, '--dry_run'),
    ('sweep.py', '--sweep', machine.ROOT / 'launch' / 'sweeps' / 'beir.yaml',
     '--work_dir=w', '--generator=g', '--reranker=r', '--dry_run'),
  ):  # fmt: skip
    done = subprocess.run(
      [sys.executable, machine.ROOT / 'launch' / name, *words],
      cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    outs.append(done.stdout)
  assert outs[0].startswith('gcloud compute tpus tpu-vm create mine')
  assert outs[1].count('inpars-tpu run --dataset=') == 14


def test_sweep_on_two_vms(cloud, tmp_path, monkeypatch):
  cloud.runs("""#!/bin/bash
[ "$1" = --version ] && exit
echo "$1 on $PWD"; sleep 0.3
[ "$1" = download ] && exit
for word in "$@"; do case $word in
  --dataset=*) dataset=${word#*=};; --work_dir=*) work=${word#*=};;
esac; done
[ $dataset = bad ] && exit 1
mkdir -p $work/$dataset; touch $work/$dataset/report.html
""")
  path = tmp_path / 'mine.yaml'
  path.write_text('datasets: [a, bad]\nseeds: [1, 2]\n')
  runs = sweep_plan.load(
    str(path), str(tmp_path / 'work'), ['--generator=g', '--reranker=r']
  )
  there = sweep.Sweep(runs, tmp_path / 'logs')
  args = sweep.make_parser().parse_args(
    ['--work_dir=gs://b', '--tpus=one,two', *VM[1:]]
  )
  setup = [['download', '--model=gpt-j-6b']]
  sweep.run_there(args, setup, there, runs)
  assert sorted(there.failed) == ['base/seed1/bad', 'base/seed2/bad']
  assert [there.is_done(run) for run in runs] == [True, True, False, False]
  on = set()
  for run in runs:
    lines = there.log_path(run).read_text().splitlines()
    assert [line.split(' on ')[0] for line in lines] == [
      'w0: download', 'w0: run',
    ]  # fmt: skip
    on.add(lines[0].split('/vms/')[1].split('/')[0])
  assert on == {'one', 'two'}
  assert cloud.calls().count('create') == cloud.calls().count('delete') == 2
  assert not (cloud.exists('one') or cloud.exists('two'))


def test_sweep_on_vms_that_are_not_to_be_had(cloud, tmp_path):
  path = tmp_path / 'mine.yaml'
  path.write_text('datasets: [a, b]\n')
  runs = sweep_plan.load(str(path), 'work', ['--generator=g', '--reranker=r'])
  there = sweep.Sweep(runs, tmp_path / 'logs')
  flags = ['--work_dir=gs://b', '--tpus=one,two', *VM[1:]]
  args = sweep.make_parser().parse_args(flags)
  cloud.fails('tpu-vm create', f'ERROR: {QUOTA}', times=2)
  with pytest.raises(
    errors.InputError, match='one: .*quota.*; two|two: .*; one'
  ):
    sweep.run_there(args, [], there, runs)
  assert set(there.failed) == {'base/seed1/a', 'base/seed1/b'}
  cloud.fails('storage cp', f'ERROR: {NO_BUCKET}')
  with pytest.raises(errors.InputError, match='Storage Object Admin'):
    sweep.run_there(args, [], there, runs)
  with pytest.raises(errors.InputError, match='did you mean download'):
    sweep.run_there(args, [['downlod']], there, runs)
  assert cloud.calls().count('create') == 2


def test_archive_holds_the_clone(tmp_path):
  archive = tmp_path / 'a.tar.gz'
  machine.pack(archive)
  listed = subprocess.run(
    ['tar', '-tzf', archive], capture_output=True, text=True, check=True
  ).stdout.splitlines()
  assert {'launch/worker.py', 'inpars_tpu/cli.py', 'Makefile'} <= set(listed)
  assert not any(name.startswith('.venv') for name in listed)


def test_status_of_a_pod(cloud):
  assert tpu.main(['create', *VM[:2], '--type=v4-32']) == 0
  status = machine.Machine(
    machine.Settings('mine', 'z', 'v4-32'), gcloud.Gcloud()
  ).status()
  assert status == machine.Status('READY', 'v4-32', 4)
  vm = json.loads((cloud.folder / 'vms' / 'mine' / 'vm.json').read_text())
  assert len(vm['networkEndpoints']) == 4
