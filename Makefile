# AWS Databases by Experiment. `make` lists what there is.
PYTHON ?= python3
BIN := .venv/bin

# The notebooks run in this environment and in no other; text is UTF-8 whatever the locale.
export PATH := $(CURDIR)/$(BIN):$(PATH):/usr/sbin
export VIRTUAL_ENV := $(CURDIR)/.venv
export JUPYTER_PREFER_ENV_PATH := 1
export PYTHONUTF8 := 1

.PHONY: help book test lab serve cloud exercises bench binder lock clean

help:  ## list these commands
	@sed -n 's/^\([a-z]*\):.*##/  make \1\t/p' Makefile | expand -t 15

book: .venv/book  ## set up, execute the notebooks, build the site into _build/html
	@$(BIN)/python -m tools.build

test: .venv/tests book  ## set up, build the book, run every check
	@$(BIN)/ruff check .
	@$(BIN)/python -m pytest -n 2 --dist loadfile  # most of them wait for servers, so two files at a time

lab: .venv/book  ## open JupyterLab on the notebooks
	@$(BIN)/jupyter lab --ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root) --LabApp.default_url=/lab/tree/notebooks

serve: book  ## serve the site on this machine
	@$(BIN)/python -u -m http.server 0 --bind 127.0.0.1 --directory _build/html

cloud: .venv/book  ## run the local cloud for other programs
	@$(BIN)/python -m minicloud

exercises: .venv/book  ## write the exercises from their solutions
	@$(BIN)/python -m tools.exercises

bench: .venv/tests  ## measure what the README promises
	@$(BIN)/python tests/bench.py

binder: .venv/tests  ## replay Binder's build in a chroot (root, Debian only)
	@$(BIN)/python -m tools.replay_binder

lock: .venv/tests  ## compile pyproject.toml into the requirements files
	@sh tools/lock.sh

clean:  ## remove the built book and its cached outputs
	rm -rf _build

BOOK_NEEDS := tools/install.py requirements.txt pyproject.toml binder/apt.txt tools/dynoxide/package-lock.json

.venv/book: $(BOOK_NEEDS)
	@$(PYTHON) tools/install.py book

.venv/tests: $(BOOK_NEEDS) $(wildcard tests/*.txt)
	@$(PYTHON) tools/install.py tests
