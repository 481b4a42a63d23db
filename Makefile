# `make nightly` and `make test` do all their own set-up. Needs Python 3.11+ and a network on first use.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: help setup nightly images redteam test unit fuzz lint format lock schema bench bench-diff clean

help:
	@echo "make nightly   build the models of nightly.toml with every toolchain, compare, judge"
	@echo "make images    build the container images of all toolchains (BASE_IMAGE=NAME@sha256:… for your own base)"
	@echo "make test      run all tests"
	@echo "make setup     put the harness at $(BIN)/harness"
	@echo "make lint      ruff and mypy      make unit   fast tests only"
	@echo "make redteam   plant every attack of redteam/ and see whether it is caught (an hour)"
	@echo "make fuzz      every parser and normalizer under atheris (FUZZ_SECONDS=20 each)"
	@echo "make bench     measure the overhead of the harness      make bench-diff   and of harness diff"

setup: $(VENV)/.runtime

nightly: setup
	$(BIN)/harness nightly

redteam: setup
	$(BIN)/harness redteam

images: setup
	$(BIN)/harness toolchains build

UNIT := $(BIN)/python -m pytest tests/unit --numprocesses auto --dist worksteal

# Integration tests one by one: each uses all cores itself.
test: $(VENV)/.dev
	$(UNIT) $(PYTEST_ARGS)
	$(BIN)/python -m pytest tests/integration $(PYTEST_ARGS)

unit: $(VENV)/.dev
	$(UNIT) -m "not slow" $(PYTEST_ARGS)

fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz.atheris_run $(FUZZ_TARGETS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python benchmarks/overhead.py

bench-diff: $(VENV)/.dev
	$(BIN)/python -m benchmarks.diff

# A published schema that no longer matches the code fails the tests; this writes it anew.
schema: setup
	$(BIN)/python -c 'from harness.records import report_schema_text as t; print(t(), end="")' \
	  > harness/reports/report.schema.json
	$(BIN)/python -c 'from harness.signoff.evidence import evidence_schema_text as t; print(t(), end="")' \
	  > harness/signoff/evidence.schema.json

# Needs `uv` on the PATH. Package names only: the index is the client's own.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -q \
	  --no-emit-index-url --upgrade pyproject.toml requirements.in -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header -q \
	  --no-emit-index-url --upgrade --extra dev pyproject.toml requirements.in -o requirements-dev.lock

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11. Say which to use: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) > $(VENV).log 2>&1 || { rm -rf $(VENV); \
	  $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --version > /dev/null 2>&1; } || \
	  { rm -rf $(VENV); echo "error: $(PYTHON) has neither venv with pip nor pip. Install python3-venv (Debian) and run again." >&2; exit 2; }
	@rm -f $(VENV).log; touch $@

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/.python
	@$(call install,requirements.lock)
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/.python
	@$(call install,requirements-dev.lock)
	@touch $(VENV)/.runtime $@

# The venv's own pip, or, where the system's Python ships none for it, the system's.
define install
set -e; pip="$(BIN)/python -m pip"; \
$$pip --version > /dev/null 2>&1 || pip="$(PYTHON) -m pip --python $(BIN)/python"; \
$$pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r $(1) || \
  { echo "error: cannot install $(1). Check the network and pip's configuration (pip config list), then run again." >&2; exit 2; }; \
$$pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
endef

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
