# Every command sets up what it needs, once, in .venv; test-backends in .venv-jax
# and .venv-torch.

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

.PHONY: demo mnist speech test test-reproductions test-backends lint docs format bench clean

demo: $(VENV)/examples.installed
	$(BIN)/python examples/quickstart.py

mnist: $(VENV)/examples.installed
	$(BIN)/python -m reproductions.mnist $(ARGS)

speech: $(VENV)/examples.installed
	$(BIN)/python -m reproductions.speech $(ARGS)

test: $(VENV)/test.installed
	# By file: the code blocks of a document build on each other.
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -n 2 \
	    --dist loadfile $(ARGS)

# The reproductions of the paper, which train small networks.
test-reproductions: $(VENV)/test.installed
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -n 2 \
	    --dist loadfile $(ARGS) reproductions

# The other backends of Keras. Documents and examples are TensorFlow's.
test-backends: $(VENV)/test.installed test-jax test-torch
	KERAS_BACKEND=tensorflow ALL_BACKENDS=1 $(BIN)/python -m pytest \
	    tests/test_backends.py -k agree

test-%: $(VENV)-%/test.installed
	KERAS_BACKEND=$* OMP_NUM_THREADS=1 $(VENV)-$*/bin/python -m pytest -n 2 \
	    --ignore tests/docs --ignore tests/examples \
	    --ignore tests/benchmarks $(ARGS) tests

lint: $(VENV)/test.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/test.installed
	# Nitpicky: a name of ours that has no entry is an error, too.
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky \
	    --fresh-env --quiet -d build/doctrees docs build/docs $(ARGS)
	@echo "The documentation is in build/docs/index.html"

format: $(VENV)/test.installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/examples.installed
	$(BIN)/python benchmarks/training.py $(ARGS)

# Or make takes it for a step on the way, and removes what says it is done.
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

$(VENV)-%/test.installed: pyproject.toml
	test -x $(VENV)-$*/bin/python || $(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet \
	    --disable-pip-version-check $(if $(findstring torch,$*),$(TORCH)) \
	    --editable '.[$*,test]'
	touch $@
