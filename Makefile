# Everything runs in .venv, which is made from the lock files by plain pip and remade when they change.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --no-deps --no-build-isolation
NATIVE := $(wildcard native/*.* native/*/*.*)

MODEL  ?= fashion
PYTEST_OPTIONS ?=

# On Linux PyPI's torch brings CUDA's libraries, some gigabytes; the CPU build is smaller:
#   make test TORCH='torch --index-url https://download.pytorch.org/whl/cpu'
TORCH  ?= torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help demo test check format docs workflow seeds rtl-resnet20 place sanitize neon clang lock clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /make \1|/' | column -t -s '|'

demo: $(VENV)/installed ## Set up and show the whole path; MODEL=resnet50 for the real network
	@$(BIN)/gatecast demo --model $(MODEL)

test: $(VENV)/installed-test ## Run every test
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

check: $(VENV)/installed-test ## Format, lint, types, import contracts, fast tests: before a commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not slow" $(PYTEST_OPTIONS)

format: $(VENV)/installed-test ## Lay the code out, and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed-test ## Make docs/reference/cli.md anew from the commands
	$(BIN)/python -m gatecast.cli.reference docs/reference/cli.md

workflow: $(VENV)/installed ## Show register, convert, image, deploy, predict, clean up, on this machine
	@$(BIN)/python examples/walk.py docs/guides/workflow.md

seeds: $(VENV)/installed-test ## Run the document that the service came from; needs GATECAST_DOCUMENTS, GATECAST_TEST_DATA
	$(BIN)/python -m pytest -q tests/end_to_end/test_document.py --forbid-skips

rtl-resnet20: $(VENV)/installed-test ## ResNet-20 on the simulated NPU, against the reference device; needs Verilator
	$(BIN)/python benchmarks/rtl_resnet20.py

place: $(VENV)/installed-test ## Place and route the NPU for an ECP5-85F; a quarter of an hour
	$(BIN)/python benchmarks/place.py

# Leak checks off: Python itself keeps memory. The ordinary extension is put back, whatever the tests say.
sanitize: $(VENV)/installed-test ## Test the C++ extension with AddressSanitizer and UBSan; needs g++
	$(INSTALL) -Cbuild-dir=build/sanitize -Ccmake.build-type=RelWithDebInfo \
	  -Ccmake.define.CMAKE_CXX_FLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined" -e .
	status=0; LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc $(BIN)/python -m pytest -q -m "not slow" \
	  tests/devices tests/numerics tests/runtime/test_movement.py tests/runtime/test_resizing.py \
	  tests/conformance/test_software.py $(PYTEST_OPTIONS) || status=$$?; \
	$(INSTALL) -e . && exit $$status

# The engine replays Programs of the conformance suite; all bytes must be the reference device's.
replay = cmake -S native/tests -B build/$@ $(1) >/dev/null && cmake --build build/$@ && \
  $(BIN)/python native/tests/write_cases.py build/$@/cases

neon: $(VENV)/installed-test ## Test the NEON kernels under qemu; needs cmake, g++-aarch64-linux-gnu, qemu-user-static
	$(call replay,-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_EXE_LINKER_FLAGS=-static \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++)
	qemu-aarch64-static -cpu max build/$@/replay build/$@/cases/*.case
	qemu-aarch64-static -cpu cortex-a53 build/$@/replay build/$@/cases/*.case  # has no SDOT

clang: $(VENV)/installed-test ## Test the engine as clang compiles it; needs cmake and clang
	$(call replay,-DCMAKE_CXX_COMPILER=clang++)
	build/$@/replay build/$@/cases/*.case

lock: ## Resolve pyproject.toml anew into the lock files; needs uv
	$(LOCK) pyproject.toml build-requirements.in --output-file requirements.lock
	$(LOCK) --extra test --extra check --extra hardware pyproject.toml build-requirements.in --output-file requirements-test.lock

LOCK := uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11

clean: ## Remove .venv and everything else that is made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.lock pyproject.toml $(NATIVE) | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements.lock
	$(INSTALL) -e .
	@touch $@

# Tests need one torch that works, not a certain one: where this version is not to be had, a later one will do.
$(VENV)/installed-test: requirements-test.lock $(VENV)/installed
	$(PIP) install --quiet --require-hashes -r requirements-test.lock
	$(PIP) install --quiet $(TORCH) || $(PIP) install --quiet 'torch>=2.9'
	@touch $@
