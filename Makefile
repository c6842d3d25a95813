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

# What the virtual lab stands on: X servers with two monitors, a C compiler for its camera, wx for slmPy.
VIRTUAL_PACKAGES := xvfb xserver-xorg-core xserver-xorg-video-dummy x11-xserver-utils openbox gcc libc6-dev python3-wxgtk4.0
VIRTUAL_TOOLS := Xvfb Xorg xrandr openbox gcc

# In which the page of a study is tested; by these names on Debian. Elsewhere its tests are skipped without.
BROWSER_PACKAGES := chromium chromium-driver

.PHONY: run virtual virtual-packages browser-packages test bench lint install clean

run: $(STAMP)
	$(BIN)/labctl run configs/protocols/quickstart.yaml

virtual: $(STAMP) virtual-packages
	$(BIN)/labctl timing --rig virtual
	$(BIN)/labctl run configs/protocols/quickstart.yaml --rig virtual

virtual-packages: $(STAMP)
	for tool in $(VIRTUAL_TOOLS); do PATH="$$PATH:/usr/lib/xorg" command -v $$tool >/dev/null || missing=1; done; \
	test -e /usr/lib/xorg/modules/drivers/dummy_drv.so || missing=1; test -d /usr/lib/python3/dist-packages/wx || missing=1; \
	test -z "$$missing" || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(VIRTUAL_PACKAGES) >/dev/null; \
	else echo "the virtual lab needs, on Debian or Ubuntu: sudo apt-get install $(VIRTUAL_PACKAGES)" >&2; exit 1; fi
	-$(BIN)/python -m drivers.panels.link_wx  # only slmPy needs it; under another Python than Debian's it cannot be

browser-packages:
	command -v chromium >/dev/null && command -v chromedriver >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(BROWSER_PACKAGES) >/dev/null; \
	else echo "the page of a study is tested in Chromium: sudo apt-get install $(BROWSER_PACKAGES)" >&2; exit 1; fi

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[lab,dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
