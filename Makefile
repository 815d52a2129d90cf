# Steelyard: `make up` runs the site, `make test` tests it. `make help` lists the rest.
# PORT=, HOST= and STEELYARD_HOME= (where var/ lives) are honoured by `make up`.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help

# A sentence instead of a syntax error where `python3` is missing or ancient; the bootstrap itself checks for 3.11.
ifneq ($(filter-out help clean,$(MAKECMDGOALS)),)
ifneq ($(shell $(PYTHON) -c "import sys; print(sys.version_info >= (3, 6))" 2>&1),True)
$(error steelyard: Python 3.11 or newer is needed and $(PYTHON) is not; name one: make PYTHON=/path/to/python3.11 ...)
endif
endif
.PHONY: help up install install-dev test check format lint types imports bench e2e openapi clean

# Each recipe line is one plain command, so make runs it without a shell between and passes signals on.

help: ## List the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## Install what is missing and run the whole site: database, web, workers (Ctrl-C stops it)
	@$(PYTHON) scripts/bootstrap.py run
	@$(BIN)/python -m steelyard.launcher --follow-parent

install: ## Install what the site needs into .venv
	@$(PYTHON) scripts/bootstrap.py run

install-dev: ## Install what the site, its tests and its checks need into .venv
	@$(PYTHON) scripts/bootstrap.py test

test: ## Run every test, browser journeys included; ARGS= for some of them, one after the other
	@$(PYTHON) scripts/bootstrap.py test --browser
ifeq ($(ARGS),)
	@env OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --durations=15 -m "not slow and not alone"
	@$(BIN)/python -m pytest --durations=15 -m "alone and not slow"
else
	@$(BIN)/python -m pytest $(ARGS)
endif

e2e: ## Run the browser journeys alone
	@$(PYTHON) scripts/bootstrap.py test --browser
	@$(BIN)/python -m pytest -m browser $(ARGS)

check: ## Format, lint, types, import contracts, templates, tests
	@$(PYTHON) scripts/bootstrap.py test --browser
	@$(MAKE) --no-print-directory lint types imports
	@$(BIN)/python -m pytest $(ARGS)

lint: install-dev ## Check format and lint of Python and templates
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/djlint templates --lint --quiet

types: install-dev ## Check types
	@$(BIN)/mypy steelyard annotator rmeval workers

imports: install-dev ## Check who imports whom
	@$(BIN)/lint-imports

format: install-dev ## Format Python
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: ## Run the benchmarks and print their ratios (ARGS="claims" for one)
	@$(PYTHON) scripts/bootstrap.py bench
	@$(BIN)/python -m bench $(ARGS)

openapi: install-dev ## Write docs/openapi.yaml anew
	@$(BIN)/python manage.py spectacular --file docs/openapi.yaml --validate

clean: ## Remove caches and build leftovers; var/ (the site's data) and .venv stay
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist steelyard.egg-info
	@find . -name __pycache__ -type d -not -path "./.venv/*" -prune -exec rm -rf {} +
