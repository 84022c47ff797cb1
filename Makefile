# Thin over `herald` (var/envs/app/bin/herald) and the tools; `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := var/envs/app/bin
HERALD := $(BIN)/herald
NODE := $(CURDIR)/var/web/bin/node
SQLFLUFF := var/envs/warehouse/bin/sqlfluff
PACKAGES := herald spark_jobs ml api expectations infra tests dags
# Moved lines make the first run update its copy of the baseline and fail; the second one judges.
SECRETS := git ls-files -z -- ':!.secrets.baseline' | xargs -0 $(BIN)/detect-secrets-hook \
	--no-verify --baseline var/secrets.baseline
# Every Python process of a test run is measured, those of the platform included.
MEASURED := COVERAGE_FILE=$(CURDIR)/var/coverage/data COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml

.PHONY: help setup demo up down status logs doctor test lint format types unit web integration e2e \
	chaos chaos-tests coverage bench lock docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install or update environments, jars, Java and Chromium; quick when nothing changed
	@$(PYTHON) infra/bootstrap.py

demo: setup ## start everything, land events, build marts, open dashboards, reconcile, and stay up
	@$(HERALD) demo

up: setup ## start the platform and wait until it is healthy
	@$(HERALD) up

down: setup ## stop the platform
	@$(HERALD) down

status: setup ## show each service
	@$(HERALD) status

logs: setup ## show the end of a service's log: make logs SERVICE=landing
	@$(HERALD) logs $(or $(SERVICE),$(error name a service: make logs SERVICE=landing))

doctor: setup ## say what is missing or broken, and how to mend it
	@$(HERALD) doctor

test: setup ## everything that must pass: lint, types, unit, integration, end to end, coverage
	@rm -rf var/coverage
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory web
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory integration
	@$(MAKE) --no-print-directory chaos-tests
	@$(MAKE) --no-print-directory e2e
	@$(MAKE) --no-print-directory coverage

lint: setup ## style, imports, contract, YAML, SQL, secrets; checks, never fixes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(HERALD) contract check
	$(BIN)/yamllint --strict .
	$(SQLFLUFF) lint dbt_project/models
	@cp .secrets.baseline var/secrets.baseline
	@$(SECRETS) > /dev/null || $(SECRETS)

format: setup ## format Python
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## mypy, strict
	$(BIN)/mypy

web: setup ## style, types and unit tests of the live page
	cd api/live_page && $(NODE) node_modules/@biomejs/biome/bin/biome check --error-on-warnings .
	cd api/live_page && $(NODE) node_modules/typescript/bin/tsc --noEmit
	cd api/live_page && $(NODE) node_modules/vitest/vitest.mjs run

unit: setup ## tests without services
	@mkdir -p var/coverage
	$(MEASURED) $(BIN)/coverage run -m pytest tests/unit --durations=5

integration: setup ## tests against the real components
	@mkdir -p var/coverage
	$(MEASURED) $(BIN)/coverage run -m pytest tests/integration --durations=15

chaos-tests: setup ## tests that kill each part of the platform once
	@mkdir -p var/coverage
	$(MEASURED) $(BIN)/coverage run -m pytest tests/chaos --durations=5

e2e: setup ## tests of the whole platform
	@mkdir -p var/coverage
	$(MEASURED) $(BIN)/coverage run -m pytest tests/e2e --durations=10

coverage: setup ## combine what the suites measured; fail under 90%
	@$(MEASURED) $(BIN)/coverage combine -q
	@$(MEASURED) $(BIN)/coverage json -q -o var/coverage.json
	@$(BIN)/python tests/coverage_by_package.py var/coverage.json
	@$(MEASURED) $(BIN)/coverage report --skip-covered --fail-under=90 | tail -n 40

chaos: setup ## kill parts of a platform, then fuzz: make chaos N=200 SEED=1 FUZZ=1000000
	@$(HERALD) chaos --kills $(or $(N),20) --seed $(or $(SEED),1)
	@$(HERALD) chaos --fuzz $(or $(FUZZ),1000000) --seed $(or $(SEED),1)

bench: setup ## measure every row side by side (about 25 minutes) and write the page
	@$(HERALD) bench all; measured=$$?; $(HERALD) bench page && exit $$measured

lock: setup ## recompile the lock files of the environments
	@cd infra/requirements && for env in app warehouse airflow superset tools; do \
		echo "lock: $$env"; \
		../../var/tools/bin/uv pip compile --python-version 3.11 --upgrade --generate-hashes \
			--no-emit-index-url -q --no-header $$env.in -o $$env.txt || exit 1; \
	done

docs: setup ## generate the reference pages from the code
	@$(HERALD) docs

clean: setup ## stop the platform and delete its state; environments and jars stay
	@$(HERALD) down
	@find var -mindepth 1 -maxdepth 1 ! -name tools ! -name envs ! -name jars ! -name stamps \
		-exec rm -rf {} +
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
