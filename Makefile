.PHONY: help setup engines demo up test chaos lint check bench eval lock
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 3
RECORDINGS ?= ../shared/data

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 10

setup: .venv/dalston-stamp ## Build all environments; leaves .venv/bin/dalston
	@$(BIN)/dalston engine install >/dev/null

engines: setup ## Build the large engines too; PyTorch as pip finds it
	$(BIN)/python -m pip download --quiet --no-deps --dest .wheels torch==2.13.0
	UV_FIND_LINKS=$(CURDIR)/.wheels $(BIN)/dalston engine install --all >/dev/null

demo: setup ## Transcribe the shipped recording through the whole server
	$(BIN)/dalston transcribe --data .data "$$($(BIN)/dalston sample)"

up: setup ## Run the server until Ctrl-C
	$(BIN)/dalston up

test: setup ## Run all tests, or those in TESTS=…, by WORKERS=3 processes
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

chaos: setup ## Kill, freeze and cut off everything, for longer than `make test` does
	DALSTON_CHAOS=1 $(BIN)/python -m pytest tests/chaos tests/contract tests/security

lint: setup ## Style, types, layers, sizes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/sizes.py

check: lint test ## All that CI checks

bench: setup ## Measure every performance claim
	$(BIN)/python -m bench

eval: setup ## Measure error rates over RECORDINGS=…, and those of the bare libraries
	$(BIN)/dalston eval "$(RECORDINGS)" --bare --json .data/eval.json --data .data

lock: setup ## Resolve all dependencies anew
	$(BIN)/python scripts/lock.py

.venv/dalston-stamp: requirements.lock pyproject.toml sdk/pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$$(grep -o '^uv==[0-9.]*' requirements.lock)"
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -e sdk -e .
	@touch $@
