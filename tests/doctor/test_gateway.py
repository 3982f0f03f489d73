"""The doctor's findings about the gateway's certificate and nginx's log."""

from __future__ import annotations

import asyncio
import datetime
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from infra.doctor.checks.gateway import GatewayChecks, covers, expiry, recent
from infra.doctor.findings import Outcome, Status
from infra.doctor.reach import NoAnswer, Reach
from infra.stack import Stack, parse

NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
AVOIDED = (
    "2026/03/01 12:00:05 [warn] 7#7: *3 upstream server temporarily disabled while connecting to upstream, "
    'client: 192.0.2.7, server: _, request: "POST /api/v1/ai/asr HTTP/1.1", '
    'upstream: "http://192.0.2.2:8800/api/v1/ai/asr", host: "ai.example.com"'
)


class Log:
    """The methods of a site that the checks of the log call."""

    repair = log = "see nginx"
    reload = "nginx -s reload"

    def __init__(self, text: str | None) -> None:
        self.text = text

    @property
    def reach(self) -> Reach | None:
        return None

    async def configuration(self) -> tuple[str, str]:
        raise NoAnswer("not asked here")

    async def recent_log(self) -> str:
        if self.text is None:
            raise NoAnswer("nginx's error log cannot be read: Permission denied")
        return self.text


def checks(log: str | None = "", **gateway: object) -> GatewayChecks:
    nodes = [{"name": f"gpu-{number}", "host": f"ssh://root@192.0.2.{number}"} for number in (1, 2)]
    stack: Stack = parse({"nodes": nodes, "gateway": {"host": "ssh://root@192.0.2.9", **gateway}})
    return GatewayChecks(stack, Log(log), [], None)


def avoided(log: str | None) -> Outcome:
    return asyncio.run(checks(log).avoided())


def test_a_node_that_nginx_avoids_is_told_by_name_and_in_nginx_words() -> None:
    found = avoided(f"{AVOIDED}\n{AVOIDED}")
    assert found.status is Status.WARNING
    assert "gpu-2 (192.0.2.2:8800)" in found.seen
    assert "upstream server temporarily disabled" in found.seen
    assert "gpu-1" not in found.seen


def test_other_lines_of_the_log_accuse_no_node() -> None:
    assert avoided(AVOIDED.replace("server temporarily disabled", "timed out")).status is Status.OK


def test_a_log_that_cannot_be_read_is_said_to_be_unknown() -> None:
    assert avoided(None) == Outcome(
        Status.OK, "not known: nginx's error log cannot be read: Permission denied"
    )


def test_only_the_last_half_minute_of_the_log_counts() -> None:
    log = f"{AVOIDED}\n  a second line of it\n"
    assert recent(log, datetime.datetime(2026, 3, 1, 12, 0, 30)).splitlines()[0] == AVOIDED
    assert recent(log, datetime.datetime(2026, 3, 1, 12, 0, 36)) == ""


@pytest.mark.parametrize(
    ("days", "status", "seen"),
    [
        (-1, Status.PROBLEM, "expired on 2026-02-28"),
        (5, Status.WARNING, "expires on 2026-03-06, in 5 days"),
        (90, Status.OK, "good until 2026-05-30"),
    ],
)
def test_a_certificate_is_told_before_it_expires(days: int, status: Status, seen: str) -> None:
    found = expiry(NOW + datetime.timedelta(days=days), NOW, "renew it")
    assert found.status is status
    assert seen in found.seen


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


@pytest.mark.parametrize(
    ("days", "name", "status"),
    [
        (3, "IP:127.0.0.1", Status.WARNING),
        (60, "IP:127.0.0.1", Status.OK),
        (60, "DNS:ai.example.com", Status.WARNING),
    ],
)
def test_the_certificate_that_is_served_is_the_one_that_counts(
    tmp_path: Path, days: int, name: str, status: Status
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the test's certificate, is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=site"
    files = [
        "-addext",
        f"subjectAltName={name}",
        "-days",
        str(days),
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def examined() -> Outcome:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            tls = {"certificate": "/etc/tls/site.pem", "key": "/etc/tls/site.key"}
            return await checks(http=port, tls=tls, publicHost="127.0.0.1").certificate()

    found = asyncio.run(examined())
    assert found.status is status
    if name == "DNS:ai.example.com":
        assert found.seen == "the certificate is for ai.example.com, not for 127.0.0.1"
    elif status is Status.OK:
        assert "this computer does not trust it by itself: self-signed certificate" in found.seen
    else:
        assert found.remedy == "renew /etc/tls/site.pem on the gateway's host, then nginx -s reload"
