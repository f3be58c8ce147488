PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# one worker per core; the tests of a file share what one of them has made
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile
# how much of the code the tests run: COVERAGE=1 asks for it, and takes half as long again
COVERAGE ?=
MEASURED := $(if $(COVERAGE),--cov=lightning_ltts --cov-report=term --cov-fail-under=85)

.PHONY: help demo test test-fast test-slow test-extras lint format docs env clean
.DEFAULT_GOAL := help

help:  ## what each target does
	@awk -F ':.*##' '/^[a-z-]+:.*##/ {printf "%-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: env  ## the whole pipeline on the built-in task, on CPU, in minutes
	$(BIN)/python -m lightning_ltts.demo

test: env  ## every test but those of test-slow, in minutes; COVERAGE=1 says what they run
	$(PYTEST) $(MEASURED)

test-fast: env  ## the tests to run after every change, in a minute
	$(PYTEST) -m "not slow and not crash and not processes"

# pytest ends with 5 where it finds no test
test-slow: env  ## killed runs, runs of several processes, and the page in a browser
	$(PYTEST) --dist load -m "crash or processes" || test $$? -eq 5

test-extras: env  ## the tests of trackers, lm-eval, notebooks and the site, with what they need
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[extras]'
	$(PYTEST) -m extra

lint: env  ## style, types and spelling, as continuous integration checks them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: env  ## puts the code into the style that lint checks, where that can be done by a program
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: env  ## the docs as a site, in site/, with the API reference
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m mkdocs build --strict

env: $(VENV)/.ready  ## the environment, made once

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lightning_ltts needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:  ## removes the environment, not your logs
	rm -rf $(VENV)
