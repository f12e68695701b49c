# `make demo` and `make test` are all that a newcomer needs: they make .venv themselves.
PYTHON ?= python3
BIN = .venv/bin
COMPILE = .venv-lock/bin/uv pip compile setup.cfg --extra test --extra tensorboard \
	--universal --python-version 3.10 --upgrade --no-annotate --quiet \
	--custom-compile-command "make lock"

.PHONY: demo test test-fast test-slow test-lowest lint lock clean

demo: .venv/installed
	$(BIN)/edcn demo --out demo

test: lint
	$(BIN)/python -m pytest

# What neither trains nor exports a model, by tests/conftest.py: for between two edits.
test-fast: .venv/installed
	$(BIN)/python -m pytest -m "not slow and fast"

test-slow: lint
	$(BIN)/python -m pytest -m slow

test-lowest: .venv-lowest/installed
	.venv-lowest/bin/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: requirements/newest.txt setup.cfg pyproject.toml
.venv-lowest/installed: requirements/lowest.txt setup.cfg pyproject.toml
.venv/installed .venv-lowest/installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $< -e '.[test]'
	touch $@

# The newest and the lowest versions that setup.cfg allows today, for every Python.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check 'uv < 1'
	$(COMPILE) --output-file requirements/newest.txt
	$(COMPILE) --resolution lowest-direct --output-file requirements/lowest.txt

clean:
	rm -rf .venv .venv-lowest .venv-lock demo build *.egg-info
