# The first `make train` or `make test` does all the set-up; later ones find it done.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Test processes. Much of a test is waiting for Ray or SLURM to start.
JOBS ?= 3
INSTALLED := $(VENV)/.installed

# Bytecode is kept even where the environment forbids it: without it every worker compiles torch and Ray anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup train test test-cluster lint docs constraints
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo 'settings: ARGS="..." for train and tests, JOBS=1 for tests, PYTHON=python3.12, VENV=.venv'

setup: $(INSTALLED) ## system libraries for FFCV, a virtual environment, distcond in it

$(INSTALLED): pyproject.toml constraints.txt tools/setup.sh
	@tools/setup.sh $(PYTHON) $(VENV)

train: $(INSTALLED) ## train the default recipe; ARGS="recipe=NAME epochs=3 ..." for another run
	@$(BIN)/python -m distcond.train fresh=true $(ARGS)

test: $(INSTALLED) ## run the quick tests; ARGS="tests/models -x" for some of them
	@$(BIN)/python -m pytest --numprocesses=$(JOBS) --no-loadscope-reorder -m "not cluster" $(ARGS)

test-cluster: $(INSTALLED) ## run the others: real faults, several nodes, SLURM in full, images, sweeps under kills
	@$(BIN)/python -m pytest --numprocesses=$(JOBS) --no-loadscope-reorder -m cluster $(ARGS)

lint: $(INSTALLED) docs ## style, types, import rules, images, workflow, citation and shell files, the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format --force-filetype yaml CITATION.cff
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec cluster/compose.yaml
	$(BIN)/hadolint docker/Dockerfile docker/Dockerfile.cuda
	$(BIN)/shellcheck tools/setup.sh .ci/run docker/*.sh

# The variable silences an advertisement.
docs: $(INSTALLED) ## build the documentation into site/; a warning, such as a broken link, is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

constraints: $(INSTALLED) ## resolve constraints.txt again; ARGS=--upgrade for the newest versions
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --strip-extras --no-annotate --quiet \
		--custom-compile-command "make constraints" --output-file constraints.txt pyproject.toml $(ARGS)
