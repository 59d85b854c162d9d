# Everything runs in .venv, which the first command makes; `make` alone lists the commands.
# ARGS="..." is passed on: make tune ARGS="--trials 20 --phase1.rounds 30"
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNS ?= runs
ARGS ?=

.PHONY: help install tune train compare prepare tensorboard test test-plain test-ray test-quick test-slow test-slow-clusters test-slow-others lint docs bench bench-quick bench-gpu

help:
	@echo 'make tune         search the distillation settings (python -m mm_ray.tune)'
	@echo 'make train        one experiment (python -m mm_ray.train)'
	@echo 'make compare      methods on equal terms (python -m mm_ray.compare)'
	@echo 'make prepare      recordings into a feature store (python -m mm_ray.prepare), with ARGS="folder ROOT --out STORE"'
	@echo 'make tensorboard  show the folder $(RUNS)/ in a browser'
	@echo 'make test         the tests; make test-quick: those of a minute; make test-slow: kills, full disks, a cluster'
	@echo 'make lint         ruff and mypy'
	@echo 'make docs         the reference of the Python API as static pages in build/docs/'
	@echo 'make bench        all speed measurements, beside pfl-research and Flower (about an hour on a quiet machine)'
	@echo 'make bench-quick  under two minutes: has something become slower than the stored ratios?'
	@echo 'make bench-gpu    the GPU figures; without a GPU the same code on the CPU'
	@echo 'Each takes ARGS="..." and, where the default python3 is too old, PYTHON=python3.12'

tune train compare prepare: $(INSTALLED)
	$(BIN)/python -m mm_ray.$@ $(ARGS)

tensorboard: $(INSTALLED)
	$(BIN)/tensorboard --logdir $(RUNS) $(ARGS)

# Each test has one thread. Those on Ray run one after the other, beside the others, since they mostly wait.
test: $(INSTALLED)
	@$(MAKE) --no-print-directory --jobs 2 test-plain test-ray

SPREAD := -n 2 --dist loadfile
test-plain: $(INSTALLED)
	$(BIN)/python -m pytest $(SPREAD) -m 'not ray and not slow' $(ARGS)

test-ray: $(INSTALLED)
	$(BIN)/python -m pytest -m 'ray and not slow' $(ARGS)

test-quick: $(INSTALLED)
	$(BIN)/python -m pytest $(SPREAD) -m 'not ray and not slow and not thorough' $(ARGS)

# Two at once, since they mostly wait; clusters one after the other.
CLUSTERS := tests/cluster tests/entry/test_study_kills.py
test-slow: $(INSTALLED)
	@$(MAKE) --no-print-directory --jobs 2 test-slow-clusters test-slow-others

test-slow-clusters: $(INSTALLED)
	$(BIN)/python -m pytest -m slow $(CLUSTERS) $(ARGS)

test-slow-others: $(INSTALLED)
	$(BIN)/python -m pytest -m slow $(CLUSTERS:%=--ignore=%) $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(ARGS)

# The names of `mm_ray` are imported when they are first used; pdoc lists those that are there.
PDOC := import mm_ray; [getattr(mm_ray, name) for name in mm_ray.__all__]; from pdoc.__main__ import cli; cli()
docs: $(INSTALLED)
	$(BIN)/python -W ignore::UserWarning:pdoc.doc_types -c '$(PDOC)' --output-directory build/docs mm_ray mm_ray.api mm_ray.results mm_ray.classifier mm_ray.config mm_ray.testing $(ARGS)
	@echo 'build/docs/mm_ray.html'

bench: $(INSTALLED) .venv-bench/.installed .venv-bench-blazefl/.installed
	$(BIN)/python -m benchmarks.rounds $(ARGS)
	$(BIN)/python -m benchmarks.two_phases
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.together
	$(BIN)/python -m benchmarks.chart

bench-quick: $(INSTALLED)
	$(BIN)/python -m benchmarks.quick $(ARGS)

bench-gpu: $(INSTALLED)
	$(BIN)/python -m benchmarks.gpu $(ARGS)

# The systems to compare with pin other versions than ours, so they get an environment of their own.
.venv-bench/.installed: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --requirement $<
	@touch $@

# BlazeFL needs Python 3.12 or newer; without one it is left out.
PYTHON312 ?= python3.12
.venv-bench-blazefl/.installed: benchmarks/peers/requirements-blazefl.txt
	@if $(PYTHON312) -c '' 2>/dev/null; then $(PYTHON312) -m venv .venv-bench-blazefl && \
	.venv-bench-blazefl/bin/python -m pip install --quiet --requirement $<; \
	else echo 'no $(PYTHON312): BlazeFL is left out (PYTHON312=PATH names one)'; mkdir -p .venv-bench-blazefl; fi
	@touch $@

install: $(INSTALLED)

IS_NEW_ENOUGH = $(shell $(PYTHON) -c 'import sys; print("yes" * (sys.version_info >= (3, 11)))' 2>/dev/null)
TOO_OLD = mm_ray needs Python 3.11 or newer, and $(PYTHON) is older or missing: install one and name it, such as \
make $(MAKECMDGOALS) PYTHON=python3.12

# The stamp goes before pip starts: an install that was cut off leaves none, and the next call builds .venv anew.
$(INSTALLED): pyproject.toml
	$(if $(IS_NEW_ENOUGH),,$(error $(TOO_OLD)))
	@test -f $@ || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	@echo 'Installing into $(VENV): a few minutes and about 7 GB the first time (torch with CUDA)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
