# Everything runs in an environment that scripts/env.sh makes when it is missing.
# PYTHON=python3.12 make test   takes that interpreter, in an environment of its own.

ENV := scripts/env.sh
TEST_LIMIT ?= 1500
FULL_TEST_LIMIT ?= 3600
# pytest, ended with its summary, as by ^C, when all tests together take longer than $(1) seconds.
pytest_within = $(ENV) test timeout --foreground --signal=INT --kill-after=30 $(1) \
	pytest $(PYTEST_ARGS) || { status=$$?; [ $$status != 124 ] || \
	echo "stopped: the tests took longer than $(1) s together" >&2; exit $$status; }
PYTEST_ARGS ?=
BENCH_ARGS ?=
# For test-all, the oldest first.
PYTHONS ?= python3.11 python3.12 python3.13
FUZZ_SECONDS ?= 600
SELFTEST_SECONDS ?= 120

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test test-all acceptance fuzz fuzz-selftest dev lint format bench docs captures clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 16

run:  ## Log the HTTP requests of a capture that comes with the project
	$(ENV) run aiomos run examples/http_log.py -r tests/captures/http_demo.pcap

test:  ## Run the tests
	@$(call pytest_within,$(TEST_LIMIT))

test-all:  ## Run the tests on every Python that is installed, and on asyncio's loop and uvloop
	scripts/test_all.sh $(PYTHONS)

acceptance:  ## Run the tests at full size, and over the corpus of captures
	@AIOMOS_FULL=1 $(call pytest_within,$(FULL_TEST_LIMIT))

fuzz:  ## Fuzz the engine with sanitizers (FUZZ_SECONDS=60: shorter than ten minutes)
	$(ENV) fuzz python tests/fuzz/run.py fuzz $(FUZZ_SECONDS)

fuzz-selftest:  ## Plant defects one at a time: does fuzzing find each?
	$(ENV) fuzz python tests/fuzz/run.py selftest $(SELFTEST_SECONDS)

dev:  ## Make the environment for working on aiomos, with every tool
	$(ENV) test
	$(ENV) lint
	$(ENV) docs

lint:  ## Check style, types and formatting; changes nothing
	$(ENV) lint scripts/lint.sh

format:  ## Put Python and C sources into their format
	$(ENV) lint sh -c 'ruff format . && ruff check --fix . && clang-format -i dpdk_shim/*.[ch]'

bench:  ## Measure aiomos beside its peers (BENCH_ARGS=--quick: half a minute)
	$(ENV) bench scripts/peers.sh
	$(ENV) bench python -m benchmarks.compare $(BENCH_ARGS)
	$(ENV) bench python -m benchmarks.resume
	$(ENV) bench python -m benchmarks.instructions
	$(ENV) bench python -m benchmarks.limits
	$(ENV) bench python -m benchmarks.workers $(filter --quick,$(BENCH_ARGS))
	$(ENV) bench python -m benchmarks.live $(filter --quick,$(BENCH_ARGS))
	$(ENV) bench python -m benchmarks.testpmd $(filter --quick,$(BENCH_ARGS))

docs:  ## Build the documentation into docs/_build
	$(ENV) docs sphinx-build -W --keep-going -q -b html docs docs/_build
	@echo 'docs/_build/index.html'

captures:  ## Make the captures in tests/captures again (root, Linux)
	$(ENV) captures python tests/captures/make_captures.py

clean:  ## Remove what was built, but keep the virtual environments
	rm -rf build docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
