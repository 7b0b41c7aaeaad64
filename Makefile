# make demo: everything from an empty machine to the demo's table.
# make test: the checks, as CI runs them.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# The TPU's compiler, for tests that compile for a TPU: what jax[tpu]==0.10.2
# asks for. In a folder of its own, since jax loads one that it can import.
LIBTPU := libtpu==0.0.42.1
COMPILER := $(VENV)/libtpu

.PHONY: demo test install compiler clean

demo: install
	$(VENV)/bin/inpars-tpu demo --work_dir=demo

test: install compiler
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile

install: $(INSTALLED)

# The lock is the whole closure, so nothing is resolved; see requirements.in.
$(INSTALLED): requirements.lock setup.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo 'inpars_tpu needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12' >&2; exit 2; }
	@if command -v uv >/dev/null; then \
	  set -ex; \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV); \
	  uv pip install --quiet --python $(RUN) --no-deps -r requirements.lock; \
	  uv pip install --quiet --python $(RUN) --no-deps -e .; \
	else \
	  set -ex; \
	  $(PYTHON) -m venv $(VENV); \
	  $(RUN) -m pip install --quiet --no-deps -r requirements.lock; \
	  $(RUN) -m pip install --quiet --no-deps -e .; \
	fi
	touch $@

# No other system has it; the tests that need it are skipped there.
compiler: install
	@if [ "$$(uname -sm)" = 'Linux x86_64' ] && [ ! -e $(COMPILER) ]; then \
	  set -ex; \
	  rm -rf $(COMPILER).part; \
	  if command -v uv >/dev/null; then \
	    uv pip install --quiet --python $(RUN) --no-deps --target $(COMPILER).part $(LIBTPU); \
	  else \
	    $(RUN) -m pip install --quiet --no-deps --target $(COMPILER).part $(LIBTPU); \
	  fi; \
	  mv $(COMPILER).part $(COMPILER); \
	fi

clean:
	rm -rf $(VENV) demo build *.egg-info
