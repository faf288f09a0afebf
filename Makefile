# Each command installs what it needs into .venv the first time. Tests that need
# other packages have environments of their own: .venv-jax, .venv-torch,
# .venv-lowest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

export TF_CPP_MIN_LOG_LEVEL ?= 2

# Data that lies beside the repository is used instead of a download.
ifneq ($(wildcard ../shared/tensorflow_datasets),)
export TFDS_DATA_DIR ?= $(abspath ../shared/tensorflow_datasets)
endif

# As much as is tested. On Linux without a GPU another index is smaller:
# https://download.pytorch.org/whl/cpu
TORCH ?= torch==2.13.0

.PHONY: demo mnist speech test test-slow test-all test-reproductions \
    test-backends test-lowest test-nightly fuzz lint docs format bench clean

demo: $(VENV)/examples.installed
	$(BIN)/python examples/quickstart.py

mnist: $(VENV)/examples.installed
	$(BIN)/python -m reproductions.mnist $(ARGS)

speech: $(VENV)/examples.installed
	$(BIN)/python -m reproductions.speech $(ARGS)

# The code blocks of a document build on each other: one process runs them all.
PYTEST = python -m pytest -n 2 --dist loadfile

# What the next version of Keras runs.
CORE := tests/losses tests/metrics tests/teachers $(wildcard tests/test_dist*.py)

# What other backends run.
SUITES := $(CORE) tests/plots tests/data tests/evaluation tests/store \
    tests/contrib $(filter-out $(CORE),$(wildcard tests/test_*.py))

# What `make test` runs.
TESTS := $(SUITES) keras_distill README.md

test: $(VENV)/test.installed
	KERAS_BACKEND=tensorflow $(BIN)/$(PYTEST) $(ARGS) $(TESTS)

# Distribution, benchmarks, examples, reproductions, the documentation in a
# browser, and processes that are killed again and again.
test-slow: $(VENV)/dev.installed docs
	# Three processes on two cores: many tests wait for other processes.
	KERAS_BACKEND=tensorflow $(BIN)/$(PYTEST) -n 3 -m slow $(ARGS)

test-all: test test-slow

# The reproductions of the paper train small networks.
test-reproductions: $(VENV)/dev.installed
	KERAS_BACKEND=tensorflow $(BIN)/$(PYTEST) -m slow $(ARGS) reproductions

test-backends: $(VENV)/test.installed test-jax test-torch
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests/compare_backends.py

# On another backend, with its distribution. JAX compiles most programs more than
# once, so it keeps them.
test-jax: export JAX_COMPILATION_CACHE_DIR = $(abspath build/jax-cache)
test-jax: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS = 0
test-jax: export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES = -1
test-jax: export XLA_FLAGS = --xla_backend_optimization_level=0
test-%: $(VENV)-%/test.installed
	KERAS_BACKEND=$* OMP_NUM_THREADS=1 $(VENV)-$*/bin/$(PYTEST) \
	    $(ARGS) $(SUITES)
	KERAS_BACKEND=$* OMP_NUM_THREADS=1 $(VENV)-$*/bin/$(PYTEST) -m slow \
	    $(ARGS) tests/test_distribution.py

# The same as test, with the lowest version of each dependency.
test-lowest: $(VENV)-lowest/test.installed
	KERAS_BACKEND=tensorflow $(VENV)-lowest/bin/$(PYTEST) $(ARGS) $(TESTS)

# Random cases: make fuzz ARGS="--seeds 1000"
fuzz: $(VENV)/test.installed
	KERAS_BACKEND=tensorflow PYTHONPATH=.:tests \
	    $(BIN)/python -W ignore -m fuzz $(ARGS)

# With the next version of Keras in place of the installed one.
test-nightly: $(VENV)/test.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --upgrade --no-deps --target build/keras-nightly --pre keras-nightly
	KERAS_BACKEND=tensorflow PYTHONPATH=build/keras-nightly \
	    $(BIN)/$(PYTEST) $(ARGS) $(CORE)

lint: $(VENV)/dev.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: build/docs/index.html
	@echo "The documentation is in build/docs/index.html"

# --nitpicky: a name of ours without an entry is an error.
build/docs/index.html: $(VENV)/dev.installed \
    $(shell find docs keras_distill reproductions *.md -type f -not -name '*.pyc')
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky \
	    --fresh-env --quiet -d build/doctrees docs build/docs

.DELETE_ON_ERROR:

format: $(VENV)/dev.installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/examples.installed
	$(BIN)/python benchmarks/training.py $(ARGS)

# Otherwise make treats these files as intermediate and removes them.
.SECONDARY: $(VENV)-jax/test.installed $(VENV)-torch/test.installed

clean:
	rm -rf $(VENV) $(VENV)-* build output *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/%.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) \
	    and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --editable '.[$*]'
	touch $@

# uv is the one installer that can choose the lowest versions.
$(VENV)-lowest/test.installed: pyproject.toml
	test -x $(VENV)-lowest/bin/python || $(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet \
	    --disable-pip-version-check uv
	$(VENV)-lowest/bin/python -m uv pip install --quiet \
	    --python $(VENV)-lowest/bin/python --resolution lowest-direct \
	    --editable '.[test]'
	touch $@

$(VENV)-%/test.installed: pyproject.toml
	test -x $(VENV)-$*/bin/python || $(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet \
	    --disable-pip-version-check $(if $(findstring torch,$*),$(TORCH)) \
	    --editable '.[$*,test]'
	touch $@
