# Each target does all of its set-up on a machine with only Python and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Real images and labels for some tests; those skip, saying so, where there are none.
ifneq ($(wildcard ../shared/data),)
export HPA_TEST_DATA ?= $(abspath ../shared/data)
endif
export OMP_NUM_THREADS ?= 1
export HPA_SEARCH_CACHE ?= $(abspath demo/cache)

.PHONY: demo test test-long test-all lint install published bench bench-search bench-gpu gpu-wheels clean

demo: install
	rm -rf demo
	$(BIN)/hpa-search data phantom demo/data --images 900 --test-images 60 --size 96 --seed 1 --lift 24
	$(BIN)/hpa-search run search_spaces/demo.yaml --data demo/data --out demo/out

# What needs no Ray runs on every core; two Rays on one host disturb each other, so those tests run one by one.
PYTEST := $(BIN)/pytest -q --durations 15
PARALLEL := --numprocesses logical --dist loadfile

test: install lint
	$(PYTEST) -m "not slow and not ray and not long" $(PARALLEL)
	$(PYTEST) -m smoke tests/end_to_end

# What `make test` leaves out, but for the slow tests. CI runs both.
test-long: install
	$(PYTEST) -m "long and not slow and not ray" $(PARALLEL)
	$(PYTEST) -m "ray and not slow and not smoke"

test-all: install lint
	$(PYTEST) -m "not ray" --hypothesis-profile exploring $(PARALLEL)
	$(PYTEST) -m "ray"

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $(STAMP)

# Each system of search_spaces/published for an epoch on 32 synthetic images: that it runs, not how good it is.
published: install
	$(BIN)/python tests/benchmarks/published.py

# The search in virtual time against its peers: what it finds with the same epochs, on problems that nothing was chosen on. Hours.
bench-search: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,bench]'
	$(BIN)/python tests/benchmarks/replay.py --seeds 12 --first-seed 1000

# What is measured against peers, one after the other: the input, the training loop, hand-overs, scale, a whole search. An hour; let
# nothing else run. A benchmark that misses its target stops no other one.
BENCHES := input_pipeline training_loop trial_overhead scale whole_search
bench: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,bench]'
	failed=; for name in $(BENCHES); do $(BIN)/python tests/benchmarks/$$name.py || failed="$$failed $$name"; done; \
	  test -z "$$failed" || { echo "missed or failed:$$failed"; exit 1; }

# On a machine with a GPU, torch and timm; neither Ray nor Optuna. PYTHON is that machine's.
bench-gpu:
	$(PYTHON) tests/benchmarks/gpu.py $(if $(OUT),--out $(OUT)/gpu.jsonl)

# What such a machine lacks, if it cannot reach a package index: see the script. WHEELS is a folder.
WHEELS ?= .wheels
gpu-wheels: install
	$(BIN)/python tests/benchmarks/gpu_wheels.py $(WHEELS)

clean:
	rm -rf $(VENV) demo
