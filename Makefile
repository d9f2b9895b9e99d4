# make demo: install, draw a dataset, train SOLOv2 on it, evaluate, draw pictures
# make demo CONFIG=solo_shapes: the same with another method
# make test: install and run the tests
PYTHON ?= python3
BIN := .venv/bin
# Of configs/: solo_shapes, decoupled_solo_shapes, associative_embedding_shapes.
CONFIG ?= solov2_shapes
# Which slow tests: files, or nothing for all.
SLOW ?=
# Large pages for the buffers of each step: a quarter less CPU time (glibc).
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1

.PHONY: install test test-slow demo docs lint format bench clean

install: .venv/installed

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable . \
	  --config-settings editable_mode=compat
	touch $@

# Installed as they stand: Gradio asks for an older Pillow than the tests use,
# jax2onnx for an older Orbax, and neither needs it.
.venv/extras: requirements-extras.lock .venv/installed
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-extras.lock
	touch $@

test: .venv/extras
	$(BIN)/python -m pytest -q --numprocesses=auto --maxprocesses=4 --dist=loadfile

test-slow: .venv/extras
	$(BIN)/python -m pytest -q -m slow $(SLOW)

demo: install
	$(BIN)/python -m solo_jax.prepare --dataset=shapes --data_dir=data
	$(BIN)/python -m solo_jax.train --config=configs/$(CONFIG).py \
	  --workdir=workdirs/$(CONFIG)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python benchmarks/solov2.py --size=512x512
	$(BIN)/python benchmarks/solov2.py --size=800x1344
	@if [ -d data/coco_instances/2017 ]; \
	  then $(BIN)/python benchmarks/data_pipeline.py; \
	  else echo "data pipeline: prepare coco_instances first"; fi

docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

.venv-docs/installed: requirements-docs.lock
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --requirement requirements-docs.lock
	touch $@

clean:
	rm -rf .venv .venv-docs
