# Every verb sets up what it needs in .venv, from a plain Python 3.11 or later.
# PYTHON=/path/to/python chooses another one; PYTEST='-k lease -x' and BENCH='--only steps' hand on options.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: bench check clean demo docs fix help soak test

# A name in PATH need not be a Python that starts, or that can make an environment: ask each one.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
CODE := $(wildcard src tests docs bench examples tools)
PYTEST ?=
BENCH ?=
WORKERS ?= 2
# COVER=1 asks for every branch of the rooms that hold the rules.
COVER ?=

# The pinned pyright is the one that speaks, so it does not ask the registry for a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

help:  ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/core.stamp  ## see a run survive the death of its process
	@$(BIN)/outlast demo

test: .venv/dev.stamp  ## run the tests
	@$(BIN)/python -m pytest -n $(WORKERS) $(if $(COVER),--cov) $(PYTEST)

check: .venv/dev.stamp  ## check format, lint, types, imports, spelling and docs
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy $(CODE)
	$(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --ignoreexternal --verifytypes outlast
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/sphinx-build --quiet --fail-on-warning docs docs/_build

fix: .venv/dev.stamp  ## mend format, lint and generated docs where a tool can
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format
	$(BIN)/python docs/generated.py

soak: .venv/dev.stamp  ## run the long simulations with full counts
	@OUTLAST_SOAK=1 $(BIN)/python -m pytest -n $(WORKERS) --timeout 0 -m soak $(PYTEST)

bench: .venv/dev.stamp  ## measure
	@$(BIN)/python -m bench $(BENCH)

docs: .venv/dev.stamp  ## build the docs into docs/_build
	@$(BIN)/sphinx-build --fail-on-warning docs docs/_build

clean:  ## remove what the verbs made
	rm -rf .venv docs/_build .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

.venv/%.stamp: pyproject.toml tools/environment.py
	@test -n "$(PYTHON)" || { echo 'no Python 3.11 or later with venv: make PYTHON=/path/to/python' >&2; exit 1; }
	@"$(PYTHON)" tools/environment.py $*
