"""The API's description is true (property tests compare the service with it), has examples, and works
offline."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx2
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
def test_the_description_is_served(service: Service, path: str) -> None:
    assert httpx2.get(service.url + path).json() == document(RequestSettings())


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
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert loaded
    for address in loaded:
        assert "//" not in address
        asset = httpx2.get(f"{service.url}{base}/{address}")
        assert asset.status_code == 200
        assert len(asset.content) > 10_000


def test_other_files_of_the_pages_package_are_not_served(service: Service) -> None:
    assert httpx2.get(f"{service.url}/docs/index.html").status_code == 404
    assert httpx2.get(f"{service.url}/docs/..%2f__init__.py").status_code == 404
