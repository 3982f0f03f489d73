"""A real nginx that dials real workers by mutual TLS."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import httpx2
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from infra.certificates import Identity, gateway_identity, make_authority, node_identity
from infra.gateway.node_tls import NodeTls
from infra.gateway.render import Site
from tests.gateway import nginx
from tests.gateway.service_node import service_nodes
from tests.ports import free_port

NOW = datetime.datetime.now(datetime.UTC)
AUTHORITY = make_authority()


def written(folder: Path, name: str, identity: Identity) -> NodeTls:
    paths = []
    for end, text in (("pem", identity.certificate), ("key", identity.key), ("ca", identity.authority)):
        path = folder / f"{name}.{end}"
        path.write_text(text)
        paths.append(str(path))
    return NodeTls(*paths)


@dataclass(frozen=True)
class Fleet:
    site: Site
    folder: Path


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A node with TLS, and the site of a gateway that dials it so."""
    folder = tmp_path_factory.mktemp("tls")
    node = written(folder, "node", node_identity(AUTHORITY, "prod", "gpu-1", "127.0.0.1", 730, NOW))
    gateway = written(folder, "gateway", gateway_identity(AUTHORITY, "prod", 730, NOW))
    http, rpc = free_port(), free_port()
    settings = {
        "SERVER__TLS__CERTIFICATE": node.certificate,
        "SERVER__TLS__KEY": node.key,
        "SERVER__TLS__CLIENT_CA": node.authority,
        "SERVER__TLS__HTTP_PORT": str(http),
        "SERVER__TLS__GRPC_PORT": str(rpc),
    }
    with service_nodes(1, folder, **settings) as nodes:
        server = replace(nodes[0].upstream, http_port=http, grpc_port=rpc)
        yield Fleet(Site((server,), rate_limit=None, node_tls=gateway), folder)


@contextmanager
def gateway(fleet: Fleet, folder: Path, **changed: object) -> Iterator[Site]:
    site = replace(fleet.site, http=free_port(), grpc=free_port(), **changed)  # type: ignore[arg-type]
    with nginx.running(site, folder) as running:
        yield running


def http_status(site: Site) -> int:
    return httpx2.get(f"http://127.0.0.1:{site.http}/api/v1/ai/health", timeout=20).status_code


def grpc_status(site: Site) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{site.grpc}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    return int(answer.status)


def test_requests_reach_a_node_by_tls(fleet: Fleet, tmp_path: Path) -> None:
    with gateway(fleet, tmp_path) as site:
        assert http_status(site) == 200
        assert grpc_status(site) == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("wrong", ["another authority of the node", "another name", "another gateway"])
def test_a_peer_that_is_not_the_right_one_gets_no_request(fleet: Fleet, tmp_path: Path, wrong: str) -> None:
    tls = fleet.site.node_tls
    assert tls is not None
    stranger = written(tmp_path, "stranger", gateway_identity(make_authority(), "prod", 730, NOW))
    changed = {
        "another authority of the node": replace(tls, authority=stranger.authority),
        "another name": replace(tls, name="gpu-2.example.com"),
        "another gateway": replace(tls, certificate=stranger.certificate, key=stranger.key),
    }[wrong]
    with gateway(fleet, tmp_path, node_tls=changed) as site:
        assert http_status(site) == 503
        with pytest.raises(grpc.RpcError) as refused:
            grpc_status(site)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    if wrong != "another gateway":
        log = (tmp_path / "error.log").read_text()
        assert "certificate" in log
