# make demo: prove and check the bundled models.  make test: everything CI runs.
# Both create .venv and install pinned versions; run them as often as you like.

PYTHON ?= python3
# Another torch, for instance with CUDA: make test TORCH='torch==2.13.0+cu130'
TORCH ?= torch==2.13.0
WORKERS ?= 2

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINS := pyproject.toml constraints.txt

.PHONY: demo test format bench clean

demo: .venv/.core
	$(BIN)/python examples/demo.py

test: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/pytest -n $(WORKERS)

format: .venv/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/.dev
	$(BIN)/python benchmarks/first_proof.py --fresh-clone

clean:
	rm -rf .venv out build dist

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv

.venv/.core: $(PINS) | .venv/bin/python
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

# torch goes first: a later package that asks for another build would replace it by gigabytes.
.venv/.dev: $(PINS) | .venv/bin/python
	$(PIP) install --constraint constraints.txt '$(TORCH)'
	$(PIP) install --constraint constraints.txt --editable '.[train,report,gate,serve,dev]'
	touch $@ .venv/.core
