# Two commands do everything on a machine with Python 3.11+ and git: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo demo-pixels demo-bags test newest lint types bench fuzz schemas docs system clean

help: ## Show what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/.run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about 5 GB with PyTorch, once)"
	@$(BIN)/python -m pip install -q uv
	@$(BIN)/uv pip install -q --python $(BIN)/python -e . || $(BIN)/python -m pip install -q -e .
	@touch $@

# Compiled at once: the suite starts hundreds of processes, and not every machine keeps what they compile.
$(BIN)/.dev: $(BIN)/.run
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -e '.[dev]' || $(BIN)/python -m pip install -q -e '.[dev]'
	@touch $@

$(BIN)/.sim: $(BIN)/.run
	@$(BIN)/uv pip install -q --python $(BIN)/python -e '.[sim]' || $(BIN)/python -m pip install -q -e '.[sim]'
	@touch $@

demo: $(BIN)/.sim ## Learn a simulated task from demonstrations and measure success, in minutes
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo_sim.sh

demo-pixels: $(BIN)/.sim ## The same from camera pictures; takes longer, and needs EGL or OSMesa
	@PATH="$(CURDIR)/$(BIN):$$PATH" DEMO_PIXELS=1 bash examples/demo_sim.sh

demo-bags: $(BIN)/.run ## Bags of a recorder to a trained, replayed policy
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

test: $(BIN)/.dev ## Run the whole test suite
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST)

newest: ## Run the suite on another Python: make newest PYTHON=python3.12
	@$(MAKE) --no-print-directory VENV=.venv-newest test

lint: $(BIN)/.dev ## Style: ruff
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(BIN)/.dev ## Types: mypy --strict
	@$(BIN)/mypy

bench: $(BIN)/.dev ## Every benchmark, small; each prints ratios against a peer or a limit
	@for b in benchmarks/*.py; do echo "== $$b"; $(BIN)/python $$b --quick || exit 1; done

fuzz: $(BIN)/.dev ## Ten minutes of atheris over everything that reads untrusted bytes
	@$(BIN)/uv pip install -q --python $(BIN)/python -e '.[fuzz]' || $(BIN)/python -m pip install -q -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz.run --seconds 600

schemas: $(BIN)/.dev ## Write the JSON Schemas of everything that is written to a file
	@$(BIN)/python -m tests.write_schemas

docs: $(BIN)/.dev ## Run the commands that README and docs show
	@$(BIN)/python -m pytest -q tests/test_docs.py

system: ## Debian packages that some live tests need (root)
	@bash .ci/system

clean: ## Remove what the other targets made
	@rm -rf $(VENV) .venv-newest build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo
