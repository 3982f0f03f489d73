"""Pages of other origins at the gateway: nginx's own answers, and those of a real node behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from infra.gateway.render import RateLimit, Site, UpstreamServer
from tests.gateway import nginx
from tests.gateway.service_node import ServiceNode, service_nodes
from tests.ports import free_port

APP = "https://app.example.com"
EVIL = "https://evil.example.net"
KEY = "first-key.0123"
LISTED = (APP, "http://localhost:*", "https://*.example.org")
ASR = "/api/v1/ai/asr"

Start = Callable[..., httpx2.Client]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(*servers, …)`: a client of a gateway over these servers that lists `LISTED`."""
    with ExitStack() as stack:

        def start(*servers: UpstreamServer, **settings: Any) -> httpx2.Client:
            ports = {"http": free_port(), "grpc": free_port()}
            site = Site(servers, **ports, **{"cors_origins": LISTED, "rate_limit": None, **settings})
            site = stack.enter_context(nginx.running(site, tmp_path))
            return stack.enter_context(httpx2.Client(base_url=f"http://127.0.0.1:{site.http}", timeout=20))

        yield start


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceNode]:
    """A node with an API key that lists `LISTED`, as a stack gives both the same list."""
    settings = {"SERVER__API_KEYS": KEY, "SERVER__CORS_ORIGINS": ",".join(LISTED)}
    with service_nodes(1, tmp_path_factory.mktemp("node"), **settings) as nodes:
        yield nodes[0]


def check_readable(answer: httpx2.Response, origin: str) -> None:
    """A page of `origin` may read the answer, and no cache gives it to another page."""
    assert answer.headers.get_list("access-control-allow-origin") == [origin]
    assert "retry-after" in answer.headers["access-control-expose-headers"].lower()
    assert answer.headers.get_list("vary") == ["Origin"]
    assert answer.headers.get_list("cache-control") == ["no-store"]


@pytest.mark.parametrize("origin", [APP, "http://localhost:5173", "https://a.b.example.org"])
def test_a_listed_page_may_read_the_gateways_own_errors(start: Start, origin: str) -> None:
    no_node = UpstreamServer("gpu-1", "127.0.0.1", free_port(), free_port())
    limit = RateLimit(per_second=1 / 60, burst=0)
    gateway = start(no_node, api_keys=(KEY,), body_limit=1000, rate_limit=limit)
    page = {"Origin": origin}
    with_key = {**page, "X-API-Key": KEY}
    answers = [
        gateway.post(ASR, headers=page),
        gateway.get("/nowhere", headers=page),
        gateway.post(ASR, headers=with_key, content=b"x" * 1001),
        gateway.post(ASR, headers=with_key),
        gateway.post(ASR, headers=with_key),
        gateway.get("/health", headers=page),
    ]
    assert [answer.status_code for answer in answers] == [401, 404, 413, 503, 429, 200]
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code in (429, 503))
    for answer in answers:
        check_readable(answer, origin)


@pytest.mark.parametrize("headers", [{"Origin": EVIL}, {"Origin": f"{APP}.net"}, {}])
def test_other_pages_may_not(start: Start, headers: dict[str, str]) -> None:
    answer = start().post(ASR, headers=headers)
    assert answer.status_code == 503
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"


def test_a_listed_pages_preflight_is_answered_without_a_node_and_without_a_key(start: Start) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key,x-own"}
    gateway = start(api_keys=(KEY,))
    for path in (ASR, "/v1/audio/transcriptions", "/nowhere"):
        answer = gateway.options(path, headers={"Origin": APP, **asked})
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers.get_list("access-control-allow-origin") == [APP]
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "x-api-key,x-own"
    refused = gateway.options(ASR, headers={"Origin": EVIL, **asked})
    assert refused.status_code == 401
    assert "access-control-allow-origin" not in refused.headers


def test_a_nodes_answers_have_each_header_once(start: Start, node: ServiceNode) -> None:
    gateway = start(node.upstream)
    headers = {"Origin": APP, "X-API-Key": KEY}
    for answer in (
        gateway.post("/api/v1/ai/emotion", headers=headers, json={"text": "hello"}),
        gateway.post(ASR, headers=headers, content=b"{"),
        gateway.post(ASR, headers={"Origin": APP}),
        gateway.get("/v1/models/none", headers=headers),
    ):
        check_readable(answer, APP)


@pytest.mark.parametrize(
    ("origin", "status"), [(None, 101), ("own", 101), (APP, 101), (EVIL, 403), ("http://127.0.0.1:1", 403)]
)
def test_a_websocket_opens_for_own_and_listed_pages(
    start: Start, node: ServiceNode, origin: str | None, status: int
) -> None:
    gateway = start(node.upstream)
    own = str(gateway.base_url).rstrip("/")
    address = f"{own.replace('http', 'ws')}/api/v1/ai/stream"
    try:
        with connect(
            address,
            origin=own if origin == "own" else origin,  # type: ignore[arg-type]
            additional_headers={"X-API-Key": KEY},
        ):
            assert status == 101
    except InvalidStatus as refused:
        assert refused.response.status_code == status


def test_every_page_may_call_where_all_are_listed(start: Start) -> None:
    answer = start(cors_origins=("*",)).get("/nowhere", headers={"Origin": EVIL})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "vary" not in answer.headers


def test_without_a_list_nginx_says_nothing_of_origins(start: Start) -> None:
    answer = start(cors_origins=()).get("/nowhere", headers={"Origin": APP})
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]
