# What people and CI type. Everything longer than a few lines is in scripts/.
.DEFAULT_GOAL := help
.PHONY: help up down embedded-base audit test test-unit test-integration test-conformance test-container fuzz soak bench lint docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## build the image, run it with ./plugins, show a request; again after an edit
	@scripts/up

down: ## stop what `make up` started and remove it
	@scripts/compose down --volumes --remove-orphans

embedded-base: ## make the base image for places where the official one cannot be pulled
	@docker/embedded/build

test: lint ## run all checks and tests; needs Docker
	@scripts/test

test-unit: ## run the tests of single modules, in a minute
	@scripts/test unit

test-integration: ## run whole programs on this machine: servers, commands, the example plugins
	@scripts/test integration

test-conformance: ## compare with what was recorded from a real Kong
	@scripts/test conformance

test-container: ## run the image and look; KONG_IMAGE=... chooses its base
	@scripts/test container

fuzz: ## feed the protocols random values and bytes, for far longer than make test does
	@HYPOTHESIS_PROFILE=long scripts/test unit/fuzz -- --timeout 3600

soak: ## let servers run for SOAK_MINUTES (30), and look that nothing grows
	@SOAK_MINUTES=$${SOAK_MINUTES:-30} scripts/test integration/server/test_soak.py -- -n 0

bench: ## measure the plugin server beside kong-pdk; benchmarks/README.md has its variables
	@scripts/bench

audit: ## check the packages of the image against known advisories
	@scripts/audit.py

lint: ## check style, types and shell syntax
	@scripts/lint

docs: ## build the documentation, with the reference of the PDK, into docs/_build/html
	@scripts/docs

clean: down ## remove what was built: images, .venv, caches
	@docker image rm --force kong-python:latest kong-python:test >/dev/null 2>&1 || true
	@rm -rf .venv .venv-audit .cache docs/_build pdk/build pdk/dist .mypy_cache pdk/.mypy_cache .ruff_cache pdk/.ruff_cache .pytest_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
