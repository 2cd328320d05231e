# `make demo` and `make test` set up their own virtual environment and run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test lint check-types unit docs bench mini-encoders clean

demo: $(READY)
	$(BIN)/mcr demo

test: lint check-types unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types: $(READY)
	$(BIN)/mypy

# Threads of several processes would spin for each other's cores.
unit: $(READY)
	OMP_WAIT_POLICY=passive KMP_BLOCKTIME=0 $(BIN)/python -m pytest --numprocesses auto \
		--maxprocesses 8 --dist loadfile --no-loadscope-reorder

# The documentation as a site in build/site; its reference is made from the code.
docs: $(READY)
	$(BIN)/python -m docs.tools.reference
	$(BIN)/python -m mkdocs build

# The figures of docs/performance.md; about half an hour on two cores.
bench: $(READY)
	for name in pseudo_pairs kept_pairs approximate routing streaming training search reading \
		ann startup; do \
		$(BIN)/python -m benchmarks $$name || exit 1; done

# Fits the encoders that come with the package again; about an hour on one core.
mini-encoders: $(READY)
	$(BIN)/python -m features.encoders.mini.builtin

clean:
	rm -rf $(VENV) demo

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(READY)
