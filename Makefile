# Two commands matter: `make demo` and `make test`. Each needs only Python 3.11 or newer (with venv), make and a C library:
# the virtual environment .venv is made by the rules below, with the versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

DEMO := runs/digits-mlp
# Passed on to `eosflows run`, for example DEMO_ARGS="--set steps=50" for a quick look.
DEMO_ARGS ?=
# Passed on to pytest, for example TEST_ARGS="tests/flows", or "-m slow" for the tests that take long.
TEST_ARGS ?=

# What Python compiles of the modules that it imports is kept in the environment, whatever the shell says: a process that
# imports JAX and xarray would compile thousands of modules each time, for ten seconds and more.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(abspath $(VENV))/pycache

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check docs bench bench-accuracy bench-peer wheel wheel-check play clean

help:
	@echo "make demo         train a network beside its gradient flow; leaves a store and figures in $(DEMO)"
	@echo "make test         run the tests, without those that take long"
	@echo "make test-all     run all tests"
	@echo "make check        check format, lint and types"
	@echo "make docs         build the documentation: site/index.html"
	@echo "make bench        print the table of measured costs"
	@echo "make bench-accuracy  draw the flows' error against their cost: runs/accuracy.png"
	@echo "make bench-peer   time the Central Flows paper's code at PEER=path beside ours (needs torch, cvxpy, cvxopt)"
	@echo "make wheel-check  build the wheel, install it alone and use it from an empty directory"
	@echo "make play         build docs/play/index.html, the page to touch, and test it in a Chromium"
	@echo "make clean        remove the virtual environment, builds and caches (not runs/)"
	@echo
	@echo "Variables: PYTHON=$(PYTHON)  DEMO_ARGS=  TEST_ARGS="

# Stamps: a second `make` does nothing here unless the requirements changed.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "eosflows needs Python 3.11 or newer; '$(PYTHON)' is not. Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu install the package python3-venv." >&2; \
	  rm -rf $(VENV); exit 1; }

# uv takes a sixth of pip's time, but knows nothing of pip's configuration (another index, for example): where it fails,
# pip goes on. Python compiles what it imports; to compile all that is installed takes half a minute.
PIP_INSTALL := $(PIP) install --quiet --no-compile --constraint constraints.txt
define INSTALL
@echo "install $(WHAT)"
@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --constraint constraints.txt $(WHAT) || { \
  echo "uv could not install this; pip tries." >&2; $(PIP_INSTALL) $(WHAT); }
@touch $@
endef

# The build backend is installed first and used without isolation, so that it too is the version of constraints.txt.
$(VENV)/.backend: WHAT := hatchling editables
$(VENV)/.backend: constraints.txt | $(BIN)/python
	@$(PIP_INSTALL) uv
	$(INSTALL)

$(VENV)/.installed: WHAT := --no-build-isolation --editable '.[test]'
$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.backend
	$(INSTALL)

$(VENV)/.installed-dev: WHAT := --no-build-isolation --editable '.[test,dev,report]'
$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL)

$(VENV)/.installed-docs: WHAT := --no-build-isolation --editable '.[test,docs,report]'
$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL)

demo: $(VENV)/.installed
	$(BIN)/eosflows run digits-mlp --out $(DEMO) --overwrite $(DEMO_ARGS)
	@echo
	@echo "Figures: $(DEMO)/figures/*.png"
	@echo "Store:   $(DEMO)/results.zarr   (xarray.open_datatree(\"$(DEMO)/results.zarr\", engine=\"zarr\"))"
	@echo "Summary: $(BIN)/eosflows show $(DEMO)"

# Two processes share the cores: more threads of BLAS or of the compiler would wait for each other.
# Each takes a run of neighbouring tests, which share compiled programs. Most of the time is
# compilation, four times as fast without what makes a step faster: the emitters of fused loops and
# the optimization of the machine code.
TEST_XLA_FLAGS := --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 \
  --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true
PYTEST := OPENBLAS_NUM_THREADS=1 XLA_FLAGS="$(TEST_XLA_FLAGS) $$XLA_FLAGS" $(BIN)/python -m pytest -n 2 --dist worksteal
test: $(VENV)/.installed
	$(PYTEST) -m "not slow" $(TEST_ARGS)

test-all: $(VENV)/.installed
	$(PYTEST) $(TEST_ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# The pages' code compiles as that of the tests does.
docs: $(VENV)/.installed-docs
	JAX_TRACEBACK_IN_LOCATIONS_LIMIT=0 OPENBLAS_NUM_THREADS=1 XLA_FLAGS="$(TEST_XLA_FLAGS) $$XLA_FLAGS" $(BIN)/python docs/build.py

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

bench-accuracy: $(VENV)/.installed
	$(BIN)/python -m benchmarks.accuracy --out runs/accuracy.png --json runs/accuracy.json

# Where the checkout of the peer is; BENCH_ARGS is passed on, for example "--steps 200".
PEER ?=
BENCH_ARGS ?=
bench-peer: $(VENV)/.installed
	$(BIN)/python -m benchmarks.peer $(BENCH_ARGS) -- "$(PEER)"

wheel: $(VENV)/.backend
	rm -rf dist
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

wheel-check: wheel
	PYTHON=$(abspath $(BIN)/python) bash .ci/wheel-check

# The page to touch needs Node.js 20 with npm, and a Chromium for its tests; it needs no Python.
PLAY := docs/play
$(PLAY)/node_modules/.installed: $(PLAY)/package-lock.json
	npm --prefix $(PLAY) ci --ignore-scripts --no-audit --no-fund
	@touch $@

# The tests come first: one of them says whether the committed page was what its sources give.
play: $(PLAY)/node_modules/.installed
	npm --prefix $(PLAY) run types
	npm --prefix $(PLAY) test
	npm --prefix $(PLAY) run build

clean:
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .hypothesis $(PLAY)/node_modules $(PLAY)/build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
