"""The gateway as its clients see it: a real nginx in front of small real servers."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import httpx2
import psutil
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from infra.gateway.render import RateLimit, Site, Tls, UpstreamServer
from tests.gateway import nginx
from tests.gateway.test_render import certificate  # noqa: F401
from tests.ports import free_port

ASR = "/api/v1/ai/asr"


@dataclass
class Node:
    """A server that answers every request with `status` (0: with the end of the connection) and keeps the
    requests. `lost`: its runtime ends at every one, and it says so as nodes do."""

    name: str
    port: int = 0
    status: int = 200
    lost: bool = False
    delay: float = 0.0
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def serving(node: Node) -> Iterator[Node]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            node.requests.append((self.command, self.path, headers, body))
            time.sleep(node.delay)
            if not node.status:  # the process dies
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            reply = json.dumps({"node": node.name}).encode()
            self.send_response(500 if node.lost else node.status)
            if node.lost:
                self.send_header("X-Accel-Redirect", headers["x-ai-lost"])
            self.send_header("X-Request-ID", headers["x-request-id"])
            if node.status == 503:
                self.send_header("Retry-After", "7")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            """No log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    node.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield node
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def grpc_node(port: int = 0) -> Iterator[int]:
    """A gRPC server with the standard health service. Yields its port."""
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


def upstream(number: int, http: int, grpc_port: int = 0, drained: bool = False) -> UpstreamServer:
    return UpstreamServer(
        f"gpu-{number}", "127.0.0.1", http or free_port(), grpc_port or free_port(), drained
    )


Start = Callable[..., httpx2.Client]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway over the given servers and returns a client of it. All stop at the end."""
    with ExitStack() as stack:

        def start_gateway(
            *servers: UpstreamServer, rate_limit: RateLimit | None = None, **settings
        ) -> httpx2.Client:
            site = Site(servers, http=free_port(), grpc=free_port(), rate_limit=rate_limit, **settings)
            site = stack.enter_context(nginx.running(site, tmp_path))
            client = httpx2.Client(
                base_url=f"http{'s' if site.tls else ''}://127.0.0.1:{site.http}",
                verify=ssl.create_default_context(cafile=site.tls.certificate) if site.tls else True,
                timeout=20,
            )
            client.grpc_port = site.grpc  # type: ignore[attr-defined]
            return stack.enter_context(client)

        yield start_gateway


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node]]:
    with serving(Node("gpu-1")) as first, serving(Node("gpu-2")) as second:
        yield first, second


def check_envelope(answer: httpx2.Response, status: int) -> dict[str, object]:
    """The gateway's own errors have the format of the nodes' errors."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert sorted(body) == ["code", "data", "message", "request_id", "timestamp"]
    assert body["code"] == status
    assert body["data"] is None
    assert body["request_id"] == answer.headers["x-request-id"]
    assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
    return body


def test_requests_go_to_every_node(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(*(upstream(n, node.port) for n, node in enumerate(nodes)))
    answers = {client.post(ASR, content=b"x" * 3_000_000).json()["node"] for _ in range(8)}
    assert answers == {"gpu-1", "gpu-2"}
    assert nodes[0].requests[0][3] == b"x" * 3_000_000


def test_a_drained_node_gets_nothing(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port), upstream(2, nodes[1].port, drained=True))
    assert {client.post(ASR).json()["node"] for _ in range(8)} == {"gpu-1"}


def test_a_post_to_a_node_that_is_gone_is_answered_by_the_next(
    start: Start, nodes: tuple[Node, Node]
) -> None:
    client = start(upstream(1, free_port()), upstream(2, nodes[1].port))
    for _ in range(10):
        answer = client.post(ASR, content=b"audio")
        assert answer.json() == {"node": "gpu-2"}
    assert nodes[1].requests[-1][3] == b"audio"


def test_a_post_that_a_node_refuses_with_503_is_answered_by_the_next(
    start: Start, nodes: tuple[Node, Node]
) -> None:
    nodes[0].status = 503
    client = start(*(upstream(n, node.port) for n, node in enumerate(nodes)))
    for _ in range(10):
        assert client.post(ASR, content=b"audio").json() == {"node": "gpu-2"}
    assert len(nodes[0].requests) <= 3 + 1, "after 3 failures it is left alone"


@pytest.mark.parametrize(("number", "tries"), [(1, 1), (2, 2), (3, 2), (5, 3), (8, 5)])
def test_a_full_fleet_is_asked_at_more_than_half_of_its_nodes(start: Start, number: int, tries: int) -> None:
    with ExitStack() as stack:
        full = [stack.enter_context(serving(Node(f"gpu-{n}", status=503))) for n in range(number)]
        answer = start(*(upstream(n, node.port) for n, node in enumerate(full))).post(ASR, content=b"audio")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "7", "a node's own answer"
    assert sum(len(node.requests) for node in full) == tries


@pytest.mark.parametrize(
    ("number", "gone", "why"),
    [
        *((6, 3, why) for why in ("refuse", "are full", "refuse or are full")),
        *((8, 4, why) for why in ("refuse", "are full", "refuse or are full")),
        (8, 6, "refuse"),
    ],
)
def test_half_of_the_nodes_may_be_gone_or_full(start: Start, number: int, gone: int, why: str) -> None:
    with ExitStack() as stack:
        nodes = [stack.enter_context(serving(Node(f"gpu-{n}"))) for n in range(number)]
        for place, node in enumerate(nodes[:gone]):
            if why == "are full" or (why == "refuse or are full" and place % 2):
                node.status = 503
        refusing = [place < gone and node.status == 200 for place, node in enumerate(nodes)]
        client = start(*(upstream(n, 0 if refusing[n] else node.port) for n, node in enumerate(nodes)))
        answers = [client.post(ASR, content=b"audio") for _ in range(40)]
    assert [answer.status_code for answer in answers] == [200] * 40
    assert nodes[-1].requests[-1][3] == b"audio"


@pytest.mark.parametrize("refusing", [0, 3])
def test_a_request_that_kills_nodes_comes_to_two_of_them(start: Start, refusing: int) -> None:
    with ExitStack() as stack:
        nodes = [stack.enter_context(serving(Node(f"gpu-{n}", status=0))) for n in range(6)]
        client = start(*(upstream(n, 0 if n < refusing else node.port) for n, node in enumerate(nodes)))
        check_envelope(client.post(ASR, content=b"poison"), 503)
        assert sum(len(node.requests) for node in nodes) == 2
        for node in nodes:
            node.status = 200
        assert client.post(ASR, content=b"audio").status_code == 200


@pytest.mark.parametrize("number", [2, 6])
def test_a_request_that_ends_the_runtimes_of_nodes_runs_on_two_of_them(start: Start, number: int) -> None:
    with ExitStack() as stack:
        nodes = [stack.enter_context(serving(Node(f"gpu-{n}", lost=True))) for n in range(number)]
        client = start(*(upstream(n, node.port) for n, node in enumerate(nodes)))
        check_envelope(client.post(ASR, content=b"poison"), 503)
        assert sum(len(node.requests) for node in nodes) == 2
        for node in nodes:
            node.lost = False
        assert client.post(ASR, content=b"audio").status_code == 200


def test_a_request_whose_runtime_ends_is_answered_by_another_node(start: Start) -> None:
    with ExitStack() as stack:
        nodes = [stack.enter_context(serving(Node(f"gpu-{n}", lost=True))) for n in range(4)]
        client = start(*(upstream(n, node.port) for n, node in enumerate(nodes)))
        nodes[3].lost = False
        # Until its runtime is back, a node answers 503.
        for node in nodes[1:3]:
            node.lost, node.status = False, 503
        answers = [client.post(ASR, content=b"audio") for _ in range(8)]
        assert [answer.json() for answer in answers] == [{"node": "gpu-3"}] * 8
        assert not {"x-accel-redirect", "x-ai-lost"} & set(answers[0].headers)


def test_a_request_whose_node_dies_is_answered_by_another(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(*(upstream(n, node.port) for n, node in enumerate(nodes)))
    nodes[0].status = 0
    for _ in range(10):
        assert client.post(ASR, content=b"audio").json() == {"node": "gpu-2"}


@contextmanager
def cut_off() -> Iterator[int]:
    """The port of a host that answers no connection: the kernel drops those beyond the full backlog."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_request_that_a_cut_off_host_never_took_is_answered_by_another(
    start: Start, nodes: tuple[Node, Node]
) -> None:
    with cut_off() as port:
        client = start(upstream(1, port), upstream(2, nodes[1].port))
        answers = [client.post(ASR, content=b"audio") for _ in range(4)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"node": "gpu-2"})] * 4


def test_a_fleet_of_cut_off_hosts_answers_in_the_envelope(start: Start) -> None:
    with cut_off() as port:
        client = start(upstream(1, port))
        check_envelope(client.post(ASR, content=b"audio"), 504)


def test_a_node_whose_name_does_not_resolve_keeps_nobody_outside(
    start: Start, nodes: tuple[Node, Node]
) -> None:
    nameless = UpstreamServer("gpu-2", "gpu-2.invalid", 8800, 9800)
    client = start(upstream(1, nodes[0].port), nameless, resolver="127.0.0.1")
    assert [client.post(ASR).json() for _ in range(3)] == [{"node": "gpu-1"}] * 3


def test_a_node_that_failed_serves_again_after_seconds(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(*(upstream(n, node.port) for n, node in enumerate(nodes)))
    nodes[0].status = 503
    for _ in range(10):
        assert client.post(ASR).status_code == 200
    nodes[0].status = 200
    deadline = time.monotonic() + 20
    while client.post(ASR).json() != {"node": "gpu-1"}:
        assert time.monotonic() < deadline


def test_two_of_three_nodes_may_be_gone(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, 0), upstream(2, nodes[1].port), upstream(3, 0))
    assert [client.post(ASR).status_code for _ in range(10)] == [200] * 10


@pytest.mark.parametrize("keeps", [True, False], ids=["nginx 1.27.4", "older nginx"])
def test_a_reload_keeps_idle_connections_where_nginx_can(
    start: Start, nodes: tuple[Node, Node], tmp_path: Path, keeps: bool
) -> None:
    client = start(upstream(1, nodes[0].port), keeps_connections=keeps)
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), 10) as connection:
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        before = psutil.Process(int((tmp_path / "nginx.pid").read_text())).children()
        before[0].parent().send_signal(signal.SIGHUP)
        # The old workers close their idle connections when they notice the reload.
        deadline = time.monotonic() + 20
        while not all(_is_shutting_down(worker) for worker in before):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if keeps:
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        else:
            assert connection.recv(65536) == b""


def _is_shutting_down(worker: psutil.Process) -> bool:
    try:
        return "shutting down" in " ".join(worker.cmdline())
    except psutil.NoSuchProcess:
        return True


def test_nodes_that_were_all_full_a_moment_ago_are_asked_again(
    start: Start, nodes: tuple[Node, Node]
) -> None:
    """A full node's 503 counts as a failure, which must not close the whole fleet for 30 s."""
    client = start(*(upstream(n, node.port) for n, node in enumerate(nodes)))
    for node in nodes:
        node.status = 503
    for _ in range(12):
        answer = client.post(ASR, content=b"audio")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "7", "the node's own answer"
    for node in nodes:
        node.status = 200
    for _ in range(12):
        assert client.post(ASR, content=b"audio").status_code == 200
    assert nodes[0].requests[-1][3] == b"audio"


def test_a_node_that_came_back_a_moment_ago_stands_in_for_the_other(
    start: Start, nodes: tuple[Node, Node]
) -> None:
    client = start(*(upstream(n, node.port) for n, node in enumerate(nodes)))
    nodes[0].status = 503
    for _ in range(10):
        assert client.post(ASR).status_code == 200
    nodes[0].status, nodes[1].status = 200, 503  # nginx still avoids the first
    for _ in range(10):
        assert client.post(ASR).json() == {"node": "gpu-1"}


def test_one_node_alone_that_was_full_a_moment_ago_is_asked_again(
    start: Start, nodes: tuple[Node, Node]
) -> None:
    client = start(upstream(1, nodes[0].port), upstream(2, nodes[1].port, drained=True))
    nodes[0].status = 503
    answers = [client.post(ASR) for _ in range(8)]
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in answers] == [(503, "7")] * 8
    nodes[0].status = 200
    assert [client.post(ASR).status_code for _ in range(8)] == [200] * 8


@pytest.mark.parametrize("servers", [(), (upstream(1, 1, 1, drained=True),)], ids=["no node", "all drained"])
def test_a_fleet_without_nodes_answers_503(start: Start, servers: tuple[UpstreamServer, ...]) -> None:
    answer = start(*servers).post(ASR, content=b"audio", headers={"X-Request-ID": "mine-1"})
    body = check_envelope(answer, 503)
    assert body["request_id"] == "mine-1"
    assert body["message"] == "no node can take the request now"
    assert int(answer.headers["retry-after"]) > 0


def test_a_fleet_whose_nodes_are_all_gone_answers_503(start: Start) -> None:
    client = start(upstream(1, 0), upstream(2, 0))
    for _ in range(5):
        answer = client.get("/api/v1/ai/info")
        check_envelope(answer, 503)
        assert int(answer.headers["retry-after"]) > 0


def test_health_passes_over_a_node_that_hangs(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port), upstream(2, nodes[1].port))
    nodes[0].delay = 60
    for _ in range(2):
        begun = time.monotonic()
        answer = client.get("/api/v1/ai/health")
        assert (answer.status_code, answer.json()["node"]) == (200, "gpu-2")
        assert time.monotonic() - begun < 20


def test_health_of_a_fleet_that_hangs_is_reported_in_time(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port))
    nodes[0].delay = 60
    for _ in range(2):
        begun = time.monotonic()
        check_envelope(client.get("/api/v1/ai/health"), 504)
        assert time.monotonic() - begun < 20


def test_an_answer_about_a_recording_may_take_longer_than_another(
    start: Start, nodes: tuple[Node, Node]
) -> None:
    client = start(upstream(1, nodes[0].port), answer_seconds=1, recording_seconds=60)
    nodes[0].delay = 2
    routes = ("/api/v1/ai/emotion", ASR, "/api/v1/ai/batch", "/v1/audio/transcriptions")
    with futures.ThreadPoolExecutor(len(routes)) as pool:
        answers = list(pool.map(lambda route: client.post(route, content=b"audio"), routes))
    assert [answer.status_code for answer in answers] == [504, 200, 200, 200]


def test_health_asks_a_node_that_failed_a_moment_ago(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port), upstream(2, nodes[1].port, drained=True))
    nodes[0].status = 503
    for _ in range(5):
        assert client.get("/api/v1/ai/health").status_code == 503
    nodes[0].status = 200
    assert client.get("/api/v1/ai/health").status_code == 200


def test_of_offers_of_another_protocol_only_a_websockets_reaches_a_node(
    start: Start, nodes: tuple[Node, Node]
) -> None:
    client = start(upstream(1, nodes[0].port))
    for offer, passed_on in (("h2c", None), ("WebSocket", "websocket")):
        assert client.post(ASR, headers={"Upgrade": offer, "Connection": "Upgrade"}).status_code == 200
        assert nodes[0].requests[-1][2].get("upgrade") == passed_on


def test_a_body_over_the_limit_is_413(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port), body_limit=1_000_000)
    assert client.post(ASR, content=b"x" * 1_000_000).status_code == 200
    body = check_envelope(client.post(ASR, content=b"x" * 1_000_001), 413)
    assert "1000000 bytes" in str(body["message"])
    chunked = client.post(ASR, content=(b"x" * 100_000 for _ in range(11)))
    check_envelope(chunked, 413)
    assert len(nodes[0].requests) == 1


def test_an_unknown_route_is_404(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port))
    check_envelope(client.get("/metrics"), 404)
    check_envelope(client.get("/api/v2"), 404)
    assert nodes[0].requests == []


def test_refusals_on_openais_routes_are_openais_errors(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(api_keys=("first-key.0123",), body_limit=1000, rate_limit=RateLimit(1, 0))
    headers = {"Authorization": "Bearer first-key.0123"}

    def refused(status: int, **options: object) -> dict[str, object]:
        answer = client.post("/v1/audio/transcriptions", **options)
        assert answer.status_code == status, answer.text
        assert list(answer.json()) == ["error"]
        return answer.json()["error"]

    assert refused(401) == {
        "message": "missing or wrong API key",
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }
    assert refused(413, content=b"x" * 1001, headers=headers)["type"] == "invalid_request_error"
    assert refused(503, headers=headers)["type"] == "server_error"
    assert refused(429, headers=headers)["type"] == "rate_limit_error"


def test_bytes_that_are_not_http_are_400(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port))
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), 5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nbad header\x00\r\n\r\n")
        reply = connection.makefile("rb").read()
    assert b" 400 " in reply.splitlines()[0]
    assert json.loads(reply.split(b"\r\n\r\n", 1)[1])["code"] == 400
    check_envelope(client.get(ASR, headers={"X-Long": "x" * 40_000}), 431)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /api/v1/ai/../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /api/v1/ai/%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /docs/..%2f..%2fetc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50), 400),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
    ],
    ids=["above the root", "NUL in the path", "encoded slashes", "TLS to a plain port", "long", "HTTP/3.0"],
)
def test_a_request_line_that_nginx_cannot_read_is_refused_in_the_envelope(
    start: Start, nodes: tuple[Node, Node], request_bytes: bytes, status: int
) -> None:
    client = start(upstream(1, nodes[0].port))
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), 5) as connection:
        connection.sendall(request_bytes)
        reply = connection.makefile("rb").read()
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.splitlines()[0].split()[1] == str(status).encode()
    assert json.loads(body)["code"] == status
    assert json.loads(body)["data"] is None
    assert nodes[0].requests == []


def test_a_client_over_the_rate_is_429_with_when_to_come_back(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port), rate_limit=RateLimit(1, 3))
    answers = [client.post(ASR) for _ in range(8)]
    assert [answer.status_code for answer in answers[:4]] == [200] * 4
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) >= 3
    check_envelope(refused[0], 429)
    assert int(refused[0].headers["retry-after"]) > 0
    assert client.get("/api/v1/ai/health").status_code == 200, "health is not limited"


def test_the_request_id_is_the_clients_or_a_new_one(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port))

    def sent_and_answered(headers: dict[str, str]) -> tuple[str, list[str]]:
        answer = client.post(ASR, headers=headers)
        return nodes[0].requests[-1][2]["x-request-id"], answer.headers.get_list("x-request-id")

    assert sent_and_answered({"X-Request-ID": "abc/1"}) == ("abc/1", ["abc/1"])
    assert sent_and_answered({"Request-ID": "def"}) == ("def", ["def"])
    assert sent_and_answered({"X-Request-ID": "abc", "Request-ID": "def"}) == ("abc", ["abc"])
    made, answered = sent_and_answered({})
    assert [made] == answered
    assert re.fullmatch("[0-9a-f]{32}", made)
    for unfit in ('a"b', "a\\b", "a b", "x" * 129):  # ids that need escaping
        made, answered = sent_and_answered({"X-Request-ID": unfit})
        assert [made] == answered
        assert re.fullmatch("[0-9a-f]{32}", made)


def test_answers_carry_security_headers_and_no_nginx_version(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port))
    for answer in (client.post(ASR), client.get("/nowhere"), client.get("/health")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert not re.search("nginx/", answer.headers.get("server", ""))


def test_the_gateways_own_health_needs_no_node(start: Start) -> None:
    answer = start().get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


def test_the_access_log_is_json_with_the_node_and_its_times(
    start: Start, nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    client = start(upstream(1, nodes[0].port), api_keys=("the-secret-key",))
    headers = {"X-Request-ID": "logged", "User-Agent": 'a "quoted" agent', "X-API-Key": "the-secret-key"}
    client.post(f"{ASR}?x=1", content=b"audio", headers=headers)
    log = tmp_path / "access.log"
    deadline = time.monotonic() + 10
    while f'"uri":"{ASR}"' not in (text := log.read_text()):  # nginx logs a request after it has answered
        assert time.monotonic() < deadline, f"no line for the request in {text!r}"
        time.sleep(0.02)
    line = next(entry for entry in map(json.loads, text.splitlines()) if entry["uri"] == ASR)
    assert line["request_id"] == "logged"
    assert line["status"] == 200
    assert line["upstream"] == f"127.0.0.1:{nodes[0].port}"
    assert line["upstream_status"] == "200"
    assert float(line["upstream_seconds"]) >= 0
    assert line["user_agent"] == 'a "quoted" agent'
    assert "the-secret-key" not in text


def test_where_keys_are_set_only_they_come_in(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port), api_keys=("first-key.0123", "Second+Key"))

    def status(**headers: str) -> int:
        return client.post(
            ASR, headers={name.replace("_", "-"): value for name, value in headers.items()}
        ).status_code

    assert status(X_API_Key="first-key.0123") == 200
    assert status(Authorization="Bearer Second+Key") == 200
    assert status(Authorization="bearer Second+Key") == 200
    for refused in (
        {"X_API_Key": "second+key"},
        {"X_API_Key": "first-keyX0123"},
        {"X_API_Key": "first-key.01234"},
        {"Authorization": "Basic Second+Key"},
        {"Authorization": "Bearer"},
        {},
    ):
        assert status(**refused) == 401, refused
    answer = client.post(ASR)
    check_envelope(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/api/v1/ai/health", "/docs", "/api/v1/ai/openapi.json"):
        assert client.get(path).status_code == 200, f"{path} needs no key, as on the nodes"


@pytest.mark.parametrize(
    "offered",
    [
        "api-key.first-key.0123",
        "ai-stream, api-key.first-key.0123",
        "realtime, openai-insecure-api-key.first-key.0123, openai-beta.realtime-v1",
    ],
)
def test_a_browsers_websocket_brings_its_key_as_a_subprotocol(
    start: Start, nodes: tuple[Node, Node], offered: str
) -> None:
    client = start(upstream(1, nodes[0].port), api_keys=("first-key.0123",))
    headers = {"Connection": "upgrade", "Upgrade": "websocket", "Sec-WebSocket-Protocol": offered}
    assert client.get("/api/v1/ai/stream", headers=headers).status_code == 200
    sent = nodes[0].requests[0][2]
    assert (sent["upgrade"], sent["connection"], sent["sec-websocket-protocol"]) == (
        "websocket",
        "upgrade",
        offered,
    )
    headers["Sec-WebSocket-Protocol"] = "api-key.other"
    assert client.get("/api/v1/ai/stream", headers=headers).status_code == 401


def test_a_slow_upload_reaches_the_node_only_when_it_is_complete(
    start: Start, nodes: tuple[Node, Node]
) -> None:
    client = start(upstream(1, nodes[0].port))
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), 5) as connection:
        connection.sendall(
            b"POST /api/v1/ai/asr HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nab"
        )
        time.sleep(0.3)
        assert nodes[0].requests == []
        connection.sendall(b"cd")
        assert b" 200 " in connection.makefile("rb").read().splitlines()[0]
    assert nodes[0].requests[0][3] == b"abcd"


def test_tls_ends_at_the_gateway(start: Start, nodes: tuple[Node, Node], certificate: Tls) -> None:  # noqa: F811
    with grpc_node() as port:
        client = start(upstream(1, nodes[0].port, port), tls=certificate)
        answer = client.post(ASR)
        assert answer.json() == {"node": "gpu-1"}
        assert "strict-transport-security" in answer.headers
        assert nodes[0].requests[0][2]["x-forwarded-proto"] == "https"
        plain = httpx2.get(f"http://127.0.0.1:{client.base_url.port}/")
        assert plain.status_code == 400
        credentials = grpc.ssl_channel_credentials(Path(certificate.certificate).read_bytes())
        with grpc.secure_channel(f"localhost:{client.grpc_port}", credentials) as channel:  # type: ignore[attr-defined]
            assert serving_status(channel) == "SERVING"


def serving_status(channel: grpc.Channel, **metadata: str) -> str:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10, metadata=tuple(metadata.items()))
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def call(channel: grpc.Channel, method: str, metadata: tuple[tuple[str, str], ...] = ()) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as refusal:
        channel.unary_unary(method)(b"", timeout=10, metadata=metadata)
    return refusal.value


@pytest.fixture
def open_channel() -> Iterator[Callable[[httpx2.Client], grpc.Channel]]:
    with ExitStack() as stack:
        yield lambda client: stack.enter_context(
            grpc.insecure_channel(f"127.0.0.1:{client.grpc_port}")  # type: ignore[attr-defined]
        )


OpenChannel = Callable[[httpx2.Client], grpc.Channel]
UNKNOWN_METHOD = "/grpc.AIService/ProcessAudioData"


@pytest.mark.parametrize("balancing", ["http2", "layer4"])
def test_grpc_calls_reach_a_node_also_when_the_other_is_gone(
    start: Start, open_channel: OpenChannel, balancing: str
) -> None:
    with grpc_node() as port:
        channel = open_channel(start(upstream(1, 0, 0), upstream(2, 0, port), grpc_balancing=balancing))
        assert [serving_status(channel) for _ in range(8)] == ["SERVING"] * 8
        assert call(channel, UNKNOWN_METHOD).code() is grpc.StatusCode.UNIMPLEMENTED, "the node's own answer"


@pytest.mark.parametrize("number", [0, 2])
def test_grpc_without_a_node_is_unavailable(start: Start, open_channel: OpenChannel, number: int) -> None:
    channel = open_channel(start(*(upstream(n, 0, 0) for n in range(number))))
    for _ in range(5):
        error = call(channel, UNKNOWN_METHOD)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.details() == "no node can take the call now"


def test_grpc_nodes_that_were_all_gone_a_moment_ago_are_asked_again(
    start: Start, open_channel: OpenChannel
) -> None:
    ports = [free_port(), free_port()]
    channel = open_channel(start(*(upstream(n, 0, port) for n, port in enumerate(ports))))
    for _ in range(5):
        assert call(channel, UNKNOWN_METHOD).code() is grpc.StatusCode.UNAVAILABLE
    with grpc_node(ports[0]):
        assert serving_status(channel) == "SERVING"


def test_grpc_keys_are_metadata(start: Start, open_channel: OpenChannel) -> None:
    with grpc_node() as port:
        channel = open_channel(start(upstream(1, 0, port), api_keys=("first-key.0123",)))
        for metadata in ((("x-api-key", "first-key.0123"),), (("authorization", "Bearer first-key.0123"),)):
            assert call(channel, UNKNOWN_METHOD, metadata).code() is grpc.StatusCode.UNIMPLEMENTED
        assert call(channel, UNKNOWN_METHOD).code() is grpc.StatusCode.UNAUTHENTICATED
        assert serving_status(channel) == "SERVING", "health needs no key"


def test_grpc_over_the_rate_is_resource_exhausted(start: Start, open_channel: OpenChannel) -> None:
    with grpc_node() as port:
        channel = open_channel(start(upstream(1, 0, port), rate_limit=RateLimit(1, 2)))
        codes = [call(channel, UNKNOWN_METHOD).code() for _ in range(6)]
    assert codes[:3] == [grpc.StatusCode.UNIMPLEMENTED] * 3
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/grpc-web+proto"}])
def test_what_is_not_grpc_is_refused_on_the_grpc_entrance_and_held_against_no_node(
    start: Start, open_channel: OpenChannel, headers: dict[str, str]
) -> None:
    with grpc_node() as port:
        client = start(upstream(1, 0, port))
        for _ in range(6):
            address = f"http://127.0.0.1:{client.grpc_port}/"  # type: ignore[attr-defined]
            answer = httpx2.post(address, headers=headers, timeout=5)
            assert answer.headers["grpc-status"] == "13"
            assert answer.headers["grpc-message"] == "not a valid gRPC request"
        assert serving_status(open_channel(client)) == "SERVING"
