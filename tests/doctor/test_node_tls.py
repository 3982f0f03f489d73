"""What the doctor says of a node's open ports and of the certificates between gateway and nodes."""

import asyncio
import datetime
import ssl
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography import x509

from inference_service import tls
from inference_service.settings.types import ServerTlsSettings
from infra.certificates import Identity, make_authority, node_identity
from infra.doctor.checks.exposure import exposure, with_tls, without_tls
from infra.doctor.checks.gateway import upstream
from infra.doctor.checks.node_tls import valid
from infra.doctor.findings import Outcome, Status
from infra.doctor.sites.docker_node import DockerNodeSite
from infra.gateway.render import UpstreamServer
from infra.stack import parse
from tests.ports import free_port

pytestmark = pytest.mark.fast

PUBLIC = "gpu-1.example.com"
NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
STACK = parse({"nodes": [{"host": f"ssh://root@{PUBLIC}"}]}, "prod")
AUTHORITY = make_authority()


def identity(days: int, now: datetime.datetime = NOW) -> Identity:
    return node_identity(AUTHORITY, "prod", "gpu-1", PUBLIC, days, now)


@pytest.mark.parametrize(
    ("address", "reached", "keyed", "status", "says"),
    [
        (PUBLIC, True, True, Status.WARNING, "gpu-1.example.com:8800 answers this computer without TLS"),
        (PUBLIC, True, False, Status.WARNING, "answers this computer without TLS and without an API key"),
        (PUBLIC, False, False, Status.OK, "its ports cannot be reached from this computer"),
        ("10.0.0.1", True, False, Status.OK, "without TLS, at an address of a private network"),
    ],
)
def test_a_public_node_that_answers_without_tls_or_key_is_a_warning(
    address: str, reached: bool, keyed: bool, status: Status, says: str
) -> None:
    outcome = without_tls(address, 8800, reached, keyed)
    assert (outcome.status, says in outcome.seen) == (status, True), outcome
    if status is Status.WARNING:
        assert ("gpu-inference:apiKeys" in outcome.remedy) is not keyed


@pytest.mark.parametrize("days", [3, 30, 90, 730, 3650])
def test_a_certificate_is_no_warning_until_an_update_that_would_renew_it_is_long_due(days: int) -> None:
    for passed in range(0, 2 * days, max(1, days // 20)):
        now = NOW + datetime.timedelta(days=passed)
        assert valid(identity(days, now).certificate, STACK, now).status is Status.OK, passed


@pytest.mark.parametrize("days", [3, 30, 90, 730])
def test_a_certificate_that_nobody_renews_is_a_warning_before_it_expires(days: int) -> None:
    made = identity(days).certificate
    end = x509.load_pem_x509_certificate(made.encode()).not_valid_after_utc
    hour = datetime.timedelta(hours=1)
    assert valid(made, STACK, end - hour).status is Status.WARNING
    last = valid(made, STACK, end + hour)
    assert last.status is Status.PROBLEM
    assert "the certificate expired on" in last.seen
    assert "`pulumi up --stack prod` renews it" in last.remedy


def test_a_service_without_a_certificate_is_a_problem() -> None:
    outcome = valid("", STACK)
    assert outcome.status is Status.PROBLEM
    assert "no certificate" in outcome.seen


def dialled(context: ssl.SSLContext | None) -> Outcome:
    """What the check says of a server with that TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    async def run() -> Outcome:
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            return await with_tls("127.0.0.1", port, "again")

    return asyncio.run(run())


def context() -> ssl.SSLContext:
    """That of a node's service."""
    own = identity(730, datetime.datetime.now(datetime.UTC))
    settings = {"certificate": own.certificate, "key": own.key, "client_ca": own.authority}
    made = tls.context(ServerTlsSettings.model_validate(settings))
    assert made is not None
    return made


def test_a_node_that_lets_only_the_gateway_in_is_as_it_should_be() -> None:
    outcome = dialled(context())
    assert outcome.status is Status.OK
    assert "answers nobody without the gateway's certificate" in outcome.seen


def test_a_node_that_answers_anybody_on_its_tls_port_is_a_problem() -> None:
    open_to_all = context()
    open_to_all.verify_mode = ssl.CERT_NONE
    assert "answers a client without a certificate" in dialled(open_to_all).seen
    assert "answers without TLS" in dialled(None).seen
    assert dialled(None).status is Status.PROBLEM


def test_a_node_that_also_answers_without_tls_is_a_warning_with_the_update_that_ends_it() -> None:
    async def run() -> Outcome:
        async with await asyncio.start_server(
            lambda _reader, writer: writer.close(), "127.0.0.1", 0
        ) as plain:
            node = SimpleNamespace(
                public_host="127.0.0.1",
                public_http_port=plain.sockets[0].getsockname()[1],
                public_http_tls_port=free_port(),
            )
            site = SimpleNamespace(
                stack=SimpleNamespace(node_tls=True, name="prod"),
                node=node,
                known_settings=SimpleNamespace(server=SimpleNamespace(api_keys=["a"])),
            )
            return await exposure(cast(DockerNodeSite, site))

    outcome = asyncio.run(run())
    assert outcome.status is Status.WARNING
    assert outcome.seen.endswith("answers without TLS too")
    assert outcome.remedy == "`pulumi up --stack prod` closes the ports that the gateway does not use"


@pytest.mark.parametrize("nodes", [True, False])
def test_a_node_with_tls_is_reached_though_it_answers_nothing_in_the_clear(nodes: bool) -> None:
    stack = parse({"nodes": [{"host": f"ssh://root@{PUBLIC}"}], "tls": {"nodes": nodes}}, "prod")

    async def run() -> Outcome:
        async with await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context()
        ) as server:
            port = server.sockets[0].getsockname()[1]
            site: Any = SimpleNamespace(stack=stack, access=None)
            return await upstream(site, UpstreamServer("gpu-1", "127.0.0.1", port, port), [])

    assert asyncio.run(run()).status is (Status.OK if nodes else Status.PROBLEM)


def test_a_node_with_tls_whose_port_is_closed_is_a_problem_with_the_key_of_that_port() -> None:
    site: Any = SimpleNamespace(stack=STACK, access=None)
    server = UpstreamServer("gpu-1", "127.0.0.1", free_port(), 9843)
    assert "publicHttpTlsPort" in asyncio.run(upstream(site, server, [])).remedy
