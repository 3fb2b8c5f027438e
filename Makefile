# Everything a fresh machine needs is Python 3.11 or newer; each target builds .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo demo-real test test-all test-matrix check docs dist bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "tailkeep needs Python 3.11 to 3.13: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

# The main job on the embedded world: nothing is downloaded; the last lines are the verdict and the report's path.
demo: $(READY)
	$(BIN)/tailkeep lab demo --out runs/demo

# A real model on ten paragraphs: MODEL=FOLDER, such as one of examples/fetch_models.py.
demo-real: $(READY)
	$(if $(MODEL),,$(error give MODEL=FOLDER; $(BIN)/python examples/fetch_models.py FOLDER makes one))
	$(BIN)/python examples/demo_real.py $(MODEL) --out runs/demo-real

# The tests run in so many processes of one thread, a file in one of them; each takes up to 2 GB of memory.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

# A representative of every class of test.
test: $(READY)
	$(PYTEST)

# The whole matrix: every kill point, the browser, the longer recursions.
test-all: $(READY)
	$(PYTEST) -m "slow or not slow"

# Other versions of transformers and TRL, and DeepSpeed, each in an environment of its own under .matrix.
test-matrix: $(READY)
	$(BIN)/python tests/environments.py

check: $(READY)
	$(BIN)/ruff check src tests benchmarks examples docs
	$(BIN)/ruff format --check src tests benchmarks examples docs
	$(BIN)/mypy
	$(BIN)/codespell

# The site of docs/ in site/, with the reference of this version; a warning is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The wheel and the source archive, checked, and the wheel in an environment of its own.
dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	rm -rf dist/.venv && $(PYTHON) -m venv dist/.venv
	dist/.venv/bin/python -m pip install --quiet dist/*.whl
	dist/.venv/bin/tailkeep --version
	dist/.venv/bin/tailkeep lab gaussian --out dist/.run
	rm -rf dist/.venv dist/.run

bench: $(READY)
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/loss.py
	$(BIN)/python benchmarks/loss.py --step

clean:
	rm -rf $(VENV) .matrix .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build site
