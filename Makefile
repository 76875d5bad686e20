# promptlab's commands. Each sets up what it needs in .venv and works from any earlier state.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt

.PHONY: help demo ui test test-slow lint format bench mutants docs gallery clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# A new pip resolves in seconds what the one that came with Python takes minutes for.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "promptlab needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

# The stamps say which extras stand in .venv; a changed requirement installs again.
$(VENV)/base.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/base.stamp

demo: $(VENV)/base.stamp  ## draw subject × style with the embedded model on this CPU, enlarge one image a cell
	$(BIN)/promptlab sweep +sweeps=subject_x_style upscale='{model: animevideov3, per_cell: 1}'

ui: $(VENV)/base.stamp  ## open MLflow's UI on this folder's runs
	$(BIN)/promptlab ui

# Some hundred processes run the same modules: they are compiled once, whatever the environment says.
# In the order of the folders: by default files with few tests come last, which are the longest.
test: $(VENV)/dev.stamp  ## run the tests (3 processes)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow and not gpu' -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-slow: $(VENV)/dev.stamp  ## run the tests that take minutes, and those that need a GPU
	$(BIN)/python -m pytest -m 'slow or gpu' $(PYTEST_ARGS)

mutants: $(VENV)/dev.stamp  ## change one MODULE=src/… in small ways, list what no test notices (SAMPLE=40)
	OMP_NUM_THREADS=1 $(BIN)/python .ci/mutants.py $(MODULE) --tests '$(TESTS)' --sample $(or $(SAMPLE),40)

lint: $(VENV)/dev.stamp  ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp  ## format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev.stamp  ## run the benchmarks on this machine (about 26 minutes)
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.logging
	$(BIN)/python -m benchmarks.report
	$(BIN)/python -m benchmarks.diffusers

docs: $(VENV)/dev.stamp  ## build the documentation site into build/site, every link checked
	$(BIN)/python docs/build.py
	$(BIN)/python -m zensical build --strict
	rm -rf build/site/gallery && cp -R reports build/site/gallery

gallery: $(VENV)/base.stamp  ## draw the published sheets of reports/ again, but for the demo; write their index
	$(BIN)/python reports/build.py draw

clean:  ## remove the environment and caches; never runs/ or mlflow.db
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
