"""The API's description is true (property tests compare the service with it), has examples, and works
offline."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import httpx2
import jsonschema_rs
import openapi_spec_validator
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from inference_service.http.openapi import document
from inference_service.http.upload import AUDIO_TYPES
from inference_service.settings import RequestSettings
from tests.service.conftest import Service


@schemathesis.serializer(*(kind for kind in AUDIO_TYPES if kind != "application/octet-stream"))
def audio_as_it_is(_: Any, value: Any) -> bytes:
    """Bodies of audio are bytes, whatever the generator made."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8")


AUDIO_ROUTES = ("asr", "emotion", "synthesis")

schema = schemathesis.openapi.from_dict(document(RequestSettings()))


def answers_of(operation: str) -> Callable[..., None]:
    """The property test of one operation, such as ``GET /health``."""

    @schema.include(func=lambda context: context.operation.label == operation).parametrize()
    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.filter_too_much,
        ],
    )
    def test(case: Any, service: Service) -> None:
        case.call_and_validate(
            base_url=service.url,
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
            ],
        )

    return test


# A function for each operation: schemathesis gives all tests of a function the same node id, and pytest-xdist
# runs what has the same id only once.
for path, operations in document(RequestSettings())["paths"].items():
    for method in operations:
        name = re.sub(r"\W+", "_", f"{method}{path}").strip("_")
        globals()[f"test_every_answer_of_{name}_is_one_that_the_description_has"] = answers_of(
            f"{method.upper()} {path}"
        )


@pytest.mark.parametrize("path", ["/openapi.json", "/api/v1/ai/openapi.json"])
def test_the_description_is_served_with_an_address_of_the_server_that_is_relative(
    service: Service, path: str
) -> None:
    url = service.url + path
    served = httpx2.get(url).json()
    [server] = served["servers"]
    assert urljoin(url, server["url"]) == f"{service.url}/"
    assert {**served, "servers": None} == {**document(RequestSettings()), "servers": None}


@pytest.mark.parametrize("at_gateway", [False, True])
def test_the_description_is_valid_openapi(at_gateway: bool) -> None:
    described = document(RequestSettings(), at_gateway=at_gateway)
    assert described["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(described)
    assert ("/metrics" in described["paths"]) != at_gateway


def test_every_operation_has_a_name_a_tag_and_examples_that_fit_their_schemas() -> None:
    described = document(RequestSettings())
    tags = {tag["name"] for tag in described["tags"]}
    names = []
    for path, operations in described["paths"].items():
        for operation in operations.values():
            names.append(operation["operationId"])
            assert set(operation["tags"]) <= tags
            for status, answer in operation["responses"].items():
                for media_type, content in answer.get("content", {}).items():
                    if "example" in content:
                        schema = {**content["schema"], "components": described["components"]}
                        assert jsonschema_rs.is_valid(schema, content["example"]), (path, status, media_type)
                    assert "example" in content or status == "200" or path == "/health", (path, status)
    assert len(names) == len(set(names))


def test_the_gateways_header_leaves_out_what_the_gateway_does_not_pass_on(service: Service) -> None:
    answer = httpx2.get(f"{service.url}/openapi.json", headers={"X-AI-Elsewhere": "@elsewhere"})
    assert not {"/health", "/metrics"} & answer.json()["paths"].keys()


def test_the_description_names_the_configured_batch_limit() -> None:
    limits = RequestSettings(max_batch_tasks=7)
    batch = document(limits)["components"]["schemas"]["BatchRequest"]
    assert batch["properties"]["tasks"]["maxItems"] == 7


def test_every_route_that_takes_a_body_has_examples() -> None:
    for path, operations in document(RequestSettings())["paths"].items():
        if "post" not in operations:
            continue
        content = operations["post"]["requestBody"]["content"]
        assert any("example" in kind or kind.get("examples") for kind in content.values()), path


@pytest.mark.parametrize("route", AUDIO_ROUTES)
def test_the_examples_get_real_answers(service: Service, route: str) -> None:
    operation = document(RequestSettings())["paths"][f"/api/v1/ai/{route}"]["post"]
    for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
        assert httpx2.post(f"{service.url}/api/v1/ai/{route}", json=example["value"]).status_code == 200


@pytest.mark.parametrize("route", ["setup", "analyze", "batch"])
def test_the_examples_of_the_json_routes_too(service: Service, route: str) -> None:
    content = document(RequestSettings())["paths"][f"/api/v1/ai/{route}"]["post"]["requestBody"]["content"]
    response = httpx2.post(f"{service.url}/api/v1/ai/{route}", json=content["application/json"]["example"])
    assert response.status_code == 200
    assert "error" not in response.text


@pytest.mark.parametrize("base", ["", "/api/v1/ai"])
def test_the_page_loads_nothing_from_elsewhere(service: Service, base: str) -> None:
    page = httpx2.get(f"{service.url}{base}/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
    assert loaded
    for address in [*loaded, "docs/openapi-explorer.min.js", "docs/viewer-style.js"]:
        asset = httpx2.get(f"{service.url}{base}/{address}")
        assert asset.status_code == 200
        assert len(asset.content) > 100
    assert (
        urljoin(str(page.url), re.findall(r'class="brand" href="([^"]+)"', page.text)[0]) == f"{service.url}/"
    )
    assert httpx2.get(f"{service.url}{base}/docs/").headers["location"] == "../docs"


def test_other_files_of_the_pages_folder_are_not_served(service: Service) -> None:
    assert httpx2.get(f"{service.url}/docs/docs.html").status_code == 404
    assert httpx2.get(f"{service.url}/docs/README.md").status_code == 404
    assert httpx2.get(f"{service.url}/docs/..%2f__init__.py").status_code == 404
