# `make demo` and `make test` are all that a newcomer needs: they make .venv themselves.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test test-slow lint clean

demo: .venv/installed
	$(BIN)/edcn demo --out demo

test: lint
	$(BIN)/python -m pytest

test-slow: lint
	$(BIN)/python -m pytest -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

clean:
	rm -rf .venv demo build *.egg-info
