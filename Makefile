# Every target does all its set-up by itself, once, in $(VENV). `make` alone lists the targets.
#   make setup PYTHON=/path/to/python3.12     another interpreter      make test VENV=/tmp/venv     another place
#   make test ARGS="-k masks"                 arguments for pytest           make test JOBS=8     more at a time

VENV ?= .venv
PYTHON ?=
ARGS ?=
JOBS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.idinpaint-setup
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check

MINUTES ?= 9
DATA ?= runs/faces.facepack
OUT ?= runs/painters
CONFIG ?= configs/bundle.yaml
TRAIN_PYTHON ?= $(BIN)/python

.PHONY: help setup demo test lint clean bundle-on-gpu
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@echo "make demo    restore a damaged portrait into out/demo (sets itself up first)"
	@echo "make test    run the tests (sets itself up first)"
	@echo "make lint    check style with ruff"
	@echo "make bundle-on-gpu MINUTES=9 DATA=faces.facepack OUT=folder    train the painters (training/README.md)"
	@echo "make setup   only the virtual environment, in $(VENV)"
	@echo "make clean   remove out/ and caches; $(VENV) and runs/ stay"

setup: $(STAMP)
	@echo "Ready: $(BIN)/idinpaint --help"

demo: $(STAMP)
	@$(BIN)/python examples/demo.py

# A file's tests stay together, since many share what they load; threads that wait for each other cost more than they give.
test: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

# Reads DATA and the folder `teachers` beside it (training/pack_data.py writes both); TRAIN_PYTHON: an interpreter that
# has torch already, on a machine where nothing can be installed.
bundle-on-gpu: $(if $(filter $(BIN)/python,$(TRAIN_PYTHON)),$(STAMP))
	@test -f runs/bundle/prior.safetensors || $(TRAIN_PYTHON) training/import_bundle.py --output runs/bundle
	@PYTHONPATH=src $(TRAIN_PYTHON) training/train_painters.py --config $(CONFIG) \
	    --set max_train_minutes=$(MINUTES) --set train_data_dir=$(DATA) --set teachers=$(dir $(DATA))teachers \
	    --set output_dir=$(OUT) $(ARGS)

clean:
	@rm -rf out build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis
	@find src tests training eval examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(STAMP): pyproject.toml constraints.txt
	@set -eu; \
	python=; \
	for candidate in $(or $(PYTHON),python3.11 python3 python3.12 python3.13 python3.14); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        python="$$candidate"; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "make: no Python 3.11 or newer found$(if $(PYTHON), at $(PYTHON)); install one or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	if ! "$(BIN)/python" -m pip --version >/dev/null 2>&1; then \
	    if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	        echo "make: $$python has no venv module; install it (Debian, Ubuntu: apt install python3-venv) and run make again" >&2; exit 1; \
	    fi; \
	    echo "Creating $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv --clear "$(VENV)"; \
	fi; \
	echo "Installing into $(VENV): a few minutes the first time, nothing later"; \
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[dev]'; \
	touch "$@"
