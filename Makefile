# Everything a newcomer needs: `make demo`. Needs make and Python >= 3.11; uses uv when it is there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test prove check lint types imports migrations format lock bench clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(INSTALLED) ## install what is missing into .venv

$(INSTALLED): requirements.lock pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python "$(PYTHON)" $(VENV) && \
		uv pip install --quiet --python $(VENV) --require-hashes -r requirements.lock && \
		uv pip install --quiet --python $(VENV) --no-deps --no-build-isolation --editable . ; \
	else \
		"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
			|| { echo "Tagback needs Python 3.11 or newer; set PYTHON=/path/to/one" >&2; exit 1; } && \
		"$(PYTHON)" -m venv $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . ; \
	fi
	@touch $@

demo: setup ## posts become coupons, purchases, credits and attributed sales; ARGS="--once --json"
	@$(BIN)/tagback demo $(ARGS)

test: setup ## every test, on a real PostgreSQL; ARGS goes to pytest
	@$(BIN)/pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

PROOFS := tests/races tests/kills tests/money tests/faults tests/fuzz tests/replies/test_due_at_once.py
PROVE := --rounds 1000 --kills 200 --examples 20000 --posts 20000 --faults 100 --confirmations 1000 --cases 20000

prove: setup ## the long runs, for hours: races against the service and a twin, kills, the model; ARGS="-k Last"
	@$(BIN)/pytest $(PROOFS) $(PROVE) $(ARGS)

check: lint types imports migrations test ## what CI runs

bench: setup ## how fast it is: from a post to its reply, an export; ARGS="--only export --runs 3 --json"
	@$(BIN)/python -m bench $(ARGS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

migrations: setup
	$(BIN)/tagback db check

format: setup ## put the code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## bring requirements.lock in step with pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --group dev --generate-hashes --no-emit-index-url \
		--quiet --custom-compile-command "make lock" pyproject.toml --output-file requirements.lock

clean: ## remove the environment and caches; the data folder stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
