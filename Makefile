# Everything a developer or CI runs. `make` or `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kind-from-source
export PATH := $(PATH):$(CACHE)/bin

CLUSTER ?= local#   demo: `local` processes, or `kind`
SCENE ?= overload#  demo: or `canary`
NAME ?= penstock#   kind-up, kind-down: the cluster's name
PYTEST_ARGS ?=#     test: more arguments for pytest, e.g. PYTEST_ARGS='-k lease -x'
SIMULATION_ARGS ?=# bench-simulation: --trace FILE takes that day for the speed
BENCH_ARGS ?= measured#  bench-accuracy: or `simulated`, a quarter of an hour
POLICIES_ARGS ?=#   bench-policies: --quick, or sections: a b c e f
DATAPLANE_ARGS ?=#  bench-dataplane: --quick, or sections: changes cost simulated overload
CANARY_ARGS ?=#     bench-canary: --quick, --loads, --cells TEXT, --rates 5,20, --plot FILE
KEDA_ARGS ?=#       bench-keda: --runs 1, --concurrency 3, --keep
UPGRADE ?=#         lock: UPGRADE=--upgrade takes the newest versions

.PHONY: help demo test test-kind lint generate bench bench-accuracy bench-simulation bench-forecast bench-dataplane bench-canary bench-policies bench-keda image kind-up kind-down lock venv clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: venv ## Operator, engines, Prometheus and a load step here (CLUSTER=kind: on kind; SCENE=canary)
ifeq ($(strip $(CLUSTER)),kind)
	@[ "$(strip $(SCENE))" = overload ] || { echo >&2 \
	  "demo: CLUSTER=kind plays the overload only: leave out SCENE=$(strip $(SCENE)) or CLUSTER=kind"; exit 2; }
	@testbed/prepare kind
	@testbed/build-image
	@testbed/kind-demo
else
	@$(BIN)/penstock demo --scene $(SCENE)
endif

test: venv ## All tests this machine can run; what it cannot is listed with its reason at the end
	@log=$$(mktemp) core= failed=0; export PENSTOCK_SKIPPED=$$log.skipped; \
	trap 'kill $$core 2>/dev/null || true; rm -f $$log $$PENSTOCK_SKIPPED' EXIT; \
	echo "== the core tests run beside those that go by the clock, which mostly wait; what they say follows"; \
	testbed/idly $(MAKE) --no-print-directory test-core >$$log 2>&1 & core=$$!; \
	$(MAKE) --no-print-directory --keep-going test-timed test-on-kind || failed=$$?; \
	core_failed=0; wait $$core || core_failed=$$?; core=; echo "== the core tests"; cat $$log; \
	[ $$core_failed = 0 ] || $(MAKE) --no-print-directory test-core-again || failed=$$?; \
	[ ! -s $$PENSTOCK_SKIPPED ] || { echo "== not run on this machine"; LC_ALL=C sort $$PENSTOCK_SKIPPED; }; \
	! grep -qs '^FAILED requirement' $$PENSTOCK_SKIPPED || failed=2; exit $$failed

test-kind: venv ## Only the tests on a kind cluster; prepares Docker, the node image and the images
	@testbed/prepare kind
	@PENSTOCK_REQUIRE=kind $(MAKE) --no-print-directory test-on-kind

# Arguments such as -k may leave a part without a test: pytest says so by 5. Much of the core waits for processes:
# four at a time also on two cores. A cache of its own: the others ask theirs what failed.
.PHONY: test-core test-core-again test-timed test-on-kind
PYTEST_CORE := python -m pytest -m 'not (kind or slow or prometheus or timed)' -o cache_dir=.pytest_cache/core
test-core test-core-again: export PENSTOCK_REQUIRE := $(findstring api,$(PENSTOCK_REQUIRE))
test-core: venv
	@$(BIN)/$(PYTEST_CORE) --numprocesses 4 --dist loadfile $(PYTEST_ARGS) || [ $$? = 5 ]

# Many core tests start processes: with no more than others leave of the processors one may take too long.
test-core-again: venv
	@echo "== what failed beside other tests runs again alone (docs/adr/0014-timed-tests-twice.md)"
	@$(BIN)/$(PYTEST_CORE) --last-failed --last-failed-no-failures=none $(PYTEST_ARGS)

# Engines, clients and demos that go by the clock: what failed beside other tests runs once more with the machine
# to itself; what fails there fails. The third argument: where they are, for each process reads all it is given.
define by_the_clock
@$(BIN)/python -m pytest -m $(1) $(2) --durations=8 $(PYTEST_ARGS) $(3) && exit; \
status=$$?; [ $$status = 5 ] && exit; [ $$status = 1 ] || exit $$status; \
echo "== what failed beside other tests runs again alone (docs/adr/0014-timed-tests-twice.md)"; \
$(BIN)/python -m pytest -m $(1) --last-failed --last-failed-no-failures=none --durations=8 $(PYTEST_ARGS) $(3)
endef

# Mostly waiting: five files at a time, in the order of what they say they take.
test-timed: export PENSTOCK_REQUIRE := $(subst kind,,$(PENSTOCK_REQUIRE))
test-timed: venv
	$(call by_the_clock,'(slow or prometheus or timed) and not kind',--numprocesses 5 --dist loadfile --no-loadscope-reorder,$$(grep -rlE --include='test_*.py' 'mark\.(slow|prometheus|timed)\b' tests))

# Mostly waiting: three clusters at a time, each takes the next test.
test-on-kind: export PENSTOCK_REQUIRE := $(findstring kind,$(PENSTOCK_REQUIRE))
test-on-kind: venv
	$(call by_the_clock,kind,--numprocesses 3 --dist load --maxschedchunk 1,tests/kind)

LINTS := 'ruff check --quiet' 'ruff format --check --quiet' 'mypy' 'lint-imports' 'charts/render --check' 'testbed/lint'
lint: venv ## Style, types, layers, chart, scripts, and that generated files are current
	@export PATH="$$PWD/$(BIN):$$PATH"; failed=0; \
	for check in $(LINTS); do echo "lint: $$check"; $$check || failed=1; done; exit $$failed

generate: venv ## Write the files that are generated from others (chart's CRD, plain install, API page)
	@charts/render
	@$(BIN)/python docs/render

bench: venv ## Ticks at 1,000 and 10,000 services: time, memory, requests
	@$(BIN)/python tests/bench/fleet.py

bench-accuracy: venv ## The engine model against real measurements
	@$(BIN)/python tests/bench/accuracy.py $(BENCH_ARGS)

bench-simulation: venv ## The fleet simulation against real measurements; its speed
	@$(BIN)/python tests/bench/simulation.py $(SIMULATION_ARGS)

bench-forecast: venv ## Coverage and cost of the demand bound on traces (../shared/traces)
	@$(BIN)/python tests/bench/forecast.py

bench-policies: venv ## Ours and the peers' policies on a published profile and on traces (POLICIES_ARGS)
	@$(BIN)/python tests/bench/policies.py $(POLICIES_ARGS)

bench-dataplane: venv ## Overload, changes, latency on real Envoy, beside peers (DATAPLANE_ARGS=--quick)
	@$(BIN)/python tests/bench/dataplane.py $(DATAPLANE_ARGS)

bench-canary: venv ## Judges of canaries on the same simulated streams (CANARY_ARGS=--quick)
	@$(BIN)/python tests/bench/canary.py $(CANARY_ARGS)

bench-keda: venv ## A real KEDA and Penstock in turn on a kind cluster, half an hour (KEDA_ARGS)
	@testbed/prepare kind
	@$(BIN)/python tests/bench/keda.py $(KEDA_ARGS)

image: ## Build penstock:dev (operator and stand-in engine) and penstock-gateway:dev (with Envoy)
	@testbed/build-image

kind-up: ## A kind cluster (NAME=penstock) with our images loaded
	@testbed/prepare kind
	@testbed/build-image
	@testbed/kind-up $(NAME)

kind-down: ## Delete that cluster
	@testbed/kind-down $(NAME)

lock: ## Resolve pyproject.toml into requirements*.lock (UPGRADE=--upgrade: newest versions)
	@testbed/lock $(UPGRADE)

venv: ## .venv with the locked dependencies (every other command does this first)
	@testbed/venv

clean: ## Remove .venv and caches of tools; built binaries in ~/.cache stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
