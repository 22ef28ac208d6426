# Set-up, checks and demos. Every target does the set-up first; done once, it is skipped. `make help` lists them.
#
#   PYTHON           the Python that makes the environment         make setup PYTHON=python3.11
#   VENV             folder of the environment                     make test VENV=.venv-main
#   DETECTRON2_FROM  another detectron2 than the registry's 0.5     make test VENV=.venv-main DETECTRON2_FROM=../detectron2
#   PYTEST_ARGS      more arguments for pytest                     make test PYTEST_ARGS="-k assigners"
#   FORCE_CUDA=1     build the CUDA kernels without a GPU           make build FORCE_CUDA=1
#   JOBS             trainings at once, one thread each              make compare-co JOBS=2

PYTHON ?= python3
VENV ?= .venv
DETECTRON2_FROM ?=
PYTEST_ARGS ?=
JOBS ?= 1

BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
# One stamp per source: naming another one installs that one.
D2_STAMP := $(STAMPS)/detectron2-$(if $(DETECTRON2_FROM),$(shell printf '%s' '$(DETECTRON2_FROM)' | cksum | cut -d' ' -f1),registry)
CSRC := $(shell find csrc -type f \( -name '*.cpp' -o -name '*.cu' -o -name '*.h' -o -name '*.cuh' \) 2>/dev/null)
FORMATTED := $(CSRC) $(wildcard tools/*.cu tests/ops/emulator/*)
PACKAGE := projects/ms_detr
TYPED := $(wildcard $(addprefix $(PACKAGE)/,structures supervision assigners ops data))
CODESPELL := $(wildcard README.md CONTRIBUTING.md Makefile .ci configs csrc docs projects tests tools *.py *.toml)

# pip keeps to the pinned versions everywhere, also where it builds a package from source.
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# $(call step,what it does,command): one line with the seconds it took; the command's output only if it fails.
define step
	@printf '==> %-66s' '$(1)'; begin=$$(date +%s); log=$(STAMPS)/log.txt; \
	if ( $(2) ) > $$log 2>&1; then echo "$$(( $$(date +%s) - begin )) s"; \
	else echo 'FAILED'; tail -n 60 $$log; echo "make: '$(1)' failed; the whole output is in $$log" >&2; exit 1; fi
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup build lint format type test test-slow test-gpu cuda-check demo demo-masks demo-compare compare-co doctor clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' \
	| while IFS="$$(printf '\t')" read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done

setup: $(STAMPS)/project $(STAMPS)/dev ## make the environment, install everything, build the extension

# An environment that answers is kept, whoever made it; one that was cut off while it was made is made anew.
$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	echo "make setup needs Python 3.11 or newer; $(PYTHON) is" \
	"$$($(PYTHON) --version 2> /dev/null || echo not there)." \
	"Name another one: make setup PYTHON=python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip freeze > /dev/null 2>&1 || $(PYTHON) -c 'import venv, ensurepip' 2> /dev/null || { \
	echo "$(PYTHON) has no venv module. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@mkdir -p $(STAMPS)
	@$(BIN)/python -m pip freeze > /dev/null 2>&1 || { \
	echo '==> making the environment $(VENV)'; $(PYTHON) -m venv --clear $(VENV) && mkdir -p $(STAMPS); }
	@touch $@

# What an interrupted pip left behind has no RECORD yet, and pip would take it for installed.
$(STAMPS)/torch: constraints.txt | $(STAMPS)/venv
	@for info in $(VENV)/lib/python3*/site-packages/*.dist-info; do \
	if [ -d "$$info" ] && [ ! -f "$$info/RECORD" ]; then rm -rf "$$info"; fi; done
	$(call step,installing torch and the build tools (the first time: some GB),\
	$(BIN)/python -m pip install torch torchvision setuptools wheel ninja)
	@touch $@

$(D2_STAMP): $(STAMPS)/torch tools/install_detectron2.py
	$(call step,installing detectron2 $(or $(DETECTRON2_FROM),0.5 from the registry),\
	$(BIN)/python tools/install_detectron2.py $(if $(DETECTRON2_FROM),--force --from '$(DETECTRON2_FROM)'))
	@tail -n 1 $(STAMPS)/log.txt
	@rm -f $(STAMPS)/detectron2-* && touch $@

# Only the parts that are compiled or named in setup.py ask for a new installation: the package is installed editable.
$(STAMPS)/project: $(D2_STAMP) setup.py $(CSRC)
	@command -v "$${CXX:-c++}" > /dev/null || { \
	echo "No C++ compiler ($${CXX:-c++}). On Debian or Ubuntu: apt-get install g++" >&2; exit 1; }
	@$(BIN)/python -c 'import pathlib, sys, sysconfig as s; sys.exit(not pathlib.Path(s.get_paths()["include"], "Python.h").exists())' || { \
	echo "Python.h is missing. On Debian or Ubuntu: apt-get install python3-dev" >&2; exit 1; }
	$(call step,installing ms_detr and building its extension,\
	$(BIN)/python -m pip install --no-build-isolation -e .)
	@touch $@

$(STAMPS)/dev: requirements-dev.txt $(STAMPS)/torch
	$(call step,installing the tools for tests and checks,\
	$(BIN)/python -m pip install -r requirements-dev.txt && $(BIN)/python -m pip install --no-deps lvis)
	@touch $@

build: ## build the extension again
	@rm -f $(STAMPS)/project
	@$(MAKE) --no-print-directory $(STAMPS)/project

lint: setup ## check format, style and spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(if $(FORMATTED),$(BIN)/clang-format --dry-run --Werror $(FORMATTED))
	$(BIN)/codespell $(CODESPELL)

format: setup ## rewrite the files as lint wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(if $(FORMATTED),$(BIN)/clang-format -i $(FORMATTED))

type: setup ## check the types of the core
	$(if $(TYPED),$(BIN)/mypy $(TYPED),@echo 'nothing to check')

test: setup ## run the fast tests
	$(BIN)/python -m pytest -m "not slow and not gpu" $(PYTEST_ARGS)

test-slow: setup ## run the slow tests too
	$(BIN)/python -m pytest -m "not gpu" $(PYTEST_ARGS)

test-gpu: setup ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(PYTEST_ARGS)

cuda-check: setup ## compile the CUDA kernels, without a GPU too
	$(BIN)/python tools/cuda_check.py

demo: setup ## train, evaluate and draw on generated scenes; see output/demo
	$(BIN)/python tools/demo.py --output output/demo

demo-masks: setup ## the demo with masks; see output/demo_masks
	$(BIN)/python tools/demo.py --masks --output output/demo_masks

demo-compare: setup ## the demo with and without one-to-many supervision, three seeds
	$(BIN)/python tools/demo.py --compare --output output/demo_compare

compare-co: setup ## the demo with and without auxiliary heads (Co-DETR), alone and with mixed supervision, three seeds
	$(BIN)/python tools/demo.py --compare-co --jobs $(JOBS) --output output/demo_compare_co

doctor: setup ## say what is installed, what is missing and how to mend it
	$(BIN)/python -m ms_detr.doctor

clean: ## delete what was built, and caches; keeps output/ and the environment
	rm -rf build dist projects/*.egg-info .pytest_cache .ruff_cache .mypy_cache
	rm -f $(PACKAGE)/_C*.so $(STAMPS)/project
	find configs csrc projects tests tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
