# `make run` and `make test` do all the set-up from a fresh clone: Python 3.11 or newer and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Debian keeps ensurepip in a package of its own.
VENV_PACKAGE = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get update -qq && apt-get install -qq -y python3-venv >/dev/null; \
	else echo "$(PYTHON) cannot make a virtual environment; on Debian or Ubuntu: sudo apt-get install python3-venv" >&2; \
	exit 1; fi

.PHONY: run test bench lint install clean

run: $(STAMP)
	$(BIN)/labctl run configs/protocols/quickstart.yaml

test: $(STAMP)
	$(BIN)/python -m pytest -n 2

# Ratios to bare torch in the same run; times of a busy machine drift, ratios less so.
bench: $(STAMP)
	$(BIN)/python -m pytest tests/benchmarks --override-ini=addopts= --override-ini='python_files=bench_*.py' --benchmark-only -p no:xdist

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "labctl needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || { $(VENV_PACKAGE) && $(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
