# The two commands of the README, each complete on a fresh machine. VENV=DIR puts the environment
# elsewhere, PYTHON=python3.12 makes it with another interpreter (3.11 or newer).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DIGITS := samples/digits

.PHONY: sample test test-models lint install clean

## compress the digits sample to 2% of its weights and compile it for this machine
sample: install
	$(BIN)/crespr-onnx compress $(DIGITS)/digits.onnx --ratio 0.98 --target cpu \
		--data $(DIGITS)/train.npz --eval-data $(DIGITS)/eval.npz \
		--epochs 100 --batch-size 32 -o compressed-digits --force

## everything that must hold before a change goes in
test: lint
	$(BIN)/python -m pytest -n 2 -q

## the architectures of the benchmarks, dense and compressed: run for ARM boards under emulation and
## compared with ONNX Runtime, compiled for three generations of CUDA devices
test-models: install
	$(BIN)/python -m pytest -n 2 -q -m "slow or not slow" \
		tests/targets/test_target_board_models.py tests/targets/test_target_cuda_models.py

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

install: $(VENV)/.installed

# The mark is as old as the last installation: a changed pyproject.toml installs again.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing crespr-onnx and what it needs (6 GB, some minutes) into $(VENV)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --editable '.[dev]'
	touch $@

clean:
	rm -rf compressed-digits build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
