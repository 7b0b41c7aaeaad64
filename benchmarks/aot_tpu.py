"""What the TPU's compiler makes of our programs, on a machine without a TPU.

  python -m benchmarks.aot_tpu --program=score --config=t5_3b

One JSON line: bytes of a core, operations by XLA's count against the hand
count of `inpars_tpu.flops`, seconds of compiling. Nothing is run and no weights
are made. A program that does not fit prints the compiler's reason, and exits 1.
`make compiler` installs the compiler; see inpars_tpu/tpu_compiler.py.
"""

import argparse
import json
import sys

from benchmarks import aot_generate, aot_score, aot_train
from inpars_tpu import errors, tpu_compiler

# Each has add_flags(parser), and measure(args, devices) of what it compiles.
PROGRAMS = {
  'score': aot_score,
  'generate': aot_generate,
  'train': aot_train,
}


def main() -> None:
  """Parses, compiles, prints one line."""
  parser = argparse.ArgumentParser(allow_abbrev=False)
  parser.add_argument('--program', choices=PROGRAMS, required=True)
  parser.add_argument('--config', help="a size of `init`; default: the paper's")
  parser.add_argument('--num_layers', type=int, help='fewer, for a quick look')
  parser.add_argument('--topology', default='v3:2x2', help='v3:2x2 is a v3-8')
  parser.add_argument('--mesh', help="data=2,model=4; default: the program's")
  parser.add_argument('--dtype', default='bfloat16')
  for name, program in PROGRAMS.items():
    program.add_flags(parser.add_argument_group(f'--program={name}'))
  args = parser.parse_args()
  try:
    devices = tpu_compiler.tpu_devices(args.topology)
    found = PROGRAMS[args.program].measure(args, devices)
  except errors.InputError as error:
    sys.exit(str(error))
  named = {k: v for k, v in vars(args).items() if v is not None}
  print(json.dumps(named | {'device': devices[0].device_kind} | found))
  if 'error' in found:
    sys.exit(1)


if __name__ == '__main__':
  main()
