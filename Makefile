# The project's commands. `make help` lists them.
#
#   PYTHON     the Python that makes .venv (3.11 or newer)
#   PIP_ARGS   further arguments for pip. From PyPI alone, torch on Linux comes with several GB of CUDA; for a machine
#              without a GPU:  make run PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'
#   PROFILE    smoke, cpu, gpu or cluster
#   ARGS       further arguments for the command itself: hyperlex book, pytest or jupyter lab

PYTHON   ?= python3
PIP_ARGS ?=
PROFILE  ?= smoke
ARGS     ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP   := $(BIN)/python -m pip --disable-pip-version-check
ENTER := PATH="$(CURDIR)/$(BIN):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help install run test lab check readme peers bench clean-notebooks

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-24s%s\n", $$1, $$2 }'
	@echo "Variables: PYTHON=$(PYTHON) PROFILE=$(PROFILE) ARGS='$(ARGS)' PIP_ARGS='$(PIP_ARGS)' (see the head of the Makefile)"

install: $(STAMP) ## make .venv and install the pinned set (the other commands do it when needed)

$(STAMP): settings.ini setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { found=$$($(PYTHON) --version 2>/dev/null); \
	  echo "hyperlex needs Python 3.11 or newer, and '$(PYTHON)' is $${found:-not there}. Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing the pinned packages into $(VENV): some minutes, once."
	@$(PIP) install -qq -c constraints.txt $(PIP_ARGS) -e '.[dev]'
	@$(PIP) install -qq -c constraints.txt $(PIP_ARGS) --no-deps natasha  # its model files only: the packages it asks for overwrite a module of pymorphy3
	@touch $@

run: $(STAMP) ## run the whole book at PROFILE (smoke) and print the verdicts
	@$(ENTER) $(BIN)/hyperlex book --profile $(PROFILE) $(ARGS)

test: $(STAMP) ## run everything: tests, every chapter, the state of notebooks and README
	@$(ENTER) $(BIN)/python -m pytest $(ARGS)

lab: $(STAMP) ## open JupyterLab on nbs/
	@$(ENTER) $(BIN)/jupyter lab --ServerApp.root_dir=nbs $(ARGS)

check: $(STAMP) ## only the state of notebooks and README, in seconds
	@$(BIN)/python tools/notebooks.py check; state=$$?; $(BIN)/python tools/notebooks.py readme --check && exit $$state

readme: $(STAMP) ## run nbs/index.ipynb and write README.md from it
	@$(ENTER) $(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level=ERROR nbs/index.ipynb
	@$(ENTER) $(BIN)/nbdev_clean --fname nbs/index.ipynb
	@$(BIN)/python tools/notebooks.py readme

peers: $(STAMP) ## fetch the public tokenizers to compare with, into .peers/
	@$(PIP) install -qq -c constraints.txt $(PIP_ARGS) -e '.[peers]'
	@PYTHON="$(CURDIR)/$(BIN)/python" sh tools/peers.sh

bench: $(STAMP) ## run the benchmarks
	@$(ENTER) $(BIN)/python -m pytest tests/bench --benchmark-only $(ARGS)

clean-notebooks: $(STAMP) ## strip execution counts and foreign metadata from the notebooks
	@$(ENTER) $(BIN)/nbdev_clean
