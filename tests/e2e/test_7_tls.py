"""TLS between gateway and nodes: on, renewed and off again under load, and nobody but the gateway gets in."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import httpx2
import pytest

from tests.e2e.deployment import Change, Site
from tests.e2e.lab.host import Host
from tests.e2e.lab.load import load
from tests.e2e.test_8_doctor import doctor

pytestmark = pytest.mark.long

RATE = 10  # requests a second
KEY_LINE = "PRIVATE KEY"


@pytest.fixture(scope="module")
def tls_site(deployed: Site) -> Iterator[Site]:
    deployed.settle()
    yield deployed
    deployed.settle()
    deployed.settle()  # the second update closes the ports of the other way


def open_ports(host: Host) -> set[int]:
    """Which of the service's ports another machine reaches on a host."""
    found = set()
    for port in (8800, 9800, 8843, 9843):
        with socket.socket() as client:
            client.settimeout(3)
            if client.connect_ex((host.address, port)) == 0:
                found.add(port)
    return found


def changed_under_load(site: Site) -> Change:
    with load(site.request, rate=RATE) as seen:
        change = site.change()
        assert "emotions" in site.ask()
    assert not seen.failures, seen.summary()
    print(seen.summary())
    assert KEY_LINE not in change.previewed.output + change.applied.output
    return change


def served(host: Host) -> str:
    """The certificate of a node, unverified; the handshake ends before the node asks for the client's."""
    return ssl.get_server_certificate((host.address, 8843), timeout=10)


def test_tls_is_switched_on_without_a_failed_request(tls_site: Site) -> None:
    site = tls_site
    site.config["tls"] = {"nodes": True}
    first = changed_under_load(site)
    assert "run `pulumi up` once more" in first.applied.output
    for host in site.gpu_hosts():
        assert open_ports(host) == {8800, 9800, 8843, 9843}
    assert (
        "proxy_pass https://"
        in site.gateway.run("sh", "-c", "cat /opt/gpu-inference/e2e/gateway/current/nginx.conf").stdout
    )
    changed_under_load(site)
    for host in site.gpu_hosts():
        assert open_ports(host) == {8843, 9843}
    again = site.up().check()
    assert again.steps == {}
    print(f"an update without a change: {again.seconds:.1f} s")


def test_the_doctor_finds_nothing_wrong_and_names_the_ends_of_the_certificates(tls_site: Site) -> None:
    found = {(each["where"][0], each["check"]): each for each in doctor(tls_site).findings}
    for where in ("gpu-1", "gpu-2", "gateway"):
        assert "valid until 2" in found[where, "node certificate"]["seen"]
        assert found[where, "node certificate"]["status"] == "ok"
    for node in ("gpu-1", "gpu-2"):
        assert "answers nobody without the gateway's certificate" in found[node, "exposure"]["seen"]
        assert found["gateway", f"upstream {node}"]["status"] == "ok"
    assert found["gateway", "gateway inference"]["status"] == "ok"


def test_nodes_let_nobody_but_the_gateway_in(tls_site: Site) -> None:
    for host in tls_site.gpu_hosts():
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"https://{host.address}:8843/health", verify=False, trust_env=False)
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"http://{host.address}:8843/health", trust_env=False)


def test_no_key_is_in_the_plain_state_and_files_are_private(tls_site: Site) -> None:
    state = tls_site.program.pulumi("stack", "export").check().output
    assert "gateway-config" in state
    assert KEY_LINE not in state
    modes = tls_site.gateway.run(
        "sh", "-c", "cd /opt/gpu-inference/e2e/gateway/current/ && stat -c '%a %n' . client.key"
    ).stdout.split("\n")
    assert modes[:2] == ["700 .", "600 client.key"]
    for host in tls_site.fleet.hosts.values():
        named = host.containers(everything=True)
        holding = [name for name in named if KEY_LINE in host.docker("inspect", name).stdout]
        assert holding == [name for name in named if name.endswith("-service")]


def test_certificates_are_renewed_without_a_failed_request(tls_site: Site) -> None:
    before = {host.name: served(host) for host in tls_site.gpu_hosts()}
    tls_site.config["tls"] = {"nodes": True, "days": 90}
    changed_under_load(tls_site)
    for host in tls_site.gpu_hosts():
        assert served(host) != before[host.name]
    assert tls_site.up().check().steps == {}


def test_tls_is_switched_off_without_a_failed_request(tls_site: Site) -> None:
    tls_site.config["tls"] = {"nodes": False}
    changed_under_load(tls_site)
    changed_under_load(tls_site)
    for host in tls_site.gpu_hosts():
        assert open_ports(host) == {8800, 9800}
    assert tls_site.up().check().steps == {}
    assert "::authority" not in tls_site.program.pulumi("stack", "export").check().output
