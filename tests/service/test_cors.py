"""Which web pages may call the service: CORS headers, preflights and the Origin of WebSockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from inference_service.errors import NotReady
from inference_service.origins import AllowedOrigins, parse_origin
from tests.service.conftest import Service, settings_in

APP = "https://app.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}

Serve = Callable[..., Service]


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with API keys that lists one origin."""
    folder = tmp_path_factory.mktemp("listing")
    service = Service(settings_in(folder, SERVER__CORS_ORIGINS=APP, SERVER__API_KEYS="secret-key"))
    service.start()
    yield service
    service.stop()


def vary(answer: httpx2.Response) -> list[str]:
    return [name.strip().lower() for name in answer.headers.get("vary", "").split(",")]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/health", 200), ("/api/v1/ai/info", 200), ("/api/v1/ai/asr", 405), ("/nowhere", 404), ("/docs", 200)],
)
def test_a_listed_page_may_read_every_answer(listing: Service, path: str, status: int) -> None:
    answer = httpx2.get(listing.url + path, headers={"Origin": APP, "X-API-Key": "secret-key"})

    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == APP
    assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()
    assert "origin" in vary(answer)


def test_a_listed_page_may_read_refusals(listing: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    without_key = httpx2.post(f"{listing.url}/api/v1/ai/asr", headers={"Origin": APP})
    headers = {"Origin": APP, "X-API-Key": "secret-key"}
    monkeypatch.setattr(listing.runtime, "error", NotReady("not loaded"))
    full = httpx2.post(f"{listing.url}/api/v1/ai/emotion", json={"text": "hello"}, headers=headers)

    assert (without_key.status_code, full.status_code) == (401, 503)
    assert full.headers["retry-after"] == "1"
    assert "retry-after" in full.headers["access-control-expose-headers"].lower()
    for answer in (without_key, full):
        assert answer.headers["access-control-allow-origin"] == APP


def test_other_pages_may_not_read_answers_and_caches_keep_them_apart(listing: Service) -> None:
    for headers in ({"Origin": "https://evil.example.net"}, {}):
        answer = httpx2.get(f"{listing.url}/health", headers=headers)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
        assert "origin" in vary(answer)


def test_a_preflight_needs_no_key(listing: Service) -> None:
    answer = httpx2.options(f"{listing.url}/api/v1/ai/asr", headers={"Origin": APP, **PREFLIGHT})

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == APP
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization"
    assert int(answer.headers["access-control-max-age"]) > 0


def test_a_preflight_of_another_page_is_refused_with_the_reason(listing: Service) -> None:
    headers = {"Origin": "https://evil.example.net", **PREFLIGHT}
    answer = httpx2.options(f"{listing.url}/api/v1/ai/asr", headers=headers)

    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert "https://evil.example.net" in answer.json()["message"]
    assert "cors.origins" in answer.json()["message"]


def test_nothing_is_said_where_no_origin_is_listed(service: Service) -> None:
    answer = httpx2.get(f"{service.url}/health", headers={"Origin": APP})
    refused = httpx2.options(f"{service.url}/api/v1/ai/asr", headers={"Origin": APP, **PREFLIGHT})

    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]
    assert refused.status_code == 403


def test_every_page_may_call_where_all_are_listed(serve: Serve) -> None:
    answer = httpx2.get(f"{serve(SERVER__CORS_ORIGINS='*').url}/health", headers={"Origin": "null"})

    assert answer.headers["access-control-allow-origin"] == "*"
    assert "vary" not in answer.headers


def socket_status(service: Service, origin: str | None, **headers: str) -> int:
    """The HTTP status of the WebSocket's handshake."""
    address = f"ws://127.0.0.1:{service.port}/api/v1/ai/stream"
    try:
        with connect(address, origin=origin, additional_headers=headers):  # type: ignore[arg-type]
            return 101
    except InvalidStatus as error:
        assert (origin or "") in bytes(error.response.body).decode()
        return error.response.status_code


@pytest.mark.parametrize("origin", [None, "own", APP])
def test_a_websocket_opens_for_programs_for_own_pages_and_for_listed_ones(
    listing: Service, origin: str | None
) -> None:
    origin = listing.url if origin == "own" else origin
    assert socket_status(listing, origin, **{"X-API-Key": "secret-key"}) == 101


@pytest.mark.parametrize("origin", ["https://evil.example.net", "null", "http://127.0.0.1:1", f"{APP}.net"])
def test_a_websocket_of_another_page_is_refused(listing: Service, service: Service, origin: str) -> None:
    assert socket_status(listing, origin, **{"X-API-Key": "secret-key"}) == 403
    assert socket_status(service, origin) == 403


def test_behind_a_proxy_with_another_name_own_pages_open_websockets(service: Service) -> None:
    forwarded = {"X-Forwarded-Host": "speech.example.com"}
    assert socket_status(service, "https://speech.example.com", **forwarded) == 101
    assert socket_status(service, "https://speech.example.com:443", **forwarded) == 101
    assert socket_status(service, "https://evil.example.net", **forwarded) == 403


@pytest.mark.parametrize(
    ("listed", "allowed", "refused"),
    [
        ("https://App.Example.com:443", "https://app.example.com", "https://app.example.com:444"),
        ("http://localhost:*", "http://localhost:5173", "http://localhost.example.net"),
        ("https://*.example.com", "https://a.b.example.com", "https://example.com"),
        ("https://app.example.com", "https://app.example.com", "https://appXexample.com"),
        ("http://[::1]:3000", "http://[::1]:3000", "http://[::1]:30001"),
        ("null", "null", "https://null"),
        ("chrome-extension://abc", "chrome-extension://abc", "chrome-extension://abcd"),
    ],
)
def test_an_origin_is_listed_as_browsers_send_it_or_with_wildcards(
    listed: str, allowed: str, refused: str
) -> None:
    origins = AllowedOrigins([parse_origin(listed)])
    assert allowed in origins
    assert refused not in origins


@pytest.mark.parametrize(
    "wrong", ["app.example.com", "https://app.example.com/", "https://a:99999", "https://a b", ""]
)
def test_what_is_no_origin_is_refused_with_what_is_allowed(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"expected scheme://host\[:port\]"):
        parse_origin(wrong)
