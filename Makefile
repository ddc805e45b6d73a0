# Every habit of this project; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && { echo $$p; break; }; done)
WORKERS ?= 2

TAPE ?=
SPEED ?= 10
MINUTES ?= 3
SEED ?= 1

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: setup
setup: $(STAMP) ## create .venv and install the pinned lock

$(STAMP): requirements-dev.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
	  echo "driftless needs Python 3.11 or newer: install it, or run make PYTHON=/path/to/python3" >&2; \
	  exit 2; fi
	@echo "creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "cannot create a virtual environment: install your system's venv package" \
	  "(Debian: apt-get install python3-venv)" >&2; exit 2; }
	@echo "installing the pinned packages (about a minute the first time)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
	  --require-hashes -r requirements-dev.lock | awk '/^Collecting/ { if (++n % 10 == 0) \
	  { printf "  %d packages\n", n; fflush() } } /^Installing/ { print "  unpacking"; fflush() }'
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet \
	  --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "ready"

.PHONY: demo
demo: $(STAMP) ## watch it work: make demo [TAPE=FILE] [SPEED=10] [MINUTES=3] [SEED=1]
	@$(BIN)/driftless demo $(if $(TAPE),--tape "$(TAPE)") --speed $(SPEED) --minutes $(MINUTES) \
	  --seed $(SEED)

.PHONY: test
test: $(STAMP) ## run the whole test suite
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.PHONY: check
check: $(STAMP) ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: fmt
fmt: $(STAMP) ## format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: all
all: check test ## check and test

.PHONY: bench
bench: $(STAMP) ## measure latency, throughput, rebuild and memory
	@$(BIN)/python -m services.lab.bench

.PHONY: chaos-feeds
chaos-feeds: $(STAMP) ## break every feed at random, kill ingesters, compare: [MINUTES=3] [SEED=1]
	@$(BIN)/python -m services.lab.chaos_feeds --minutes $(MINUTES) --seed $(SEED)

KILLS ?= 200

.PHONY: chaos
chaos: $(STAMP) ## kill every process in turn and at random, 25 minutes: [KILLS=200] [SEED=1] [MINUTES=5]
	@$(BIN)/python -m services.lab.chaos --kills $(KILLS) --seed $(SEED) \
	  $(if $(filter command line environment,$(origin MINUTES)),--minutes $(MINUTES))

SEEDS ?= 1000
FROM ?= 1

.PHONY: simulate
simulate: $(STAMP) ## simulate many seeds in virtual time: make simulate [SEEDS=1000] [FROM=1]
	@$(BIN)/python -m tests.simulation.many --seeds $(SEEDS) --from $(FROM) --workers $(WORKERS)

.PHONY: mutants
mutants: $(STAMP) ## mutate the deciding modules and count who survives (pip install mutmut first)
	@$(BIN)/python -m mutmut run --max-children $(WORKERS)
	@$(BIN)/python -m mutmut results | grep -c survived

TARGET ?= activity stream
RUNS ?= 100000

.PHONY: fuzz
fuzz: $(STAMP) ## fuzz a reader by coverage: make fuzz TARGET="user stream" (pip install atheris first)
	@$(BIN)/python -m tests.fuzz.atheris_run "$(TARGET)" -runs=$(RUNS)

.PHONY: verify
verify: $(STAMP) ## rebuild every state of what runs and compare it byte for byte
	@$(BIN)/driftless verify

.PHONY: up
up: ## start everything in containers, with the local venue
	@sh deploy/secrets.sh
	@docker compose --profile paper up --build --detach

.PHONY: down
down: ## stop the containers; data stays
	@docker compose --profile paper down

.PHONY: lock
lock: ## pin the dependencies anew (needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --extra dev pyproject.toml -o requirements-dev.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header -c requirements-dev.lock pyproject.toml -o requirements.lock
