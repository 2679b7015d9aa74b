# Everything that a person or CI does here. Each target makes what it needs first; set-up talks on standard error only.
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup setup-torch demo test check fmt gen native e2e e2e-pool escape test-remote test-remote-programs test-remote-minors test-remote-full test-gpu fuzz-remote bench-shim bench-watcher bench-remote bench-extender bench-packing bench-parity bench-policy lock

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
TORCH_STAMP := $(VENV)/.torch-set-up
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
PROTOC := $(BIN)/python -m grpc_tools.protoc -I proto
PROTOS = $(shell find proto -name '*.proto')
# The end-to-end suite's clusters live in a network namespace of their own.
# What is built once (the stub NVML library) stays in the clone; Kubernetes' programs stay in the user's cache.
RUN := TESSERA_E2E_CACHE="$${TESSERA_E2E_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/tessera-e2e}" \
  XDG_CACHE_HOME="$(CURDIR)/$(VENV)/cache"
ARGS ?=

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with the locked dependencies, tessera and kubectl-tessera

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "PYTHON: found $$($(PYTHON) --version 2>&1); allowed: Python 3.11 or newer" >&2; exit 1; }
	@echo "setting up $(VENV) (once; a minute or two)" >&2
	@$(PYTHON) -m venv $(VENV) >&2
	@$(PIP) --require-hashes -r requirements.lock >&2
	@$(PIP) --no-deps --no-build-isolation -e . >&2
	@touch $(STAMP)

setup-torch: $(TORCH_STAMP)  ## setup, and the torch that the tests of remote/ run with (0.6 GB)

$(TORCH_STAMP): $(STAMP) tests/remote/torch.txt
	@$(BIN)/python -m tests.remote.setup_torch
	@touch $(TORCH_STAMP)

demo: $(STAMP)  ## run the embedded cluster; ARGS="--once -o json" passes options on
	@$(RUN) $(BIN)/tessera demo $(ARGS)

test: $(STAMP)  ## run the tests; ARGS passes options on to pytest
	@$(RUN) $(BIN)/python -m pytest -n 2 $(ARGS)

fuzz-remote: setup-torch  ## a million malformed frames for the remote device's decoder, and some for a real server
	@$(BIN)/python -m tests.remote.fuzz $(ARGS)

e2e: $(STAMP)  ## run the end-to-end suite on real Kubernetes programs (built once; needs root)
	@$(BIN)/python tests/e2e/programs.py >&2
	@unshare --net -- sh -c 'ip link set lo up && exec "$$@"' e2e \
	  $(BIN)/python -m pytest -m "e2e and not torch" tests/e2e $(ARGS)
	@$(BIN)/python -m pytest -m e2e tests/contract

e2e-pool: setup-torch  ## run the end-to-end suite of the remote pool, as e2e
	@$(BIN)/python tests/e2e/programs.py >&2
	@unshare --net -- sh -c 'ip link set lo up && exec "$$@"' e2e-pool \
	  $(BIN)/python -m pytest -m "e2e and torch" tests/e2e $(ARGS)

test-remote: setup-torch  ## run the tests of the remote device (with the torch of setup-torch)
	@$(RUN) $(BIN)/python -m pytest -n 2 --dist loadfile -o timeout=600 -m torch tests/remote $(ARGS)

test-remote-programs: setup-torch  ## programs of torchvision, transformers, timm, Lightning on the remote device
	@$(BIN)/python -m tests.remote.environments programs
	@$(RUN) $(BIN)/python -m pytest -o timeout=600 -m programs tests/remote/programs $(ARGS)

test-remote-minors: setup-torch  ## the remote device's core on torch 2.10 and newer (0.5 GB each); ARGS="2.10" names some
	@$(BIN)/python -m tests.remote.minors $(ARGS)

test-remote-full: setup-torch  ## every operator of PyTorch's database on the remote device; ARGS names some
	@$(RUN) $(BIN)/python -m tests.remote.opinfo.full $(ARGS)

test-gpu: native  ## what holds on this machine's GPU; adds to docs/gpu-report (ARGS="--scale 0.5")
	@failed=0; for script in alone together remote; do \
	  $(BIN)/python -m tests.gpu.main $$script $(ARGS) || failed=1; done; \
	  exit $$failed

native: $(STAMP)  ## build the shim that containers preload and the hook of level 3, for x86_64 and aarch64, into build/native
	@$(BIN)/python native/build.py build/native

escape: $(STAMP)  ## try to get more than a slice, on real Kubernetes programs; a line a row
	@$(BIN)/python tests/e2e/programs.py >&2
	@$(BIN)/python -m tests.escape.debian >&2
	@$(RUN) unshare --net -- sh -c 'ip link set lo up && exec "$$@"' escape \
	  $(BIN)/python -m tests.escape $(ARGS)

bench-shim: $(STAMP)  ## what the shim costs a call, against the fake driver alone
	@$(RUN) $(BIN)/python -m benchmarks.shim $(ARGS)

bench-watcher: $(STAMP)  ## how long a process lives that takes more memory than its slice
	@$(RUN) $(BIN)/python -m benchmarks.watcher $(ARGS)

bench-remote: setup-torch  ## what the remote device's client costs an operator, and a longer wire a step
	@$(RUN) $(BIN)/python -m benchmarks.remote $(ARGS)

bench-extender: $(STAMP)  ## measure the extender (real Kubernetes programs where there are some; ARGS=--quick)
	@unshare --net -- sh -c 'ip link set lo up && exec "$$@"' bench \
	  $(BIN)/python -m benchmarks.extender $(ARGS)

bench-packing: $(STAMP)  ## how much each policy allocates; TRACES=DIR names the traces (ARGS=--quick)
	@$(BIN)/python -m benchmarks.packing $(if $(TRACES),--traces "$(TRACES)") $(ARGS)

bench-parity: $(STAMP)  ## the same decisions through a real kube-scheduler; TRACES=DIR names the openb traces
	@unshare --net -- sh -c 'ip link set lo up && exec "$$@"' bench \
	  $(BIN)/python -m benchmarks.parity $(if $(TRACES),--traces "$(TRACES)") $(ARGS)

bench-policy: $(STAMP)  ## how long a policy itself takes for a decision; TRACES=DIR names the traces
	@$(BIN)/python -m benchmarks.policy_time $(if $(TRACES),--traces "$(TRACES)") $(ARGS)

check: $(STAMP)  ## lint, formatting, types, layers, generated code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && \
	  $(PROTOC) --python_out="$$made" --pyi_out="$$made" --grpc_python_out="$$made" $(PROTOS) && \
	  for file in $$(cd "$$made" && find . -name '*.py*'); do \
	    cmp -s "$$made/$$file" "src/$$file" || { echo "src/$$file: not what proto/ gives; run make gen" >&2; exit 1; }; \
	  done && echo "generated code is up to date"

fmt: $(STAMP)  ## format and fix what can be fixed
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

gen: $(STAMP)  ## generate src/tessera/pb from proto/
	@$(PROTOC) --python_out=src --pyi_out=src --grpc_python_out=src $(PROTOS)

lock: $(STAMP)  ## resolve requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --extra dev pyproject.toml -o requirements.lock
