# Needs make and a Python 3.10 to 3.15 with venv; everything else is installed into .venvs/.
PYTHON ?= python3
# More arguments for pytest: make test ARGS="-k sandbox -x"
ARGS ?=
# For processes that pytest starts beside each other, one for each core; ARGS=-n0 for a debugger.
PARALLEL := -n auto --dist worksteal
# How long to fuzz: make fuzz SECONDS=600
SECONDS ?= 60

ENVS := .venvs
BIN := $(ENVS)/dev/bin
TEST_ENVS := $(patsubst %,$(ENVS)/%/.stamp,dev tap singer-tools target-jsonl target-duckdb duckdb \
	meltanolabs-target-csv meltanolabs-target-postgres target-stitch mkdocs)
PIP_INSTALL := -m pip install --quiet --use-pep517
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo bench bench-load bench-stops check test test-pythons test-meltano test-backfill test-dbt \
	test-snowflake coverage fuzz lint site docs constraints format dist wheel clean FORCE

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: lint $(ENVS)/tap/.stamp ## Lint, and the quick tests: for every change
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(ARGS)

demo: $(ENVS)/tap/.stamp $(ENVS)/duckdb/.stamp ## Run the tap against the sandbox into a DuckDB file, ask two questions, draw a picture; API=segment_export for the newer export
	@API=$(API) $(ENVS)/tap/bin/python demo/demo.py

test: $(TEST_ENVS) ## Run all tests, as many at a time as there are cores; ARGS="-k name" goes to pytest
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-pythons: ## Run all tests on each Python from 3.10 to 3.15 that this machine has
	@MAKE="$(MAKE)" .ci/test-pythons

# Of every process: COVERAGE_FILE is where each puts what it has seen.
coverage: export COVERAGE_FILE := $(abspath $(ENVS))/coverage/data
coverage: $(TEST_ENVS) ## Run all tests, and list the lines of the package that they do not run
	@rm -rf $(dir $(COVERAGE_FILE)) && mkdir -p $(dir $(COVERAGE_FILE))
	@$(BIN)/coverage run -m pytest $(PARALLEL) $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

bench: $(ENVS)/dev/.stamp $(ENVS)/tap/.stamp $(ENVS)/target-duckdb/.stamp $(ENVS)/tap-fullstory-1.0.4/.stamp $(ENVS)/bench-columns/.stamp ## Measure the tap beside gzip and others; ARGS=--help lists the options
	@$(BIN)/python bench/bench.py $(ARGS)

bench-load: $(TEST_ENVS) ## Measure how fast events become rows, through each tested target; ARGS="--events 200000"
	@$(BIN)/python bench/load.py $(ARGS)

bench-stops: $(TEST_ENVS) $(ENVS)/meltano/.stamp ## Stop each pipeline at random moments, and count lost and duplicated rows; ARGS="--stops 100 --only load.py"
	@$(BIN)/python bench/stops.py $(ARGS)

fuzz: $(ENVS)/dev/.stamp ## Feed damaged configs, states, catalogs, responses and bundles to the tap, then what libFuzzer makes; SECONDS=60 in all
	@$(BIN)/python tests/helpers/fuzz_inputs.py $$(($(SECONDS) / 2))
	@$(BIN)/python tests/helpers/fuzz_bundles.py $$(($(SECONDS) / 4))
	@$(BIN)/python tests/helpers/fuzz_native.py $$(($(SECONDS) / 4))

test-meltano: $(ENVS)/dev/.stamp $(ENVS)/meltano/.stamp ## Run the tests with a real Meltano, a minute or two
	@TEST_MELTANO=1 $(BIN)/python -m pytest tests/meltano/test_meltano.py $(ARGS)

test-backfill: $(TEST_ENVS) $(ENVS)/airflow/.stamp $(ENVS)/airflow-2/.stamp ## Run the examples for Airflow with real ones, some minutes
	@TEST_BACKFILL=1 $(BIN)/python -m pytest tests/examples/test_backfill.py tests/examples/test_airflow_sync.py $(ARGS)

test-dbt: $(TEST_ENVS) $(ENVS)/dbt/.stamp ## Run examples/dbt with a real dbt, on DuckDB and on PostgreSQL, a minute
	@TEST_DBT=1 $(BIN)/python -m pytest tests/examples/test_dbt.py $(ARGS)

test-snowflake: $(patsubst %,$(ENVS)/%/.stamp,dev tap duckdb meltanolabs-target-snowflake) ## Run the tests with target-snowflake and a stand-in for its server, half a minute
	@TEST_SNOWFLAKE=1 $(BIN)/python -m pytest tests/targets/test_snowflake.py $(ARGS)

# Without --quiet: with it, --strict sees no warnings. Material says at each start that it is followed by another one.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(ENVS)/mkdocs/bin/mkdocs build --strict

lint: $(ENVS)/dev/.stamp $(ENVS)/mkdocs/.stamp ## Check rules, format, types, and links of the documents
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(MKDOCS) --site-dir $(ENVS)/mkdocs/site 2> $(ENVS)/mkdocs/log || { cat $(ENVS)/mkdocs/log; exit 1; }

site: $(ENVS)/mkdocs/.stamp ## Build the documents as a site into site/
	@$(MKDOCS)

docs: $(ENVS)/dev/.stamp ## Regenerate what the documents, Meltano's files and catalog.json take from the code
	@$(BIN)/python docs/generate.py
	@$(BIN)/python plugins/describe.py
	@$(BIN)/tap-fullstory --discover > catalog.json

constraints: $(ENVS)/uv/.stamp ## Renew constraints.txt: the newest versions that setup.py allows, with hashes
	@sed -n '/^#/p; /^$$/q' constraints.txt > constraints.txt.new
	@$(ENVS)/uv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.10 --no-header \
		--no-annotate --no-emit-package colorama setup.py >> constraints.txt.new
	@mv constraints.txt.new constraints.txt

format: $(ENVS)/dev/.stamp ## Fix what ruff can fix
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

dist: $(ENVS)/dev/.stamp ## Build the wheel and the source archive into dist/
	@rm -rf build dist
	@$(BIN)/python -m build
	@ls dist

wheel: $(ENVS)/dev/.stamp $(ENVS)/wheel/.stamp ## Build a wheel with the C extension into dist/, and check that it runs elsewhere
	@rm -rf build dist
	@TAP_FULLSTORY_REQUIRE_NATIVE=1 $(BIN)/python -m build --wheel --outdir build/unrepaired
	@if [ "$$(uname)" = Linux ]; then \
		export PATH="$(abspath $(ENVS)/wheel/bin):$$PATH"; \
		auditwheel show build/unrepaired/*.whl && auditwheel repair --wheel-dir dist build/unrepaired/*.whl; \
	else mkdir -p dist && mv build/unrepaired/*.whl dist/; fi
	@$(ENVS)/wheel/bin/abi3audit --strict --summary dist/*.whl
	@$(ENVS)/wheel/bin/twine check --strict dist/*.whl
	@rm -rf build
	@ls dist

clean: ## Remove the environments, what was built, and the caches
	@rm -rf $(ENVS) build dist site *.egg-info tap_fullstory/*/*.so demo/out bench/out .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments: a stamp in each tells that it is complete ---

# Another Python makes every environment again. Written only when it changes, as the file after it.
$(ENVS)/.python: FORCE
	@mkdir -p $(ENVS)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("This needs Python 3.10 or newer: make PYTHON=/path/to/python3"); print(sys.base_prefix, sys.version)' > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

# The names of the package's files: one that goes or is renamed makes no other file newer.
TAP_FILES := setup.py pyproject.toml MANIFEST.in README.md \
	$(shell find tap_fullstory -name '*.py' -o -name '*.c' -o -name '*.json' -o -name py.typed | LC_ALL=C sort)
$(ENVS)/.tap-files: FORCE
	@mkdir -p $(ENVS)
	@printf '%s\n' $(TAP_FILES) > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

# For the tests: the tap from this folder, with the tools. A change of the C alone only compiles it.
$(ENVS)/dev/.stamp: setup.py tap_fullstory/version.py $(wildcard tap_fullstory/*/_*.c) $(ENVS)/.python
	@echo "$(@D): the tap, editable, and the tools for tests and checks"
	@$(if $(filter-out %.c,$?),rm -rf $(@D) && $(PYTHON) -m venv $(@D))
	@$(@D)/bin/python $(PIP_INSTALL) --editable '.[dev]'
	@touch $@

# What a user gets: the tap alone, installed again when a file of it changes. Order-only on the one
# above, since both build in this folder; the demo alone does without that one, which takes minutes.
# A build/ left over would put deleted modules into the wheel.
$(ENVS)/tap/.made: setup.py constraints.txt $(ENVS)/.python
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP_INSTALL) --require-hashes --requirement constraints.txt
	@touch $@

$(ENVS)/tap/.stamp: $(TAP_FILES) $(ENVS)/.tap-files $(ENVS)/tap/.made | $(if $(filter-out demo,$(MAKECMDGOALS)),$(ENVS)/dev/.stamp)
	@echo "$(@D): the tap as users install it"
	@rm -rf build
	@$(@D)/bin/python $(PIP_INSTALL) --no-deps .
	@rm -rf build
	@touch $@

# Other programs, each with what its requirements file says.
$(patsubst requirements/%.txt,$(ENVS)/%/.stamp,$(wildcard requirements/*.txt)): \
		$(ENVS)/%/.stamp: requirements/%.txt $(ENVS)/.python
	@echo "$(@D): $<"
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP_INSTALL) --requirement $<
	@touch $@

# --- the C extension, built to find errors ---

.PHONY: native-warnings test-sanitized fuzz-native

native-warnings: $(ENVS)/dev/.stamp ## Compile the C extension with gcc and clang; warnings are errors
	@$(BIN)/python tests/helpers/native_builds.py warnings

test-sanitized: $(ENVS)/dev/.stamp ## Run the C extension's tests with sanitizers and assertions
	@$(BIN)/python tests/helpers/native_builds.py sanitized $(ARGS)

fuzz-native: $(ENVS)/dev/.stamp ## Only the last part of fuzz, for SECONDS=60 seconds
	@$(BIN)/python tests/helpers/fuzz_native.py $(SECONDS)
