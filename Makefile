VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
SOURCES := hw sim verif fpga sw tests

# Amaranth would silently take a system Yosys, whose output differs.
export AMARANTH_USE_YOSYS := builtin

.PHONY: help setup demo test verify prove mutate lint format clean distclean system

help:
	@echo "make setup      create $(VENV) with the pinned packages"
	@echo "make demo       run a quantised layer of a real checkpoint on the generated RTL"
	@echo "make test       run all tests (ARGS=... is passed to pytest)"
	@echo "make verify     the full regression: cocotb benches, random programs, faults (ARGS=...)"
	@echo "make prove      the formal properties, for every input"
	@echo "make mutate     single faults in the netlist: does the regression see them?"
	@echo "make lint       check formatting, style and types"
	@echo "make format     reformat the sources"
	@echo "make clean      remove what was built (distclean: and $(VENV))"

setup: system $(STAMP)

# Runs every time: a compiler can disappear while the environment is still there.
system:
	@.ci/setup >/dev/null

$(STAMP): pyproject.toml | system
	@echo "Installing the pinned packages into $(VENV) (a minute or two the first time)"
	@test -x $(BIN)/pip || "$$(.ci/setup)" -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cluster,demo,fpga,test,verif]'
	@touch $@

$(DEV_STAMP): pyproject.toml $(STAMP)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/python -m lutcore.sw.app.demo $(ARGS)

test: setup
	@$(BIN)/python -m pytest -n 2 --dist worksteal --durations=10 $(ARGS)

verify: setup
	@$(BIN)/lutcore verify --full $(ARGS)

prove: setup
	@$(BIN)/lutcore prove $(ARGS)

mutate: setup
	@$(BIN)/lutcore mutate $(ARGS)

lint: setup $(DEV_STAMP)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/pyright

format: setup $(DEV_STAMP)
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

distclean: clean
	rm -rf $(VENV)
