# make demo | make test | make test-all | make setup [DEVICE=gpu] | make lint | make base-model | make lock
# make keep: the comparison of ways of keeping what a model knows (pipelines/demo/KEEPING.md)
# make bench-train [ARGS="--only whole --out bench.json"]
# make bench-eval [ARGS="--only engines report --rounds 1 --out bench.json"]
# make bench-corpus [ARGS="--only scale --rows 10000 100000 --out bench.json"]

PYTHON ?= python3.11
VENV := .venv
# What the environment was made for stays what it is for, until another device is asked for.
DEVICE ?= $(or $(patsubst $(VENV)/ready-%,%,$(wildcard $(VENV)/ready-*)),cpu)
BIN := $(VENV)/bin
LOCK := cluster/requirements/$(DEVICE).txt
READY := $(VENV)/ready-$(DEVICE)
PIP := $(BIN)/pip --disable-pip-version-check install --no-deps
# torch's CPU build is on no ordinary index: pip's own find-links are tried before this one.
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
LOCKED_FOR := --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	--no-emit-find-links --no-emit-index-url

.PHONY: demo keep test test-all setup lint base-model lock bench-train bench-corpus bench-eval
.DELETE_ON_ERROR:

demo: setup
	$(BIN)/nlirg demo

keep: setup
	$(BIN)/python -m pipelines.demo.keeping $(ARGS)

# All but what repeats: kills at many moments, sweeps of widths, the benchmarks at toy size.
test: setup lint
	$(BIN)/pytest -m "not soak"

test-all: setup lint
	$(BIN)/pytest

setup: $(READY)

$(READY): $(LOCK) pyproject.toml
	@echo "[setup] environment in $(VENV) from $(LOCK), a few minutes"
	$(PYTHON) -m venv --clear $(VENV)
	@torch=$$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' $(LOCK)); \
	$(PIP) --quiet $$torch || $(PIP) --quiet --index-url $(TORCH_CPU_INDEX) $$torch
	$(PIP) --progress-bar off --quiet --requirement $(LOCK)
	$(PIP) --quiet --no-build-isolation --editable .
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

base-model: setup
	$(BIN)/python -m pipelines.demo.base_model

bench-train: setup
	$(BIN)/python -m tests.bench $(ARGS)

bench-corpus: setup
	$(BIN)/python -m tests.bench.corpus $(ARGS)

bench-eval: setup
	$(BIN)/python -m tests.bench.eval $(ARGS)

# uv reads neither pip's configuration nor its find-links: name the latter with UV_FIND_LINKS.
lock: setup
	$(BIN)/uv pip compile pyproject.toml --upgrade --extra cpu --extra dev $(LOCKED_FOR) \
		--override cluster/requirements/overrides-cpu.txt -o cluster/requirements/cpu.txt
	$(BIN)/uv pip compile pyproject.toml --upgrade --extra gpu --extra dev $(LOCKED_FOR) \
		-o cluster/requirements/gpu.txt
