# Development commands. `make serve` and `make test` set everything up by themselves: they need Python 3.11 or later
# (with venv), make, and a package index. PYTHON=python3.12 chooses the interpreter, which then has a venv of its own.

PORT ?= 5000
HOST ?= 127.0.0.1
PYTHON ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
FUZZ_SECONDS ?= 60
TEST_PROCESSES ?= $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) * 5 + 1) / 2 )))
TEST_SECONDS ?= 600
# The oldest and the newest supported Python: what the library has differs.
TYPED_VERSIONS ?= 3.11 3.15
SLOW := $(addprefix tests/unit/,serving/executors/test_pool_interleavings.py serving/executors/test_pool_load.py \
    process/supervision/test_supervisor_model.py process/worker/test_copy_on_write.py gunicorn/test_configuration.py \
    proto/test_request_properties.py proto/test_against_h11.py)
FAULTS_SECONDS ?= 60
TORTURE_SECONDS ?= 600

ifeq ($(PYTHON),)
VENV := .venv
else
VENV := .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
endif

CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.14 python3.13 python3.12 python3.11 python3 python)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Plain Python, so that pip does not fetch a compiler's packages.
EDITABLE := COMPILE_STARMAN=0 $(PIP) --config-settings editable_mode=compat --editable

.DELETE_ON_ERROR:
.PHONY: help serve test check environment lint pytest docs-check compiled dist bench bench-all bench-memory bench-turns bench-readme recording bench-venv fuzz faults torture docs site screenshots clean

help:
	@echo "make serve    serve examples/hello.py on http://$(HOST):$(PORT)/  (HOST=, PORT=)"
	@echo "make test     lint, types, unit and functional tests, documentation"
	@echo "make check    lint, types, and the unit tests that are quick: for between two edits, under a minute"
	@echo "make compiled build starman compiled, which the bench then measures as well; needs a C compiler"
	@echo "make dist     build the sdist and the wheels, for every supported Python of this machine, into dist/"
	@echo "make bench    hello on starman and its peers, a minute or two  (BENCH_ARGS=)"
	@echo "make bench-all      every scenario and axis, over an hour: tables and plots into docs/  (BENCH_ARGS=)"
	@echo "make bench-turns    loop and threads that take turns, and a plain pool; ten minutes, a table and a plot into docs/  (BENCH_ARGS=)"
	@echo "make bench-readme   the chart and the figures of the README; needs nginx and wrk, six minutes  (BENCH_ARGS=)"
	@echo "make recording      record a restart under load for the README, ten seconds"
	@echo "make bench-venv     make the environment of one more interpreter, for bench-turns  (PYTHON=)"
	@echo "make bench-memory   the memory of starman, gunicorn and granian"
	@echo "make fuzz     fuzz the parser and the chunked decoder, $(FUZZ_SECONDS) s each  (FUZZ_SECONDS=)"
	@echo "make faults   cut, reset and delay clients and the application for $(FAULTS_SECONDS) s  (FAULTS_SECONDS=, FAULTS_SEED=)"
	@echo "make torture  restarts, upgrades, kills and deploys under load for $(TORTURE_SECONDS) s  (TORTURE_SECONDS=, TORTURE_SEED=)"
	@echo "make docs     write the settings page and the table of modules from the code"
	@echo "make site     build the site of the documentation, strictly, into build/site"
	@echo "make screenshots    take the pictures of the admin page for the docs; needs chromium, a minute"
	@echo "make clean    remove all files that these commands made"

serve: $(VENV)/serve.stamp
	@echo "Serving examples/hello.py on http://$(HOST):$(PORT)/ (Ctrl-C stops it)"
	@exec $(BIN)/starman-uv --listen $(HOST):$(PORT) examples/hello.py

test: $(VENV)/test.stamp
	@begun=$$(date +%s); $(MAKE) --no-print-directory lint pytest docs-check || exit; seconds=$$(($$(date +%s) - begun)); \
	echo "== Everything passed, in $$((seconds / 60)) min $$((seconds % 60)) s"

# What is left out takes half of the time of the unit tests.
check: $(VENV)/test.stamp
	@begun=$$(date +%s); $(MAKE) --no-print-directory lint || exit; echo "== Unit tests, without the slow ones"; \
	$(BIN)/python -m pytest -n $$(getconf _NPROCESSORS_ONLN) --dist worksteal $(SLOW:%=--ignore=%) tests/unit $(PYTEST_ARGS) || exit; \
	echo "== The quick checks passed, in $$(($$(date +%s) - begun)) s; make test runs everything"

lint: $(VENV)/test.stamp
	@echo "== Lint (ruff)"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@echo "== Types (mypy --strict)"
	@for version in $(TYPED_VERSIONS); do echo "Python $$version"; $(BIN)/mypy --python-version $$version || exit; done

# 2.5 test processes per CPU, because many tests wait most of their time. worksteal keeps the tests of a module
# together, which share a server, until another process has no tests left. Compile bytecode first: servers under test
# write none, so each start would compile all of starman. A test that hangs for TEST_SECONDS ends its test process, with
# the stacks of all threads: it fails, and the other tests go on in a new process.
pytest: $(VENV)/test.stamp
	@echo "== Tests, on $$($(BIN)/python --version), $(TEST_PROCESSES) at a time"
	@$(BIN)/python -m compileall -q starman tests
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal -o faulthandler_timeout=$(TEST_SECONDS) -o faulthandler_exit_on_timeout=true \
	    $(if $(FORBID_SKIP),--forbid-skip) $(PYTEST_ARGS)

# What the tests need is installed.
environment: $(VENV)/test.stamp

docs-check: $(VENV)/test.stamp
	@echo "== Documentation"
	@$(BIN)/python docs/check.py

compiled: $(VENV)/compiled.stamp

# If a compiled build exists, build it again before measuring it.
COMPILED := $(wildcard $(VENV)/compiled.stamp)

# What a release uploads (docs/releasing.md).
dist: $(VENV)/dist.stamp
	.ci/dist $(BIN)/python dist

bench: $(VENV)/bench.stamp $(COMPILED)
	$(BIN)/python -m bench $(BENCH_ARGS)

# Writes tables between the markers of the page, and plots and JSON beside it.
bench-all: $(VENV)/bench.stamp $(COMPILED)
	$(BIN)/python -m bench all --json docs/bench/bench.json --plots docs/bench --markdown docs/performance.md $(BENCH_ARGS)
	$(BIN)/python -m bench.growth all --json docs/bench/growth.json --plots docs/bench --markdown docs/performance.md $(BENCH_ARGS)

# On all interpreters with an environment from bench-venv.
bench-turns: $(VENV)/bench.stamp
	$(BIN)/python -m bench.turns --json docs/bench/turns.json --plots docs/bench --markdown docs/performance.md $(BENCH_ARGS)

# All figures and pictures of the README, except for the recording. starman is measured compiled, as its wheels are.
bench-readme: $(VENV)/bench.stamp $(VENV)/compiled.stamp
	$(BIN)/python -m bench.readme --rounds 7 --json docs/bench/readme.json --plots docs/bench --markdown README.md \
	    --tables docs/performance.md $(BENCH_ARGS)
	$(BIN)/python -m bench.overload --seconds 10 --json docs/bench/overload.json

recording: $(VENV)/bench.stamp
	$(BIN)/python -m bench.restart --json docs/bench/restart.json --svg docs/bench/restart.svg

bench-venv: $(VENV)/bench.stamp

bench-memory: $(VENV)/bench.stamp
	$(BIN)/python -m bench.memory $(BENCH_ARGS)

fuzz: $(VENV)/fuzz.stamp
	$(BIN)/python -m tests.fuzz.fuzz_request -max_total_time=$(FUZZ_SECONDS)
	$(BIN)/python -m tests.fuzz.fuzz_chunked -max_total_time=$(FUZZ_SECONDS)

# `make test` runs the same test for a few seconds.
faults: $(VENV)/test.stamp
	FAULTS_SECONDS=$(FAULTS_SECONDS) $(BIN)/python -m pytest --capture=no tests/functional/test_faults.py

# `make test` runs the same test with each event once.
torture: $(VENV)/test.stamp
	TORTURE_SECONDS=$(TORTURE_SECONDS) $(BIN)/python -m pytest --capture=no tests/functional/test_torture.py

docs: $(VENV)/docs.stamp
	$(BIN)/python docs/build.py

# Strictly: a page that is not in the navigation, a link or an anchor that leads nowhere is an error.
site: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "Built the site: build/site/index.html"

screenshots: $(VENV)/test.stamp
	$(BIN)/python -m tests.functional.screenshots docs/page

clean:
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp shows that its extra is installed as pyproject.toml says: a second run installs nothing.
$(VENV)/serve.stamp: pyproject.toml | $(BIN)/python
	$(EDITABLE) .
	@touch $@

$(VENV)/test.stamp $(VENV)/bench.stamp $(VENV)/fuzz.stamp $(VENV)/docs.stamp $(VENV)/dist.stamp: $(VENV)/%.stamp: pyproject.toml | $(BIN)/python
	$(EDITABLE) '.[$*]'
	@touch $@ $(VENV)/serve.stamp

$(VENV)/compiled.stamp: setup.py pyproject.toml $(shell find starman -name '*.py') | $(BIN)/python
	rm -rf $(VENV)/compiled
	COMPILE_STARMAN=1 $(PIP) --no-deps --target $(VENV)/compiled .
	@touch $@

$(BIN)/python:
	@for python in $(CANDIDATES); do \
	    if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        echo "Creating $(VENV) with $$("$$python" --version)"; \
	        exec "$$python" -m venv --clear $(VENV); \
	    fi; \
	done; \
	echo "No Python 3.11 or later with venv among: $(CANDIDATES). On Debian: apt install python3 python3-venv." >&2; exit 1
