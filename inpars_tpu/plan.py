"""`inpars-tpu plan`: hours, memory, disk and money before anything runs.

Reads what is there of the dataset and the models, downloads nothing, writes
nothing, and starts no device: the machine it plans for is elsewhere.
"""

import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath

from inpars_tpu import (
  beir,
  errors,
  files,
  machines,
  plan_devices,
  plan_disk,
  plan_models,
  plan_stages,
  plan_table,
  plan_work,
  stores,
)
from inpars_tpu import mesh as mesh_lib
from inpars_tpu import recipe as recipe_lib
from inpars_tpu import train as train_lib

ALL = 'all'


@dataclasses.dataclass(frozen=True)
class Request:
  """What a plan is asked for, beside the dataset and the machine."""

  generator: plan_models.Model
  reranker: plan_models.Model
  recipe: recipe_lib.Recipe
  data_dir: files.PathLike
  filter_model: plan_models.Model | None = None
  has_first_stage: bool = False
  engine: str = 'embedded'
  document_tokens: int | None = None
  new_tokens: int | None = None
  utilisation: float = plan_stages.UTILISATION
  price: float | None = None  # Of an hour of the machine.


@dataclasses.dataclass(frozen=True)
class Plan:
  """Of one dataset on one machine."""

  work: plan_work.Work
  machine: machines.Machine
  models: tuple[str, ...]
  stages: Sequence[plan_devices.Stage]
  disk: dict[str, int]
  utilisation: float
  price: float | None  # Of an hour of the machine, in US dollars or any other.
  assumptions: Sequence[str]

  @property
  def seconds(self) -> float | None:
    """Of all stages; None where nobody knows how fast the machine is."""
    each = [stage.seconds for stage in self.stages]
    return None if None in each else sum(each)

  @property
  def cost(self) -> float | None:
    if self.price is None or self.seconds is None:
      return None
    return self.seconds / 3_600 * self.price


def main(args) -> None:
  """`inpars-tpu plan`."""
  # Not what this machine has: it is only asked for shapes.
  jax.config.update('jax_platforms', 'cpu')
  machine = _with_peak(machines.find(args.machine), args)
  request = _read_flags(args)
  names = [args.dataset]
  if args.dataset == ALL:
    names = [name for name, known in beir.DATASETS.items() if known.is_public]
  compiler = _compiler(machine) if args.compile else None
  known: dict[Any, Any] = {}
  plans = [
    make(name, machine, request, compiler=compiler, known=known)
    for name in names
  ]
  if args.json:
    for plan in plans:
      print(json.dumps(to_record(plan)))
    return
  print(plan_table.one(plans[0]) if len(plans) == 1 else plan_table.many(plans))
  if args.work_dir:
    print(_free_disk(plans, args.work_dir))


def _read_flags(args) -> Request:
  train_lib.check(args.recipe, args.engine)
  return Request(
    generator=plan_models.generator(args.generator),
    reranker=plan_models.reranker(args.reranker),
    filter_model=args.filter_model and plan_models.reranker(args.filter_model),
    recipe=args.recipe,
    data_dir=args.data_dir,
    has_first_stage=bool(args.first_stage_run),
    engine=args.engine,
    document_tokens=_natural('document_tokens', args.document_tokens),
    new_tokens=_natural('new_tokens', args.new_tokens),
    utilisation=_number('utilisation', args.utilisation, 1.0),
    price=_number('price', args.price),
  )


def for_run(
  dataset: files.PathLike,
  *,
  generator: files.PathLike,
  reranker: files.PathLike,
  filter_model: files.PathLike | None,
  recipe: recipe_lib.Recipe,
  data_dir: files.PathLike,
  has_first_stage: bool,
  engine: str,
) -> Plan:
  """The plan of a run on the devices of this process."""
  return make(
    str(dataset),
    machines.here(),
    Request(
      generator=plan_models.generator(generator),
      reranker=plan_models.reranker(reranker),
      filter_model=filter_model and plan_models.reranker(filter_model),
      recipe=recipe,
      data_dir=data_dir,
      has_first_stage=has_first_stage,
      engine=engine,
    ),
  )


def make(
  dataset: str,
  machine: machines.Machine,
  request: Request,
  *,
  compiler: plan_devices.Compile | None = None,
  known: dict[Any, Any] | None = None,
) -> Plan:
  """The plan of one dataset; `known` is `plan_stages.build`'s."""
  models = [request.reranker, *filter(None, [request.filter_model])]
  work = plan_work.read(
    dataset,
    request.data_dir,
    request.generator,
    request.reranker,
    request.recipe,
    document_tokens=request.document_tokens,
    new_tokens=request.new_tokens,
  )
  return Plan(
    work=work,
    machine=machine,
    models=(request.generator.name, request.reranker.name),
    stages=plan_stages.build(
      work,
      request.generator,
      request.reranker,
      request.recipe,
      machine,
      utilisation=request.utilisation,
      filter_model=request.filter_model,
      has_first_stage=request.has_first_stage,
      engine=request.engine,
      compile_programs=compiler,
      known=known,
    ),
    disk=plan_disk.build(work, request.generator, models, request.recipe),
    utilisation=request.utilisation,
    price=request.price or machine.price,
    assumptions=_assumptions(request, work, machine, compiler is not None),
  )


def to_record(plan: Plan) -> dict[str, Any]:
  """For JSON, and for the report."""
  return {
    'dataset': plan.work.dataset,
    'machine': plan.machine.name,
    'devices': plan.machine.num_devices,
    'models': list(plan.models),
    'utilisation': plan.utilisation,
    'seconds': plan.seconds,
    'cost': plan.cost,
    'work': plan_work.to_record(plan.work),
    'stages': {
      stage.name: {
        key: value._asdict() if key == 'memory' and value else value
        for key, value in vars(stage).items()
        if key != 'name'
      }
      for stage in plan.stages
    },
    'disk': plan.disk,
    'assumptions': list(plan.assumptions),
  }


def _assumptions(
  request: Request,
  work: plan_work.Work,
  machine: machines.Machine,
  is_compiled: bool,
) -> list[str]:
  notes = [*work.assumptions]
  if machine.device_flops:
    notes += [
      f'{request.utilisation:.0%} of the peaks is reached (--utilisation; '
      'measured on none of these machines)',
      f'peaks: {machine.chip.source}',
    ]
  else:
    notes.append('how fast this machine is, is not known: --peak, --bandwidth')
  if request.price:
    notes.append(f'price: {request.price:,.2f} an hour for the machine')
  elif machine.price:
    notes.append(
      f'price: on demand in the US, ${machine.price:,.2f} an hour, as read on '
      f'{machines.PRICES_READ}; see inpars_tpu/machines.py'
    )
  else:
    notes.append('price: not known (--price, of an hour of the machine)')
  notes.append(
    "memory: by the TPU's compiler"
    if is_compiled
    else "memory: by arithmetic (--compile asks the TPU's compiler)"
  )
  notes.append(
    'not counted: loading, compiling, downloads; models that are not on the '
    'disk yet are float32'
  )
  return notes


def _free_disk(plans: Sequence[Plan], work_dir: files.PathLike) -> str:
  needed = max(sum(plan.disk.values()) for plan in plans)
  folder = epath.Path(work_dir)
  while not folder.exists() and folder != folder.parent:
    folder = folder.parent
  if stores.is_remote(folder):
    return f'{work_dir} is storage: nobody knows how much is free'
  free = shutil.disk_usage(folder).free
  enough = 'enough' if free >= needed else 'too little'
  return f'free below {work_dir}: {free / 1e9:,.1f} GB, {enough}'


def _compiler(machine: machines.Machine) -> plan_devices.Compile:
  """Compiles a stage's programs for the machine.

  Raises:
    InputError: it is no TPU, or there is no compiler.
  """
  from inpars_tpu import tpu_compiler

  if machine.topology is None:
    raise errors.InputError(
      f'--compile is for TPUs; {machine.name} is none: leave it out'
    )
  # What is compiled can't be run here, so nor can it be kept for here.
  jax.config.update('jax_enable_compilation_cache', False)
  found: dict[str, list[Any]] = {}

  def measure(programs, shape: mesh_lib.Shape) -> dict[str, dict[str, Any]]:
    is_whole = math.prod(shape) == machine.num_devices
    name = machine.topology if is_whole else machine.host_topology
    if name not in found:
      found[name] = list(tpu_compiler.tpu_devices(name))
    mesh = mesh_lib.make(shape, found[name])
    return {
      key: tpu_compiler.measure(program, math.prod(shape))
      for key, program in programs(mesh).items()
    }

  return measure


def _with_peak(machine: machines.Machine, args) -> machines.Machine:
  """The machine with the user's peaks of a device in place of the table's."""
  chip, n = machine.chip, machine.chip.devices
  peak, bandwidth = (
    _number('peak', args.peak),
    _number('bandwidth', args.bandwidth),
  )
  if peak:
    # Where nobody says how fast the memory is, it is no limit.
    chip = dataclasses.replace(
      chip, flops=peak * n, bandwidth=chip.bandwidth or math.inf
    )
  if bandwidth:
    chip = dataclasses.replace(chip, bandwidth=bandwidth * n)
  return dataclasses.replace(machine, chip=chip)


def _number(
  flag: str, text: str | None, most: float = math.inf
) -> float | None:
  if text is None:
    return None
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not 0 < value <= most or math.isinf(value):
    top = '' if math.isinf(most) else f', at most {most:g}'
    raise errors.InputError(f'--{flag}={text}: a number above 0{top}')
  return value


def _natural(flag: str, text: str | None) -> int | None:
  if text is None:
    return None
  if not text.isdecimal() or not int(text):
    raise errors.InputError(f'--{flag}={text}: an integer of 1 or more')
  return int(text)
