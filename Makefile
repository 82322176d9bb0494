# Every target makes the environment it needs, once, in .venv; afterwards it starts at once.
# A change of pyproject.toml or constraints.txt installs again.

PYTHON ?= python3
DEMO ?= runs/demo
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
BENCHES := start.py memory.py attention.py decoding.py rounds.py preparing.py forecasting.py "time_to_loss.py shakespeare" training.py

.NOTPARALLEL:
.PHONY: help venv demo test check bench clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

venv: .venv/.test-ready ## the full environment (tests, checks, benchmarks) in .venv

demo: .venv/.demo-ready ## four families on Python's own documentation, one budget, one report
	$(BIN)/sightline compare python-docs --families causal,backward,masked,prefix --budget 25s --size tiny --out $(DEMO)

test: .venv/.test-ready ## all tests, in two processes of one thread
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

check: .venv/.test-ready ## style, layout and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.test-ready ## Sightline beside its peers, in turns; results in benchmarks/results/
	@set -e; for work in $(BENCHES); do echo "== $$work"; $(BIN)/python benchmarks/$$work; done

clean: ## remove what tools leave behind; .venv and runs/ stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Sightline needs Python 3.11 or newer: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

.venv/.demo-ready: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e .
	@touch $@

# The full environment holds the light one.
.venv/.test-ready: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[test]'
	@touch .venv/.demo-ready $@
