# One verb each. The first use makes .venv from pinned requirements; later uses take no time.
# PYTHON=python3.12 chooses the interpreter (3.11 to 3.13). VENV=… puts the environment elsewhere.

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach p,python3.11 python3,$(shell $(p) -c pass 2>/dev/null && echo $(p))))
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1
export NO_MKDOCS_2_WARNING = 1

.DEFAULT_GOAL := help
.PHONY: help demo test check format docs site links soak planted bench bench-real chaos services services-stop requirements clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

demo: $(VENV)/.runtime ## watch a durable booking workflow run on the embedded broker
	@$(BIN)/infinitic demo

test: $(VENV)/.dev ## run every test (ARGS="-k name" narrows)
	@$(BIN)/pytest -n auto $(ARGS)

check: $(VENV)/.docs ## format, lint, types, import order and layout
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache pyproject.toml tests/architecture/type_hints.toml
	$(BIN)/pytest --quiet tests/architecture

format: $(VENV)/.dev ## format the code and fix what the linter can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## write the two generated pages, docs/configuration.md and docs/conformance.md
	$(BIN)/python -m tools.configuration_page > docs/configuration.md
	$(BIN)/python -m tools.conformance_page > docs/conformance.md

site: $(VENV)/.docs ## build the documentation site into build/site; a warning is an error
	@$(BIN)/python -m mkdocs build --quiet

links: $(VENV)/.docs ## ask for each page elsewhere that the documentation links to (needs the network)
	@$(BIN)/python -m tools.site.links

soak: $(VENV)/.dev ## run 10,000 seeds with faults over all scenarios; goes on after Ctrl-C (ARGS="--seeds 500")
	@$(BIN)/infinitic simulate tests/simulation/scenarios --seeds 10000 --resume .soak.json $(ARGS)

planted: $(VENV)/.dev ## look for each planted bug, and write docs/planted-bugs.md (ARGS="NAME --seeds 50")
	@$(BIN)/python -m tests.simulation.planted $(ARGS)

bench: $(VENV)/.dev ## measure, beside the floor, in one run
	@$(BIN)/python -m bench $(ARGS)

bench-real: $(VENV)/.dev ## measure on the servers of `make services` (ARGS="--only postgres --scale")
	@$(BIN)/python -m bench.real $(ARGS)

chaos: $(VENV)/.dev ## kill real servers, workers and clients while workflows run (ARGS="--database postgres")
	@$(BIN)/python -m chaos $(ARGS)

services: ## install and start Pulsar, PostgreSQL, MariaDB and Redis on loopback
	@services/all.sh start

services-stop: ## stop them; their data stays in services/var
	@services/all.sh stop

requirements: ## compile the pins again (ARGS=--upgrade takes new versions)
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && $(PYTHON) -m venv "$$tools" && \
	"$$tools/bin/pip" install --quiet --disable-pip-version-check uv && \
	pin() { "$$tools/bin/uv" pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	  --no-emit-index-url --custom-compile-command "make requirements" $(ARGS) "$$@"; } && \
	pin --extra testing requirements/runtime.in pyproject.toml --output-file requirements/runtime.txt && \
	pin requirements/dev.in --output-file requirements/dev.txt && \
	pin requirements/docs.in --output-file requirements/docs.txt

clean: ## remove the environment, caches and builds
	rm -rf $(VENV) .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c '$(SUPPORTED)' 2>/dev/null || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed; '$(PYTHON)' is not one. Try: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.created requirements/runtime.txt pyproject.toml
	@echo "Installing the runtime"
	@$(PIP) --require-hashes -r requirements/runtime.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@echo "Installing the development tools"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.dev requirements/docs.txt
	@echo "Installing what makes the site"
	@$(PIP) --require-hashes -r requirements/docs.txt
	@touch $@
