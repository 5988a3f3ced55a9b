# The two commands: `make quickstart` and `make test`. Each makes what it needs and is safe to repeat.
#   make quickstart OUT=dir     train, evaluate and listen; results in dir (default: quickstart)
#   make test                   lint, then all tests
#   make PYTHON=/path/to/python3 test    with a Python of your choice (3.10 to 3.13)

OUT ?= quickstart
VENV := .venv
BIN := $(VENV)/bin
export PYTHON

.PHONY: quickstart test lint format venv clean

quickstart: venv
	$(BIN)/speechprompt quickstart --out "$(OUT)"

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

lint: venv
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

format: venv
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

venv:
	@sh scripts/make_venv.sh $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
