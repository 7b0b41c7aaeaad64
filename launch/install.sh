#!/usr/bin/env bash
# On each worker of a TPU VM, in the clone that `tpu install` has copied: what
# `make install` does, with a Python of uv's own (Ubuntu 22.04 has 3.10, which
# is too old) and libtpu of the version that jax[tpu] of the lock asks for.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || python3 -m pip install --quiet --user uv
libtpu=$(sed -n 's/^LIBTPU := //p' Makefile)
uv venv --quiet --allow-existing --python 3.11 .venv
uv pip install --quiet --python .venv/bin/python --no-deps \
  -r requirements.lock "$libtpu"
uv pip install --quiet --python .venv/bin/python --no-deps -e .
.venv/bin/inpars-tpu --version
