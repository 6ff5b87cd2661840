# The two commands of a fresh clone: `make demo` and `make test`. Everything they install lies in .venv.

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
INSTALL := $(PY) -m pip install --disable-pip-version-check $(if $(CI),--quiet)

.PHONY: help demo dashboard test lint chromium clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/installed ## a simulated cohort, training in the background, the dashboard at a printed address; Ctrl-C stops all
	@exec $(PY) -m backend demo

dashboard: $(VENV)/installed ## the dashboard on the runs in RUNS (default: runs) at PORT (default: 8501)
	@exec $(PY) -m dashboard --runs $(or $(RUNS),runs) --port $(or $(PORT),8501)

# Fast tests first, then what drives a browser or takes long; both by files (tests/conftest.py).
test: $(VENV)/installed-dev chromium lint ## linter, types and all tests, with a real Chromium
	$(PY) -m pytest -n 2 --dist loadgroup --no-loadscope-reorder --durations 10

lint: $(VENV)/installed-dev ## formatting, linter and types alone
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean: ## remove what these commands made, except runs and data
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis test-artifacts

$(VENV)/installed: requirements.txt
	@python=$$(for name in python3 python3.11 python3.12 python3.13; do \
	  $$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; \
	done); \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or newer with its venv module is needed and none was found." >&2; \
	  echo "On Debian or Ubuntu: sudo apt-get install python3 python3-venv; then run make again." >&2; exit 1; \
	fi; \
	$(PY) -m pip --version >/dev/null 2>&1 || $$python -m venv --clear $(VENV)
	@echo "Installing requirements.txt into $(VENV) (once; the download is large, torch most of it) ..."
	@$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	@echo "Installing requirements-dev.txt into $(VENV) ..."
	@$(INSTALL) -r requirements-dev.txt
	@touch $@

# An installed Chromium or Chrome serves; otherwise Debian's package is installed, the one without windows where there is one.
chromium:
	@for name in chromium-headless-shell chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if ! command -v apt-get >/dev/null; then \
	  echo "The page tests need Chromium: install it so that 'chromium' or 'google-chrome' is on the PATH, then run make test again." >&2; \
	  exit 1; \
	fi; \
	echo "Installing Chromium ..."; \
	as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	$$as_root apt-get update -qq </dev/null; \
	install="$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends"; \
	$$install chromium-headless-shell </dev/null >/dev/null 2>&1 || $$install chromium </dev/null >/dev/null
