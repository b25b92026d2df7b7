# Three commands do everything on a fresh machine with Python 3.11+ and make:
#   make demo             installs into .venv and runs a whole federated study on synthetic phantoms
#   make consortium-demo  the same way, a coordinator and four hospitals as processes of their own, over mutual TLS
#   make test             installs into .venv and runs linters, types and tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOLDERS := platform privacy medical_datasets evaluation
OUT ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: demo consortium-demo test test-all install lint types wheel clean help

help:
	@sed -n 's/^#   //p' Makefile

# The stamp is newer than what decides the environment, so a second `make` installs nothing.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Wardround needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/wardround demo --out $(OUT)

consortium-demo: install
	$(BIN)/python -m wardround.platform.service.consortium_demo --out $(OUT)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The root is the package, whatever the folder it was cloned into is called; mypy finds it through a link of that name.
types: install
	@mkdir -p .lint && ln -sfn .. .lint/wardround
	MYPYPATH=.lint $(BIN)/mypy $(FOLDERS:%=-p wardround.%)

# A process a core, each test file whole in one of them, long files with few tests not last.
test: lint types
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-all: lint types
	$(BIN)/python -m pytest -m 'slow or not slow' -n auto --dist loadfile --no-loadscope-reorder

# setuptools copies what an earlier build left in build/, also modules that are gone since.
wheel: install
	rm -rf build dist/wardround-*.whl
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf build dist .lint .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
