# The two commands: `make quickstart` and `make test`, and two that take long. Each makes what it needs and is safe to repeat.
#   make quickstart OUT=dir     train, evaluate and listen; results in dir (default: quickstart)
#   make test                   lint, then all tests
#   make soak                   tests that take long
#   make bench                  speed and memory beside the plain ways
#   make PYTHON=/path/to/python3 test    with a Python of your choice (3.10 to 3.13)

OUT ?= quickstart
BENCH_OUT ?= bench.json
VENV := .venv
BIN := $(VENV)/bin
export PYTHON

.PHONY: quickstart test soak bench lint format venv clean

quickstart: venv
	$(BIN)/speechprompt quickstart --out "$(OUT)"

# Two workers, one thread each: more threads than cores would make the tests slower. A worker that crashes ends the run,
# which names its test: in its place another one would wait for ever (pytest-xdist issue 1378).
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --max-worker-restart 0 $(PYTEST_ARGS)

# What takes long: twenty kills of every verb that resumes, a minute of fuzzing for every reader (tests/fuzz), a server under
# fifty clients for five minutes.
soak: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak $(PYTEST_ARGS)

# Speed and memory beside the plain ways; writes $(BENCH_OUT).
bench: venv
	$(BIN)/python -m scripts.bench --out "$(BENCH_OUT)" $(BENCH_ARGS)

# The hooks are run too where git is at hand, so that they stay in working order.
lint: venv
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	@if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then \
		PRE_COMMIT_HOME=$(VENV)/pre-commit $(BIN)/pre-commit run --all-files; \
	fi

format: venv
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

venv:
	@sh scripts/make_venv.sh $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
