PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint env clean

demo: env  ## the whole pipeline on the built-in task, on CPU, in minutes
	$(BIN)/python -m lightning_ltts.demo

test: env  ## every test
	$(BIN)/python -m pytest -n auto --cov=lightning_ltts --cov-report=term --cov-fail-under=85

lint: env  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

env: $(VENV)/.ready  ## the environment, made once

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lightning_ltts needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:  ## removes the environment, not your logs
	rm -rf $(VENV)
