# `make` alone prints the targets below.
PYTHON ?= python3
BIN := .venv/bin
# Config of the demo: solo_shapes, decoupled_solo_shapes, ...
CONFIG ?= solov2_shapes
# Training steps of the demo; empty: those of the config.
STEPS ?=
# A different number of steps is a different run.
RUN := $(CONFIG)$(STEPS:%=_%)
# Test files or folders; empty: all of them.
FILE ?=
# What users and new methods call; its types are checked.
TYPED := solo_jax/api.py solo_jax/building.py solo_jax/cli.py \
  solo_jax/errors.py solo_jax/methods/interface.py solo_jax/methods/table.py \
  solo_jax/target_masks.py solo_jax/types.py
# Large pages for the buffers of each step: a quarter less CPU time (glibc).
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1
# Bytecode is kept whatever the shell says: to compile the tests anew takes
# each worker five seconds.
export PYTHONDONTWRITEBYTECODE :=
# Files in the order of tests/conftest.py: those that take longest come first.
PYTEST := -m pytest -q --numprocesses=auto --maxprocesses=4 --dist=loadfile \
  --no-loadscope-reorder --durations=10 --durations-min=1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-latest test-oldest lint format \
  docs bench clean

help: ## Print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) \
	  | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

install: .venv/installed ## Create .venv with the pinned packages

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable . \
	  --config-settings editable_mode=compat
	touch $@

# Without dependencies: Gradio asks for an older Pillow than the tests use,
# jax2onnx for an older Orbax, and neither needs it.
.venv/extras: requirements-extras.lock .venv/installed
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-extras.lock
	touch $@

demo: install ## Draw data, train, evaluate, predict; STEPS=1500 is quicker
	$(BIN)/python -m solo_jax.prepare --dataset=shapes --data_dir=data
	$(BIN)/python -m solo_jax.train --config=configs/$(CONFIG).py$(STEPS:%=:steps=%) \
	  --workdir=workdirs/$(RUN)
	$(BIN)/python -m solo_jax.predict --checkpoint=workdirs/$(RUN) \
	  --out=workdirs/$(RUN)/found data/shapes/examples
	@echo "Look at workdirs/$(RUN)/found/overlays. Next, what is good and wrong:"
	@echo ". .venv/bin/activate"
	@echo "python -m solo_jax.eval --checkpoint=workdirs/$(RUN) --report=reports"

test: .venv/extras ## Run the tests; FILE=tests/nn runs some of them
	$(BIN)/python $(PYTEST) $(FILE)

test-slow: .venv/extras ## Run the slow tests: faults, processes, notebooks
	$(BIN)/python $(PYTEST) -m slow $(FILE)

test-latest: .venv-latest/installed ## Run the tests with the newest releases
	.venv-latest/bin/python $(PYTEST) -W error::DeprecationWarning:jax \
	  -W error::DeprecationWarning:flax $(FILE)

.venv-latest/installed: pyproject.toml
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install --quiet --upgrade --editable '.[test]' \
	  --config-settings editable_mode=compat
	.venv-latest/bin/python -m pip freeze --exclude-editable
	touch $@

test-oldest: .venv-oldest/installed ## Run the tests with the oldest releases
	.venv-oldest/bin/python $(PYTEST) $(FILE)

.venv-oldest/installed: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python tests/oldest_requirements.py > .venv-oldest/oldest.txt
	.venv-oldest/bin/python -m pip install --quiet --editable '.[test]' \
	  --constraint .venv-oldest/oldest.txt --config-settings editable_mode=compat
	touch $@

lint: install ## Check style, and the types of the public interfaces
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check --python .venv $(TYPED)

format: install ## Fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## Measure network, decoding and data pipeline
	$(BIN)/python benchmarks/solov2.py --size=512x512
	$(BIN)/python benchmarks/solov2.py --size=800x1344
	@if [ -d data/coco_instances/2017 ]; \
	  then $(BIN)/python benchmarks/data_pipeline.py; \
	  else echo "data pipeline: prepare coco_instances first"; fi

docs: .venv-docs/installed ## Build the documentation in build/site
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

.venv-docs/installed: requirements-docs.lock
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --requirement requirements-docs.lock
	touch $@

clean: ## Remove the virtual environments
	rm -rf .venv .venv-docs .venv-latest .venv-oldest
