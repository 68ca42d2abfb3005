# What can be done here, one verb each. Needs Python 3.11 or later; everything else is installed into .venv.
#
#   make demo ONCE=1 AMQP=1    one round and out; through a broker (RELAY_AMQP__URL, or a private one)
#   make test ARGS="-k NAME"   pytest's own arguments: only those tests, without coverage
#   make lock UPGRADE=1        with the newest releases that pyproject.toml allows

PYTHON ?= python3
BIN := .venv/bin
WITH_BROKER := $(BIN)/python -m tests.rabbitmq run --
# The first test that needs it starts the database's server.
WITH_SERVERS := $(BIN)/python -m tests.postgres && $(WITH_BROKER)

# Tests mostly wait for servers and processes, so more of them run at a time than there are cores.
WORKERS ?= 3
SIDE_BY_SIDE = -n $(WORKERS) --dist loadfile

# Those whose coverage counts: to watch every line doubles a test's time.
ROOMS := tests/core tests/vendors tests/stages tests/edges

# Each room with the per cent of its lines and branches below which `make test` fails.
COVERAGE := core:100 stages:99 vendors:100 edges:95

.PHONY: help install demo test bench soak lint style types imports format lock

help: ## list the verbs
	@awk -F ':[^#]*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

install: .venv/.installed ## make .venv from the lock, with relay in it

demo: install ## show a job going from request to event
ifeq ($(AMQP),1)
	@RELAY_TEST_AMQP_URL="$${RELAY_AMQP__URL:-$$RELAY_TEST_AMQP_URL}" $(WITH_BROKER) \
		sh -c 'RELAY_AMQP__URL="$$RELAY_TEST_AMQP_URL" exec $(BIN)/relay demo --amqp $(if $(ONCE),--once)'
else
	@$(BIN)/relay demo $(if $(ONCE),--once)
endif

ifdef ARGS
test: install
	@$(WITH_SERVERS) $(BIN)/pytest $(ARGS)
else
test: install ## run the tests against RELAY_TEST_{AMQP,POSTGRES}_URL or private servers, and show the rooms' coverage
	@$(WITH_SERVERS) sh -c '\
		$(BIN)/pytest -q -m "not alone" $(SIDE_BY_SIDE) --cov=relay --cov-branch --cov-report= $(ROOMS); rooms=$$?; \
		$(BIN)/pytest -q -m "not alone" $(SIDE_BY_SIDE) $(addprefix --ignore=,$(ROOMS)); house=$$?; \
		$(BIN)/pytest -q -m alone $(SIDE_BY_SIDE) && [ $$rooms$$house = 00 ]'
	@failed=0; for each in $(COVERAGE); do \
		room=$${each%:*}; floor=$${each#*:}; \
		printf '\nCoverage of relay/%s (at least %s %%)\n' "$$room" "$$floor"; \
		$(BIN)/coverage report --include="relay/$$room/*" --fail-under="$$floor" || failed=1; \
	done; exit $$failed
endif

bench: install ## measure relay beside the bare loop (ARGS=--quick for a first look); see tests/bench/README.md
	@$(BIN)/python -m tests.bench $(ARGS)

soak: install ## let everything go wrong under load for minutes and see what grows (ARGS="--minutes 25")
	@$(BIN)/python -m tests.bench.soak $(ARGS)

lint: style types imports ## check the style, the types and the rooms' borders

style: install ## check the formatting and the rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: install ## check the types
	@$(BIN)/mypy

imports: install ## check who imports whom
	@$(BIN)/lint-imports --no-logo

format: install ## mend the formatting, and the rules that can be mended
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

# This machine's own way to packages stays out of the locks.
PIP_COMPILE := PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= CUSTOM_COMPILE_COMMAND="make lock" \
	$(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe $(if $(UPGRADE),--upgrade) \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

lock: install ## pin what pyproject.toml asks for: to run relay, to work on it, to build it
	$(PIP_COMPILE) -o deploy/requirements.lock pyproject.toml
	$(PIP_COMPILE) -o deploy/requirements-dev.lock --extra dev --constraint deploy/requirements.lock pyproject.toml
	$(PIP_COMPILE) -o deploy/requirements-build.lock --only-build-deps --build-deps-for wheel pyproject.toml

PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check
APT_INSTALL := DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends

.venv/.installed: deploy/requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'relay needs Python 3.11 or later: make install PYTHON=python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		package="python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"; \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
			{ $(APT_INSTALL) "$$package" || { apt-get -qq update && $(APT_INSTALL) "$$package"; }; } >/dev/null || \
		{ echo "Python cannot make virtual environments here: install $$package first" >&2; exit 1; }; }
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv .venv
	@$(PIP_INSTALL) --require-hashes -r deploy/requirements-dev.lock
	@$(PIP_INSTALL) --quiet --no-deps --no-build-isolation --editable .
	@touch $@
