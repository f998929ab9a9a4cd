# `make demo` and `make test` set themselves up: a venv in .venv, everything pinned by constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PYTEST := $(BIN)/pytest -q -n 2 --dist worksteal

.PHONY: demo test check lint e2e parts bench format clean
.DEFAULT_GOAL := check

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: hale needs Python 3.11 or later; name one: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/python examples/fastapi/demo.py $(ARGS)

check: lint
	$(PYTEST) -m "not e2e"

# Everything in one run, so that its last line is the answer.
test: lint parts
	$(PYTEST)

e2e: parts
	$(PYTEST) -m e2e

# What tests stand on: Podman, Docker, a registry, git, a Debian image with Python. Root on Debian gets what is missing.
parts: $(READY)
	@cd tests && ../$(BIN)/python -m kit.parts

lint: $(READY)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m bench $(ARGS)

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .parts build src/*.egg-info
