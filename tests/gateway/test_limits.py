"""What one client may take of the gateway, and who the client is: a real nginx before small real servers."""

from __future__ import annotations

import re
import socket
import ssl
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx2
import pytest

from infra.gateway.render import RateLimit, Tls
from tests.gateway.test_behaviour import (
    ASR,
    UNKNOWN_METHOD,
    Node,
    OpenChannel,
    Start,
    call,
    check_envelope,
    grpc_node,
    nodes,
    open_channel,
    serving_status,
    start,
    upstream,
)
from tests.gateway.test_render import certificate

__all__ = ["certificate", "nodes", "open_channel", "start"]

KEYS = ("first-key.0123", "other-key.0123")
HEALTH = "/api/v1/ai/health"


def with_key(key: str) -> dict[str, str]:
    return {"X-API-Key": key}


def test_each_key_has_a_rate_of_its_own(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port), api_keys=KEYS, rate_limit=RateLimit(1, 3))
    first = [client.post(ASR, headers=with_key(KEYS[0])).status_code for _ in range(8)]
    assert first[:4] == [200] * 4
    assert 429 in first
    assert client.post(ASR, headers=with_key(KEYS[1])).status_code == 200
    refused = next(
        answer for _ in range(8) if (answer := client.post(ASR, headers=with_key(KEYS[0]))).status_code == 429
    )
    assert "1r/s" in refused.json()["message"]
    assert "for each API key" in refused.json()["message"]
    assert KEYS[0] not in refused.text


def test_who_guesses_keys_is_slowed_down_and_those_with_a_key_are_not(
    start: Start, nodes: tuple[Node, Node]
) -> None:
    client = start(upstream(1, nodes[0].port), api_keys=KEYS)
    answers = [client.post(ASR, headers=with_key(f"guess-{n:06}")) for n in range(60)]
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() == {401, 429}
    assert 20 <= statuses[401] <= 30
    check_envelope(answers[0], 401)
    assert answers[0].headers["www-authenticate"] == "Bearer"
    check_envelope(answers[-1], 429)
    assert nodes[0].requests == []
    assert client.post(ASR, headers=with_key(KEYS[0])).status_code == 200


def test_who_guesses_keys_over_grpc_is_slowed_down(start: Start, open_channel: OpenChannel) -> None:
    with grpc_node() as port:
        channel = open_channel(start(upstream(1, 0, port), api_keys=KEYS))
        codes = Counter(
            call(channel, UNKNOWN_METHOD, (("x-api-key", f"guess-{n:06}"),)).code() for n in range(60)
        )
        assert codes.keys() == {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
        right = call(channel, UNKNOWN_METHOD, (("x-api-key", KEYS[0]),))
        assert right.code() is grpc.StatusCode.UNIMPLEMENTED, "the node's own answer"


@pytest.mark.parametrize("path", [HEALTH, "/docs", "/api/v1/ai/openapi.json"])
def test_what_needs_no_key_is_limited_too(start: Start, path: str) -> None:
    client = start(api_keys=KEYS, rate_limit=RateLimit())  # without a node the answers come fast
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", client.base_url.port or 0), 5) as connection:
        connection.sendall(300 * request + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        statuses = Counter(re.findall(rb"HTTP/1.1 (\d+) ", connection.makefile("rb").read()))
    assert statuses.keys() == {b"503", b"429"}
    assert statuses[b"503"] >= 60


def test_a_client_has_so_many_requests_at_once_and_no_more(start: Start, nodes: tuple[Node, Node]) -> None:
    nodes[0].delay = 0.5
    client = start(upstream(1, nodes[0].port), connection_limit=2)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: client.post(ASR), range(6)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == {200: 2, 429: 4}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "2 at the same time" in refused.json()["message"]


def test_what_a_client_writes_of_its_address_reaches_no_node(start: Start, nodes: tuple[Node, Node]) -> None:
    client = start(upstream(1, nodes[0].port))
    client.post(ASR, headers={"X-Forwarded-For": "203.0.113.6", "X-Real-IP": "203.0.113.6"})
    sent = nodes[0].requests[0][2]
    assert (sent["x-forwarded-for"], sent["x-real-ip"]) == ("127.0.0.1", "127.0.0.1")


def test_behind_a_trusted_proxy_the_client_is_whom_the_proxy_names(
    start: Start, nodes: tuple[Node, Node]
) -> None:
    client = start(upstream(1, nodes[0].port), trusted_proxies=("127.0.0.0/8",), rate_limit=RateLimit(1, 0))

    def status(forwarded: str) -> int:
        headers = {"X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https"}
        return client.post(ASR, headers=headers).status_code

    # What stands before the last address that is no proxy of ours is the client's own invention.
    assert status("198.51.100.9, 203.0.113.6, 127.0.0.2") == 200
    assert status("198.51.100.8, 203.0.113.6") == 429
    assert status("203.0.113.7") == 200
    sent = nodes[0].requests[0][2]
    assert (sent["x-real-ip"], sent["x-forwarded-for"]) == ("203.0.113.6", "203.0.113.6")
    assert sent["x-forwarded-proto"] == "https"


def test_a_proxy_may_name_the_client_by_the_proxy_protocol(start: Start, nodes: tuple[Node, Node]) -> None:
    port = httpx2.URL(
        start(upstream(1, nodes[0].port), trusted_proxies=("127.0.0.1",), proxy_protocol=True).base_url
    ).port
    with socket.create_connection(("127.0.0.1", port or 0), 5) as connection:
        connection.sendall(
            b"PROXY TCP4 203.0.113.6 127.0.0.1 5000 80\r\n"
            b"POST /api/v1/ai/asr HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        assert b" 200 " in connection.makefile("rb").readline()
    assert nodes[0].requests[0][2]["x-real-ip"] == "203.0.113.6"


@pytest.mark.parametrize("balancing", ["http2", "layer4"])
def test_the_proxy_protocol_comes_before_grpc_too(
    start: Start, nodes: tuple[Node, Node], balancing: str
) -> None:
    with grpc_node() as port:
        client = start(
            upstream(1, nodes[0].port, port),
            trusted_proxies=("127.0.0.1",),
            proxy_protocol=True,
            grpc_balancing=balancing,
        )
        greeting = b"PROXY TCP4 203.0.113.6 127.0.0.1 5000 80\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(
            [0, 0, 0, 4, 0, 0, 0, 0, 0]
        )
        with socket.create_connection(("127.0.0.1", client.grpc_port), 5) as connection:  # type: ignore[attr-defined]
            connection.sendall(greeting)
            assert connection.recv(9)[3] == 4, "the server's SETTINGS"


# HTTP/2 -------------------------------------------------------------------------------------------------


def test_a_connection_has_a_bounded_number_of_streams(start: Start) -> None:
    client = start()
    with socket.create_connection(("127.0.0.1", client.grpc_port), 5) as connection:  # type: ignore[attr-defined]
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        received = connection.makefile("rb")
        length = int.from_bytes(received.read(9)[:3])
        settings = received.read(length)
    values = {
        int.from_bytes(settings[at : at + 2]): int.from_bytes(settings[at + 2 : at + 6])
        for at in range(0, length, 6)
    }
    assert values[3] == 256, "SETTINGS_MAX_CONCURRENT_STREAMS"


def test_thousands_of_calls_over_one_channel_lose_none(start: Start, open_channel: OpenChannel) -> None:
    """nginx closes a connection after 1000 requests; gRPC clients open another one unseen."""
    with grpc_node() as port:
        channel = open_channel(start(upstream(1, 0, port)))
        with ThreadPoolExecutor(8) as pool:
            answers = Counter(pool.map(lambda _: serving_status(channel), range(2500)))
    assert answers == {"SERVING": 2500}


# TLS ----------------------------------------------------------------------------------------------------


def test_tls_has_strong_ciphers_only_and_no_tickets(
    start: Start,
    nodes: tuple[Node, Node],
    certificate: Tls,
) -> None:
    port = start(upstream(1, nodes[0].port), tls=certificate).base_url.port or 0

    def handshake(version: ssl.TLSVersion, ciphers: str) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=certificate.certificate)
        context.minimum_version = context.maximum_version = version
        if version is ssl.TLSVersion.TLSv1_2:
            context.set_ciphers(ciphers)
        return context.wrap_socket(
            socket.create_connection(("127.0.0.1", port), 5), server_hostname="localhost"
        )

    with handshake(ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM") as connection:
        assert connection.session is not None
        assert not connection.session.has_ticket
    with pytest.raises(ssl.SSLError):
        handshake(ssl.TLSVersion.TLSv1_2, "ECDHE+AES:!AESGCM:!AESCCM:@SECLEVEL=0")
    with handshake(ssl.TLSVersion.TLSv1_3, "") as connection:
        assert connection.version() == "TLSv1.3"
