# make demo: everything from an empty machine to the demo's table.
# make test: the checks, as CI runs them.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: demo test install clean

demo: install
	$(VENV)/bin/inpars-tpu demo --work_dir=demo

test: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest

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

clean:
	rm -rf $(VENV) demo build *.egg-info
