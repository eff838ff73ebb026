# Everything that developing fused_lstm takes. `make help` lists the goals; nothing but python3 (with venv), g++ and make
# has to be there. What was installed is remembered by stamps inside the virtual environment, so that repeats are quick and
# need no network.

PYTHON ?= python3
VENV ?= .venv
DATA ?=
ARGS ?=
SANITIZER ?= asan

export FUSED_LSTM_WERROR ?= 1

python := $(VENV)/bin/python
pip := $(python) -m pip --disable-pip-version-check install --quiet --constraint .ci/constraints.txt
versions := .ci/constraints.txt pyproject.toml

# The set-up pins a torch without CUDA, which could not load the CUDA library; wheels hold it where nvcc is found.
build train test bench sanitize: export FUSED_LSTM_CUDA ?= 0

.DELETE_ON_ERROR:
.PHONY: help train test lint build bench wheel sanitize kernel-report gpu-check clean

help:
	@echo 'make train     train the sentiment classifier   DATA=path.tsv (your own texts)  ARGS="--epochs 3 ..."'
	@echo 'make test      run all tests                    ARGS="-k layer -x ..."'
	@echo 'make bench     compare with other LSTMs, 8 minutes   ARGS="--device cuda --suite full --shapes rl 70,7,333,333"'
	@echo 'make lint      ruff, clang-format, directions of includes'
	@echo 'make build     compile what changed             FUSED_LSTM_BUILD=release|debug|asan|ubsan|tsan'
	@echo 'make wheel     build dist/*.whl and show what it needs'
	@echo 'make sanitize  run the C++ tests instrumented   SANITIZER=asan|ubsan'
	@echo 'make kernel-report   what nvcc makes of the CUDA kernels, time predicted   ARGS="--output path"'
	@echo 'make gpu-check check and time the CUDA kernels  PYTHON=python3 (with a torch that has CUDA)  ARGS="--resume"'
	@echo 'make clean     remove everything that was built, but not $(VENV)'
	@echo 'All: PYTHON=python3.12 VENV=.venv312 MAX_JOBS=2 FUSED_LSTM_CCACHE=ccache'

# --- the virtual environment -------------------------------------------------------------------------------------------

$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo 'Python >= 3.10 is needed: make PYTHON=python3.x'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo 'The venv module of $(PYTHON) is needed (Debian, Ubuntu: apt install python3-venv)'; exit 1; }
	@touch $@

$(VENV)/.stamp-lint: $(VENV)/.stamp-venv $(versions)
	$(pip) ruff clang-format
	@touch $@

$(VENV)/.stamp-build: $(VENV)/.stamp-venv $(versions)
	$(pip) torch setuptools ninja
	@touch $@

# Extras come with an editable install, after a build whose errors can be read.
$(VENV)/.stamp-sentiment: $(VENV)/.stamp-build | build
	$(pip) --no-build-isolation --editable '.[sentiment]'
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-build | build
	$(pip) --no-build-isolation --editable '.[sentiment,dev]'
	@touch $@ $(VENV)/.stamp-sentiment

$(VENV)/.stamp-bench: $(VENV)/.stamp-build | build
	$(pip) --no-build-isolation --editable '.[sentiment,bench]'
	@touch $@ $(VENV)/.stamp-sentiment

# --- goals -------------------------------------------------------------------------------------------------------------

build: $(VENV)/.stamp-build
	$(python) setup.py --quiet build_ext --inplace

train: build $(VENV)/.stamp-sentiment
	$(python) -m fused_lstm.sentiment train $(if $(DATA),--data '$(DATA)') $(ARGS)

test: build $(VENV)/.stamp-dev
	$(python) tests/native/build.py
	$(python) -m pytest $(ARGS)

bench: build $(VENV)/.stamp-bench
	$(python) -m benchmarks $(ARGS)

lint: $(VENV)/.stamp-lint
	$(VENV)/bin/ruff check .
	$(python) .ci/check_includes.py
	find csrc tests/native benchmarks/native -name '*.h' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu' | sort | xargs -r $(VENV)/bin/clang-format --dry-run -Werror

wheel: $(VENV)/.stamp-dev
	rm -rf dist build/wheel
	$(python) -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	PATH="$(abspath $(VENV)/bin):$$PATH" $(python) .ci/finish_wheel.py build/wheel dist

sanitize: $(VENV)/.stamp-dev
	PATH="$(abspath $(VENV)/bin):$$PATH" .ci/sanitize $(SANITIZER) $(ARGS)

kernel-report: $(VENV)/.stamp-venv
	$(python) -m benchmarks.kernel_report $(ARGS)

# Not by $(python): the torch pinned there has no CUDA. PYTHON is the one whose torch sees the GPU.
gpu-check:
	$(PYTHON) benchmarks/gpu_check.py $(ARGS)

clean:
	rm -rf build dist *.egg-info fused_lstm/*.so tests/native/*.so .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
