# Every target makes its own .venv from requirements.txt; nothing else is needed
# beyond Python >= 3.11 (choose another interpreter with `make PYTHON=python3.12 ...`).
PYTHON ?= python3
BIN := .venv/bin
OUT ?= results
# Processes that share the tests; each takes up to 2.5 GiB.
WORKERS ?= 2
CACHE_HOME ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)
export JAX_COMPILATION_CACHE_DIR ?= $(CACHE_HOME)/sam_jax/xla

# glibc hands buffers above 32 MiB back to the system after every step and fetches them
# anew, zeroed page by page, for the next. Keeping them, in huge pages, makes a step on
# CPU shorter; the files of results/benchmarks say with which setting they were measured.
train bench: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184

.PHONY: venv train test test-programs test-heavy test-jax faults reproduce bench bench-peers notebooks report docs lint format data clean

venv: .venv/.done

.venv/.done: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sam_jax needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "sam_jax.pth").write_text(str(pathlib.Path.cwd()))'
	touch $@

train: venv  ## ERM against SAM on noisy digits: curves and a table
	$(BIN)/python -m experiments.main_job --out=$(OUT)/main_job

PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal
test: venv  ## all quick tests
	$(PYTEST) -m "not heavy and not program"

test-programs: venv  ## notebooks, every experiment at smoke scale, kills, several processes
	$(PYTEST) -m "program and not heavy"

# With the compiler's own settings; tests/conftest.py has those of the quick tests.
test-heavy: venv  ## the slow tests and those on prepared data sets
	XLA_FLAGS= $(BIN)/python -m pytest -m heavy

# Kills, signals, damage, fuzzed configurations, commands and trees; prints a table.
faults: venv
	$(BIN)/python -m tests.faults $(ARGS)

reproduce: venv  ## this machine, and the fingerprint of a tiny run
	$(BIN)/python -m experiments.harness.reproduce

# jax 0.11 needs Python 3.12: make test-jax PYTHON=python3.12 takes the newest, JAX=VERSION another.
JAX_VENV := .venv-jax-$(or $(JAX),newest)
# Another jax may not know all flags of tests/conftest.py, and ends at an unknown one.
test-jax: export XLA_FLAGS := --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true
test-jax: $(JAX_VENV)/.done  ## the core's tests on another jax
	JAX_COMPILATION_CACHE_DIR= $(JAX_VENV)/bin/python -m pytest -m "not heavy" -n $(WORKERS) --dist=worksteal tests/core tests/ops tests/transforms

$(JAX_VENV)/.done: pyproject.toml
	$(PYTHON) -m venv $(JAX_VENV)
	$(JAX_VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'jax$(if $(JAX),==$(JAX))' -e '.[train,test]'
	touch $@

bench: venv  ## times and memory, by ratio; ONLY=startup,per_example picks suites
	$(BIN)/python -m experiments.benchmarks --out=$(OUT)/benchmarks $(if $(ONLY),--only=$(ONLY))

# PyTorch never enters .venv either.
bench-peers: venv .venv-peers/.done  ## our SAM step against PyTorch's
	$(BIN)/python -m experiments.benchmarks --out=$(OUT)/benchmarks --only=peers

.venv-peers/.done: pyproject.toml
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["peers"], sep="\n")' > .venv-peers/requirements.txt
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r .venv-peers/requirements.txt
	touch $@

notebooks: venv  ## runs the notebooks and writes their .ipynb
	$(BIN)/jupytext --to ipynb --execute notebooks/*.py

report: venv  ## all results on one page, and what pages have of them
	$(BIN)/python -m experiments report --pages README.md docs/paper.md docs/variants.md

# mkdocs and its theme enter no other environment.
docs: export NO_MKDOCS_2_WARNING := 1
docs: .venv-docs/.done  ## the documentation site, into site/
	.venv-docs/bin/python -m mkdocs build --strict --quiet
	@echo "open site/index.html"

.venv-docs/.done: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > .venv-docs/requirements.txt
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r .venv-docs/requirements.txt
	touch $@

lint: venv  ## format, lint and types, as continuous integration runs them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# TensorFlow is needed once, to prepare a TFDS data set; it never enters .venv, and is
# installed where the first try says (3) that it alone is missing.
data: data-name venv  ## make data NAME=cifar10
	@$(BIN)/python -m sam_jax.data.prepare $(NAME) $(ARGS) || { [ $$? -eq 3 ] && \
	$(MAKE) .venv-prepare/.done && \
	.venv-prepare/bin/python -m sam_jax.data.prepare $(NAME) $(ARGS); }

# Before anything is installed.
.PHONY: data-name
data-name:
	@$(PYTHON) -c 'import re, sys; \
	known = re.search(r"NAMES = \((.*)\)", open("sam_jax/data/tfds_source.py").read())[1].replace("\"", ""); \
	sys.exit("$(NAME)" not in known.split(", ") and "make data NAME=$(NAME): give one of " + known)'

.venv-prepare/.done: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv-prepare
	sed '/--hash/d; s/ \\$$//' requirements.txt > .venv-prepare/pins.txt
	.venv-prepare/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-prepare/pins.txt -e '.[prepare]'
	touch $@

clean:
	rm -rf .venv .venv-prepare .venv-peers .venv-docs site .venv-jax-* .ruff_cache .mypy_cache .pytest_cache .hypothesis
