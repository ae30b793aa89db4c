# What a developer does with SPEAR; `make` alone lists it. Variables: PYTHON, VENV, ARGS (of pytest).
#
# Rule: a target needs nothing prepared. The environment and the native modules are made when they
# are missing or older than their sources; the marks of that (.ready, .native) lie in the venv.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
SHELL := /bin/sh
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
WORKERS := $(shell nproc)
PROTOS := $(shell find spear/protocol/proto -name '*.proto')
NATIVE_SOURCES := setup.py $(PROTOS) $(wildcard spear/_core/*.pyx spear/_core/*.pxd spear/_core/*.c spear/_core/*.h)

ifneq ($(filter 1.% 2.% 3.%,$(MAKE_VERSION)),)
$(error GNU make 4.0 or later is needed, this is $(MAKE_VERSION): install make)
endif
# A Python named by hand must be the one of the environment that is there.
ifneq ($(origin PYTHON),file)
ifneq ($(wildcard $(BIN)/python),)
ifneq ($(shell $(PYTHON) -V 2>&1),$(shell $(BIN)/python -V 2>&1))
$(error $(VENV) is of $(shell $(BIN)/python -V), PYTHON is $(shell $(PYTHON) -V 2>&1): add VENV=.venv-other, or delete $(VENV))
endif
endif
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test check proto bench bench-peers debug asan soak guests wheel clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

demo: $(VENV)/.native ## SPEAR at work: answers, limits, replay, ten thousand agents, a model with a tool
	@$(BIN)/python scripts/demo.py

test: $(VENV)/.native ## all tests but the long ones; ARGS="-k framing" for some
	@$(PYTEST) -n $(WORKERS) $(ARGS)

check: $(VENV)/.native ## lint, formatting, types, layers, generated files, paths of one machine
	@scripts/check.sh $(VENV)

proto: $(VENV)/.ready ## the protobuf modules, spear/protocol/pb, from their .proto files
	@SPEAR_BUILD=none $(BIN)/python setup.py --quiet proto

bench: $(VENV)/.native ## all benchmarks, then the table docs/performance.md (about 15 minutes)
	@scripts/bench.sh $(VENV)

bench-peers: $(VENV)/.peers bench ## the same, beside peers that are installed first

debug: $(VENV)/.native ## all tests on a build with bounds checks and assertions (build/debug)
	@scripts/variant.sh debug $(VENV) python -m pytest -n $(WORKERS) $(ARGS)

asan: $(VENV)/.native ## tests of the native modules under AddressSanitizer and UBSan (build/asan)
	@scripts/asan.sh $(VENV) $(ARGS)

soak: $(VENV)/.native ## long forms: fuzzers with many seeds, tests marked soak
	@scripts/soak.sh $(VENV) $(ARGS)

guests: $(VENV)/.guests ## the example and test guests anew from their sources
	@$(BIN)/python scripts/build_guests.py

wheel: $(VENV)/.ready ## dist/spear-*.whl for this Python, tried in a clean environment
	@scripts/wheel.sh $(BIN)/python

clean: ## everything that was built, the environments included
	rm -rf build dist *.egg-info .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	rm -rf spear/_core/*.so spear/_core/compilechild spear/protocol/pb
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ready: pyproject.toml setup.py scripts/environment.sh
	@scripts/environment.sh $(PYTHON) $(VENV)
	@touch $@

$(VENV)/.native: $(VENV)/.ready $(NATIVE_SOURCES) scripts/native.sh
	@scripts/native.sh $(VENV)
	@touch $@

$(VENV)/.peers $(VENV)/.guests: $(VENV)/.%: $(VENV)/.ready
	@scripts/environment.sh $(PYTHON) $(VENV) $*
	@[ $* != peers ] || scripts/peers.sh
	@touch $@
