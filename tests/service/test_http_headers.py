"""Methods and headers that every HTTP client knows: HEAD, Allow, Cache-Control, Retry-After, 404 and 426."""

from __future__ import annotations

import httpx2
import msgspec
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from inference_service.errors import Busy, Draining, NotReady, ServiceError
from tests.service.conftest import Service

PAGES = ["/health", "/metrics", "/api/v1/ai/health", "/api/v1/ai/info", "/v1/models", "/v1/models/asr"]
PAGES += ["/docs", "/docs/api.css", "/openapi.json", "/api/v1/ai/docs", "/demo"]


@pytest.mark.parametrize("path", PAGES)
def test_head_is_get_without_the_body(service: Service, path: str) -> None:
    with httpx2.Client(base_url=service.url) as client:
        whole = client.get(path)
        head = client.head(path)
        after = client.get("/health")  # on the same connection: nothing of a body is left there

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    if path not in ("/metrics",):  # whose content changes with each request
        assert head.headers["content-length"] == str(len(whole.content))
    assert after.json()["status"] == "ok"


def test_a_method_that_a_route_does_not_have_is_405_with_those_that_it_has(service: Service) -> None:
    posted = httpx2.post(f"{service.url}/health")
    head = httpx2.head(f"{service.url}/api/v1/ai/asr")

    assert (posted.status_code, head.status_code) == (405, 405)
    assert {"GET", "HEAD"} <= set(posted.headers["allow"].split(", "))
    assert "POST" in head.headers["allow"].split(", ")


def test_results_and_errors_stay_in_no_cache_and_files_of_pages_may(service: Service) -> None:
    def caching(method: str, path: str, **request: object) -> str:
        answer = httpx2.request(method, service.url + path, **request)
        assert "etag" not in answer.headers
        return answer.headers["cache-control"]

    assert caching("POST", "/api/v1/ai/emotion", json={"text": "hello"}) == "no-store"
    assert caching("GET", "/api/v1/ai/info") == "no-store"
    assert caching("GET", "/nowhere") == "no-store"
    assert caching("GET", "/docs/nothing.css") == "no-store"
    assert caching("GET", "/demo") == caching("GET", "/docs") == caching("GET", "/openapi.json") == "no-cache"
    assert caching("GET", "/docs/openapi-explorer.min.js") == "public, max-age=86400"


@pytest.mark.parametrize(
    ("error", "seconds"), [(Busy("full", 7), "7"), (Draining("stopping"), "1"), (NotReady("not loaded"), "1")]
)
def test_a_503_says_when_to_ask_again(service: Service, error: ServiceError, seconds: str) -> None:
    service.runtime.error = error
    answer = httpx2.post(f"{service.url}/api/v1/ai/emotion", json={"text": "hello"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, seconds)


def refused(service: Service, path: str) -> tuple[int, dict[str, object]]:
    """The status and the body with which a WebSocket's handshake is refused."""
    with pytest.raises(InvalidStatus) as error, connect(f"ws://127.0.0.1:{service.port}{path}"):
        pass
    response = error.value.response
    assert response.headers["x-request-id"]
    return response.status_code, msgspec.json.decode(response.body)


@pytest.mark.parametrize("path", ["/nowhere", "/api/v1/ai/nowhere", "/api/v1/ai/asr", "/health"])
def test_a_websocket_where_there_is_none_is_404_with_the_reason(service: Service, path: str) -> None:
    status, body = refused(service, path)
    assert (status, body["message"]) == (404, f"there is no WebSocket {path}")
    assert body["code"] == 404


def test_on_openais_paths_the_refusal_is_openais_error(service: Service) -> None:
    status, body = refused(service, "/v1/nowhere")
    assert status == 404
    assert body["error"]["message"] == "there is no WebSocket /v1/nowhere"


def test_a_get_of_a_websocket_says_what_to_upgrade_to(service: Service) -> None:
    answer = httpx2.get(f"{service.url}/api/v1/ai/stream")
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert "is a WebSocket" in answer.json()["message"]


def test_a_refused_key_says_which_scheme_is_expected(serve) -> None:
    service = serve(SERVER__API_KEYS="secret-key")
    answer = httpx2.get(f"{service.url}/api/v1/ai/info")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
