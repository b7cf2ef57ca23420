# Two commands for newcomers, two for those who change things; each does all of its own set-up.
# Needed on the machine: Python 3.11 or newer, and make.

VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
# uv trusts the machine's own certificates, as the machine's other clients do.
export UV_SYSTEM_CERTS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test check clean

help:  ## what can be made
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(BIN)/.installed  ## one V2G session over real wires, certified, with a report: under a minute
	@$(BIN)/v2gbench demo

test: $(BIN)/.developing  ## everything: unit, wire, plans, peers, docs, wheel
	@$(BIN)/tox run

check: $(BIN)/.developing  ## before each commit: lint, types, layers, quick tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q -n 2 -m "not wire and not slow and not peers and not real_data and not hardware"

clean:  ## remove the environment and everything that was made
	rm -rf $(VENV) .tox build dist .coverage* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/.python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name it with: make PYTHON=python3.12")'
	@echo "making the environment in $(VENV) (packages take a minute the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(BIN)/.installed: $(BIN)/.python pyproject.toml
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable .
	@touch $@

$(BIN)/.developing: $(BIN)/.installed
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group dev
	@touch $@
