"""Mutual TLS of a node's second listeners, over HTTP and gRPC, by the real processes."""

from __future__ import annotations

import datetime
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx2
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from inference_service.settings import SettingsError, load
from infra import names
from infra.certificates import Identity, gateway_identity, make_authority, node_identity
from tests.ports import free_port
from tests.service.conftest import Service
from tests.service.test_supervisor import Node

NOW = datetime.datetime.now(datetime.UTC)
AUTHORITY = make_authority()
GATEWAY = gateway_identity(AUTHORITY, "prod", 730, NOW)


def files(folder: Path, identity: Identity, name: str) -> tuple[str, str, str]:
    """The files of an identity: the certificate, its key and the authority."""
    paths = []
    for end, text in (("pem", identity.certificate), ("key", identity.key), ("ca", identity.authority)):
        (folder / f"{name}.{end}").write_text(text)
        paths.append(str(folder / f"{name}.{end}"))
    return paths[0], paths[1], paths[2]


class TlsNode(Node):
    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        identity = node_identity(AUTHORITY, "prod", "gpu-1", "127.0.0.1", 730, NOW)
        self.files = files(folder, identity, "node")
        certificate, key, authority = self.files
        self.tls_port, self.grpc_tls_port = free_port(), free_port()
        super().__init__(
            folder,
            {
                **environment,
                "SERVER__TLS__CERTIFICATE": certificate,
                "SERVER__TLS__KEY": key,
                "SERVER__TLS__CLIENT_CA": authority,
                "SERVER__TLS__HTTP_PORT": str(self.tls_port),
                "SERVER__TLS__GRPC_PORT": str(self.grpc_tls_port),
            },
        )


@pytest.fixture(scope="module")
def tls_node(tmp_path_factory: pytest.TempPathFactory, shared_service: Service) -> Iterator[TlsNode]:
    node = TlsNode(
        tmp_path_factory.mktemp("node"),
        {"AI__RUNTIME__BACKEND": "remote", "AI__HTTP__ENDPOINT": shared_service.url},
    )
    node.start()
    yield node
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(30) == 0


def context(folder: Path, identity: Identity | None = GATEWAY) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=GATEWAY.authority)
    if identity is not None:
        made.load_cert_chain(*files(folder, identity, "client")[:2])
    return made


def health(node: TlsNode, identity: Identity | None, name: str = names.NODE_TLS_NAME) -> int:
    """The status of the standard health check over gRPC. Raises grpc.RpcError."""
    own = (None, None) if identity is None else (identity.key.encode(), identity.certificate.encode())
    credentials = grpc.ssl_channel_credentials(GATEWAY.authority.encode(), *own)
    options = [("grpc.ssl_target_name_override", name)]
    with grpc.secure_channel(f"127.0.0.1:{node.grpc_tls_port}", credentials, options) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    return int(answer.status)


def test_the_gateway_is_served_over_http_and_grpc(tls_node: TlsNode, tmp_path: Path) -> None:
    answer = httpx2.get(f"https://127.0.0.1:{tls_node.tls_port}/health", verify=context(tmp_path))
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert health(tls_node, GATEWAY) == health_pb2.HealthCheckResponse.SERVING


def test_the_plain_listener_stays_for_checks_on_the_machine(tls_node: TlsNode) -> None:
    assert httpx2.get(f"{tls_node.url}/health").status_code == 200


@pytest.mark.parametrize("who", ["nobody", "a stranger", "another node"])
def test_anybody_else_is_refused(tls_node: TlsNode, tmp_path: Path, who: str) -> None:
    identity = {
        "nobody": None,
        "a stranger": gateway_identity(make_authority(), "prod", 730, NOW),
        "another node": node_identity(AUTHORITY, "prod", "gpu-2", "127.0.0.1", 730, NOW),
    }[who]
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"https://127.0.0.1:{tls_node.tls_port}/health", verify=context(tmp_path, identity))
    with pytest.raises(grpc.RpcError):
        health(tls_node, identity)


def test_plain_http_on_the_tls_port_gets_no_answer(tls_node: TlsNode) -> None:
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"http://127.0.0.1:{tls_node.tls_port}/health")


def test_old_versions_of_tls_are_refused(tls_node: TlsNode, tmp_path: Path) -> None:
    old = context(tmp_path)
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", tls_node.tls_port)) as raw, pytest.raises(OSError):
        old.wrap_socket(raw, server_hostname="127.0.0.1").recv(1)


@pytest.mark.fast
def test_a_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, {"SERVER__TLS__CERTIFICATE": "/etc/node.pem"})
    assert "certificate, key and client_ca belong together: key, client_ca missing" in str(caught.value)


def test_a_file_that_is_not_there_stops_the_start_with_its_name(tmp_path: Path) -> None:
    node = TlsNode(tmp_path, {"AI__RUNTIME__BACKEND": "remote", "AI__HTTP__ENDPOINT": "http://127.0.0.1:9"})
    Path(node.files[1]).unlink()
    with pytest.raises(AssertionError, match=r"server\.tls: "):
        node.start()
    assert node.process.wait(30) == 1
    assert "No such file or directory" in node.log.read_text()
