# Set-up and the two main jobs. `make demo` and `make test` work in a fresh clone: they first build .venv.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: help venv demo test test-hf test-lowest test-newest docs lint stress smoke clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 16

venv: $(STAMP)  ## create .venv and install the project's dependencies (PYTHON=python3.12 picks the interpreter)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

demo: $(STAMP)  ## ZeroshotCLIP, CoOp and MoCoOp base-to-new on two built-in sets, three seeds: one table in minutes
	$(PY) -m reproduce demo

test: $(STAMP)  ## the whole test suite
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest -q

test-lowest:  ## all tests with the lowest versions that pyproject.toml allows, in .venv-lowest (PYTHON=python3.10: the lowest, too)
	@mkdir -p build && $(PYTHON) .ci/lowest > build/lowest.txt
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --constraint build/lowest.txt -e '.[test]'
	touch .venv-lowest/.installed
	$(MAKE) test VENV=.venv-lowest

test-newest:  ## all tests with the newest versions that it allows, in a new .venv-newest
	rm -rf .venv-newest
	$(MAKE) test VENV=.venv-newest

test-hf: $(STAMP)  ## tests of Hugging Face's text towers, with transformers in build/hf
	$(PY) -m pip install --quiet --disable-pip-version-check --upgrade --target build/hf transformers
	PYTHONPATH=build/hf OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest -q tests/prompting/test_plain_tower.py tests/trainers/test_text_towers.py

docs: $(STAMP)  ## the pages as a site, in build/site (open build/site/index.html)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet

lint: $(STAMP)  ## rules and format of the code, types at public seams, who imports whom
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PY) -m pytest -q tests/house

stress: $(STAMP)  ## kills, every fault, 20,000 fuzz inputs, hostile servers, leases, with what each said (docs/reliability.md)
	OMP_NUM_THREADS=1 $(PY) -m tests.stress.kills --kills 100
	OMP_NUM_THREADS=1 $(PY) -m tests.stress.kills --kills 1000 --changes --seed 1 --seconds 7200
	OMP_NUM_THREADS=1 $(PY) -m pytest -q --stress --durations=0 tests/stress tests/basics/test_locks.py tests/datasets/test_dataset_fetch.py

smoke: $(STAMP)  ## demo's job with one epoch and one seed, into a temporary folder
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && OUT="$$out" $(PY) -m reproduce demo --epochs 1 --seeds 1

clean:  ## remove .venv, .venv-lowest, .venv-newest and caches; data/ and output/ stay
	rm -rf $(VENV) .venv-lowest .venv-newest build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
