"""The doctor's checks of nginx's configuration and log, and of the gateway's certificate."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from infra.doctor.checks import gateway as checks
from infra.doctor.checks.certificate import certificate, covers, expiry, names
from infra.doctor.checks.nginx_configuration import configuration, upstream_servers
from infra.doctor.findings import Failed, Outcome, Status
from infra.doctor.host_access import NoAnswer
from infra.doctor.sites.gateway import GatewaySite, recent
from infra.gateway.render import UpstreamServer, render_servers
from infra.stack import parse
from tests.ports import free_port

NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
AVOIDED = (
    "2026/03/01 12:00:05 [warn] 7#7: *3 upstream server temporarily disabled while connecting to upstream, "
    'client: 192.0.2.7, server: _, request: "POST /api/v1/ai/asr HTTP/1.1", '
    'upstream: "http://192.0.2.2:8800/api/v1/ai/asr", host: "ai.example.com"'
)


class Site(GatewaySite):
    """A gateway with this log and configuration."""

    repair = log = "see nginx"
    reload = "nginx -s reload"

    def __init__(
        self, log_text: str | None = "", actual: str = "", declared: str = "", **gateway: object
    ) -> None:
        nodes = [{"name": f"gpu-{number}", "host": f"ssh://root@192.0.2.{number}"} for number in (1, 2)]
        super().__init__(parse({"nodes": nodes, "gateway": {"host": "ssh://root@192.0.2.9", **gateway}}))
        self.log_text = log_text
        self.actual, self.declared = actual, declared

    async def configuration(self) -> tuple[str, str]:
        return self.actual, self.declared

    async def recent_log(self) -> str:
        if self.log_text is None:
            raise NoAnswer("nginx's error log cannot be read: Permission denied")
        return self.log_text


def avoided(log: str | None) -> Outcome:
    return asyncio.run(checks.avoided(Site(log)))


SITE = """
events {}
http {
    server { listen 8080; location / { proxy_pass http://ai_inference_service; } }
    upstream other { server 192.0.2.9:1; }
    upstream ai_inference_service {
        zone ai 1m;  # shared
        server 192.0.2.1:8800 max_fails=3;  # gpu-1
        server [2001:db8::2]:8800 down;  # gpu-2
        server 192.0.2.3:8800;
    }
}
"""


def test_the_servers_of_the_upstream_have_name_address_and_whether_they_are_drained() -> None:
    assert upstream_servers(SITE) == [
        "gpu-1 (192.0.2.1:8800)",
        "gpu-2 ([2001:db8::2]:8800, down)",
        "an unnamed node (192.0.2.3:8800)",
    ]


def test_all_servers_of_an_upstream_file_count() -> None:
    servers = (UpstreamServer("gpu-1", "192.0.2.7", 8800, 9800),)
    assert upstream_servers(render_servers("prod", servers)) == ["gpu-1 (192.0.2.7:8800)"]


@pytest.mark.parametrize(
    ("actual", "status", "seen"),
    [
        (SITE, Status.OK, "as declared; upstreams: gpu-1 (192.0.2.1:8800), gpu-2"),
        (SITE.replace("192.0.2.1:", "192.0.2.8:"), Status.PROBLEM, "it lacks gpu-1 (192.0.2.1:8800)"),
        (SITE.replace("192.0.2.1:", "192.0.2.8:"), Status.PROBLEM, "it sends to gpu-1 (192.0.2.8:8800)"),
        (SITE.replace("1m", "2m"), Status.WARNING, "+        zone ai 2m;"),
        ("http {", Status.PROBLEM, "it lacks gpu-1"),
    ],
)
def test_a_configuration_that_differs_is_reported_by_its_upstreams_or_its_lines(
    actual: str, status: Status, seen: str
) -> None:
    outcome = asyncio.run(configuration(Site("", actual, SITE)))
    assert outcome.status is status
    assert seen in outcome.seen
    assert outcome.remedy == ("" if status is Status.OK else "see nginx")


def test_a_node_that_nginx_avoids_is_reported_by_name_and_in_nginx_message() -> None:
    outcome = avoided(f"{AVOIDED}\n{AVOIDED}")
    assert outcome.status is Status.WARNING
    assert "gpu-2 (192.0.2.2:8800)" in outcome.seen
    assert "upstream server temporarily disabled" in outcome.seen
    assert "gpu-1" not in outcome.seen


def test_other_lines_of_the_log_blame_no_node() -> None:
    assert avoided(AVOIDED.replace("server temporarily disabled", "timed out")).status is Status.OK


def test_a_log_that_cannot_be_read_is_reported_as_unknown() -> None:
    assert avoided(None) == Outcome(
        Status.OK, "not known: nginx's error log cannot be read: Permission denied"
    )


def test_only_the_log_of_the_time_that_nginx_avoids_a_node_counts() -> None:
    log = f"{AVOIDED}\n  a second line of it\n"
    assert recent(log, datetime.datetime(2026, 3, 1, 12, 0, 10)).splitlines()[0] == AVOIDED
    assert recent(log, datetime.datetime(2026, 3, 1, 12, 0, 11)) == ""


@pytest.mark.parametrize(
    ("days", "status", "seen"),
    [
        (-1, Status.PROBLEM, "expired on 2026-02-28"),
        (5, Status.WARNING, "expires on 2026-03-06, in 5 days"),
        (90, Status.OK, "valid until 2026-05-30"),
    ],
)
def test_a_certificate_is_reported_before_it_expires(days: int, status: Status, seen: str) -> None:
    outcome = expiry(NOW + datetime.timedelta(days=days), NOW, "renew it")
    assert outcome.status is status
    assert seen in outcome.seen


@pytest.mark.parametrize(
    ("certificate", "host", "covered"),
    [
        (["ai.example.com"], "AI.example.com", True),
        (["*.example.com"], "ai.example.com", True),
        (["*.example.com"], "eu.ai.example.com", False),
        (["example.com", "192.0.2.9"], "192.0.2.9", True),
        (["example.com"], "192.0.2.9", False),
        ([], "ai.example.com", False),
    ],
)
def test_a_certificate_is_for_its_names_and_those_below_a_star(
    certificate: list[str], host: str, covered: bool
) -> None:
    assert covers(certificate, host) == covered


def made(alternatives: Sequence[str], days: int = 60) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A self-signed certificate of the common name `site` for these names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days, hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if alternatives:
        general = [
            x509.IPAddress(ipaddress.ip_address(each)) if each[0].isdigit() else x509.DNSName(each)
            for each in alternatives
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder.sign(key, hashes.SHA256()), key


def self_signed(folder: Path, alternatives: Sequence[str], days: int) -> tuple[Path, Path]:
    """The files of a key and of its certificate."""
    certificate, key = made(alternatives, days)
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file


@pytest.mark.parametrize(
    ("alternatives", "expected"),
    [(["b.example.com", "192.0.2.9"], ["b.example.com", "192.0.2.9"]), ([], ["site"])],
)
def test_the_names_of_a_certificate_are_its_alternatives_or_its_common_name(
    alternatives: list[str], expected: list[str]
) -> None:
    assert names(made(alternatives)[0]) == expected


@pytest.mark.parametrize(
    ("days", "name", "status"),
    [
        (3, "127.0.0.1", Status.WARNING),
        (60, "127.0.0.1", Status.OK),
        (60, "ai.example.com", Status.WARNING),
    ],
)
def test_the_certificate_that_is_served_is_the_one_that_counts(
    tmp_path: Path, days: int, name: str, status: Status
) -> None:
    key, certificate_file = self_signed(tmp_path, [name], days)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate_file, key)

    async def examine() -> Outcome:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            tls = {"certificate": "/etc/tls/site.pem", "key": "/etc/tls/site.key"}
            return await certificate(Site(http=port, tls=tls, publicHost="127.0.0.1"))

    outcome = asyncio.run(examine())
    assert outcome.status is status
    if name == "ai.example.com":
        assert outcome.seen == "the certificate is for ai.example.com, not for 127.0.0.1"
    elif status is Status.OK:
        assert "this computer does not trust it by itself: self-signed certificate" in outcome.seen
    else:
        assert outcome.remedy == "renew /etc/tls/site.pem on the gateway's host, then nginx -s reload"


# The HTTP entrance, and the way from the gateway to the nodes


def test_a_gateway_that_refuses_connections_is_a_problem() -> None:
    site = Site(http=free_port(), publicHost="127.0.0.1")
    with pytest.raises(Failed) as failed:
        asyncio.run(checks.http(site))
    assert "cannot be reached: Connection refused" in failed.value.outcome.seen
    assert failed.value.outcome.remedy == (
        "check that nginx runs, and that no firewall blocks the port; see nginx"
    )


def test_a_healthy_node_that_the_gateway_does_not_reach_is_a_problem() -> None:
    site = Site()
    site.access = None  # the gateway's host is this computer
    outcome = asyncio.run(checks.upstream(site, UpstreamServer("gpu-2", "127.0.0.1", free_port(), 1), []))
    assert outcome.status is Status.PROBLEM
    assert outcome.seen.startswith("from the gateway's host, node gpu-2 at 127.0.0.1:")
    assert outcome.seen.endswith("Connection refused")
    assert "check publicHost and publicHttpPort of gpu-2, and the firewall" in outcome.remedy


# The gRPC entrance


class Health(health_pb2_grpc.HealthServicer):
    """A gateway whose next answers are these. It stands for nginx before nodes that are cut off."""

    def __init__(self, *answers: grpc.StatusCode | None) -> None:
        self.answers = list(answers)

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        code = self.answers.pop(0)
        if code is not None:
            await context.abort(code, "no node can take the call now")
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


def grpc_health(health: Health, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """What the doctor says of a gateway with this gRPC entrance."""

    async def asked() -> Outcome:
        server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            site = Site()
            site.grpc_address = f"127.0.0.1:{port}"
            return await checks.grpc_health(site)
        finally:
            await server.stop(0)

    monkeypatch.setattr(checks, "_PAUSE_SECONDS", 0.0)
    return asyncio.run(asked())


def test_calls_that_nginx_lost_to_a_node_that_was_just_cut_off_are_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = grpc.StatusCode.UNAVAILABLE
    outcome = grpc_health(Health(away, away, away, None), monkeypatch)
    assert outcome.status is Status.OK, outcome


def test_a_grpc_entrance_that_reaches_no_node_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = grpc_health(Health(*[grpc.StatusCode.UNAVAILABLE] * 4), monkeypatch)
    assert outcome.status is Status.PROBLEM
    assert "UNAVAILABLE: no node can take the call now" in outcome.seen


def test_another_error_of_the_grpc_entrance_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    health = Health(grpc.StatusCode.UNIMPLEMENTED, None)
    assert grpc_health(health, monkeypatch).status is Status.PROBLEM
    assert len(health.answers) == 1
