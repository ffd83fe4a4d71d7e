# Everything in one place: `make demo` and `make test` set up what they need by themselves.
#
#   make setup   virtual environment in .venv, installed from requirements.lock
#   make test    lint, types, tests
#   make demo    solve two problems and draw their posteriors into demo/
#   make bench   all benchmarks (make bench-xray: one of them)
#   make lint    ruff and mypy alone          make format   let ruff mend what it can
#   make lock    resolve the dependencies again
#   make docs    build the documentation      make clean    remove all that make built

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON_VERSION := 3.12
UV_VERSION := 0.13.9
WORKERS ?= 2
# one thread per worker: oversubscribed cores are slower than one core each
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

# without compiled modules every process would spend seconds on compiling its imports again
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup test lint format demo bench lock docs clean

help:
	@sed -n '3,10s/^# *//p' Makefile

setup: $(VENV)/.installed

$(VENV)/.python:
	@for candidate in python$(PYTHON_VERSION) python3 python; do
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
			found="$$candidate"; break
		fi
	done
	if [ -z "$${found:-}" ]; then
		echo "sciprob is developed with Python $(PYTHON_VERSION), and none is on the PATH; install it (python.org, pyenv, apt) and run make again." >&2
		exit 1
	fi
	echo "making $(VENV) with $$("$$found" --version)"
	"$$found" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	touch $@

# The lock holds every package with its hash; the project itself is added on top, without resolving again.
$(VENV)/.installed: $(VENV)/.python requirements.lock pyproject.toml
	@echo "installing requirements.lock"
	export VIRTUAL_ENV="$(CURDIR)/$(VENV)"
	$(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

lint: setup
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	@$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	@$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

demo: setup
	@rm -rf demo
	$(BIN)/sciprob solve darcy-sensors --solver laplace --out demo/darcy-sensors
	echo
	$(BIN)/sciprob solve tomography-phantom --solver gaussian --out demo/tomography-phantom
	echo
	$(BIN)/python scripts/summary.py demo/darcy-sensors demo/tomography-phantom

BENCHMARKS := $(patsubst benchmarks/%.py,%,$(filter-out benchmarks/_%,$(wildcard benchmarks/*.py)))

bench: $(BENCHMARKS:%=bench-%)

bench-%: setup
	@mkdir -p benchmarks/results
	$(BIN)/python benchmarks/$*.py --json benchmarks/results/$*.json

lock: $(VENV)/.python
	@export VIRTUAL_ENV="$(CURDIR)/$(VENV)"
	# pins that still fit are kept; `rm requirements.lock` first to take the newest of everything
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --generate-hashes --all-extras \
		--python-version $(PYTHON_VERSION) pyproject.toml --output-file requirements.lock

docs: setup
	@$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

clean:
	@rm -rf $(VENV) demo docs/_build benchmarks/results .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
