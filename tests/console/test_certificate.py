"""When the certificate of a gateway ends, whoever signed it and whatever name it is for."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from inference_service.console import certificate
from infra.certificates import make_authority, node_identity
from tests.console.conftest import NodeDouble
from tests.ports import free_port

NOW = datetime.datetime.now(datetime.UTC)


def https(folder: Path, began: datetime.datetime, days: int) -> tuple[NodeDouble, float]:
    """A server with a certificate of an authority that nobody knows, and when that ends."""
    made = node_identity(make_authority(), "prod", "gpu-1", "192.0.2.11", days, began)
    (folder / "server.pem").write_text(f"{made.certificate}\n{made.key}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    server = NodeDouble(tls=context)
    server.open()
    return server, x509.load_pem_x509_certificate(made.certificate.encode()).not_valid_after_utc.timestamp()


@pytest.mark.parametrize(("ago", "has_ended"), [(0, False), (400, True)], ids=["valid", "ended"])
async def test_it_is_told_without_trust(tmp_path: Path, ago: int, has_ended: bool) -> None:
    server, ends = https(tmp_path, NOW - datetime.timedelta(days=ago), 90)
    try:
        told = await certificate.ends(f"https://127.0.0.1:{server.port}", 5)
    finally:
        server.close()
    assert told == (0.0 if has_ended else ends)


async def test_it_is_unknown_where_nobody_answers() -> None:
    assert await certificate.ends(f"https://127.0.0.1:{free_port()}", 1) is None
