"""TLS between gateway and nodes: when a stack has it, what it declares, and how a fleet changes over."""

from __future__ import annotations

import copy
import ipaddress
from typing import Any

import pytest

from infra import names
from infra.stack import StackError, parse
from infra.stack.tls import is_public
from infra.update.change_over import dialled_by_tls, prepared
from tests.infra.declared import UNKNOWN, Fleet, declare

pytestmark = pytest.mark.fast

PRIVATE_KEY = "PRIVATE KEY"


def config(nodes: object = True, address: str = "10.0.0.{}", **more: Any) -> dict[str, Any]:
    return {
        "nodes": [{"name": f"gpu-{n}", "host": f"ssh://root@{address.format(n)}"} for n in (1, 2)],
        "models": {"source": "host", "path": "/srv/models"},
        "gateway": {"host": "ssh://root@10.0.0.9"},
        "apiKeys": ["a-key-0123456789"],
        "tls": {"nodes": nodes},
        **more,
    }


@pytest.fixture
def fleet() -> Fleet:
    return declare(config())


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (str(ipaddress.ip_address(1 << 31) + 1), True),
        (str(ipaddress.ip_address(1 << 125) + 1), True),
        ("192.0.2.7", False),
        ("gpu-1.example.com", True),
        ("10.1.2.3", False),
        ("172.31.0.1", False),
        ("192.168.1.2", False),
        ("127.0.0.1", False),
        ("169.254.1.1", False),
        ("100.64.0.1", False),
        ("fd00::1", False),
        ("fe80::1", False),
        ("::1", False),
        ("gpu-1", False),
        ("gpu-1.fleet.internal", False),
        ("gpu-1.local.", False),
    ],
)
def test_an_address_is_public_unless_it_belongs_to_a_private_network(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("nodes", "address", "tls"),
    [
        ("auto", "10.0.0.{}", False),
        ("auto", "gpu-{}.example.com", True),
        (False, "gpu-{}.example.com", False),
        (True, "10.0.0.{}", True),
    ],
)
def test_auto_follows_the_dialled_address(nodes: object, address: str, tls: bool) -> None:
    assert parse(config(nodes, address), "prod").node_tls is tls


def test_the_dialled_address_decides_and_not_the_host_of_ssh() -> None:
    given = config("auto")
    given["nodes"][0]["publicHost"] = "gpu-1.example.com"
    assert parse(given, "prod").node_tls


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"tls": {"nodes": "always"}}, "tls.nodes: expected auto, true or false, got"),
        ({"tls": {"days": 1}}, "tls.days: "),
        (
            {"gateway": {"mode": "existing", "host": "ssh://root@10.0.0.9"}},
            "tls.nodes: cannot be true: only a gateway in a container speaks TLS to nodes",
        ),
        (
            {"service": {"config": {"server": {"tls": {"key": "/a.key"}}}}},
            "service.config.server.tls.key: has no effect in a stack; set tls.nodes",
        ),
    ],
)
def test_a_mistake_is_named(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(StackError) as caught:
        parse({**config(), **wrong}, "prod")
    assert problem in str(caught.value)


def test_two_nodes_behind_one_address_need_ports_of_their_own() -> None:
    given = config("auto")
    for port, node in enumerate(given["nodes"]):
        node |= {
            "publicHost": "fleet.example.com",
            "publicHttpPort": 8800 + port,
            "publicGrpcPort": 9800 + port,
        }
    with pytest.raises(
        StackError, match=r"nodes\[1\]\.publicHttpTlsPort: fleet\.example\.com:8843 is also nodes"
    ):
        parse(given, "prod")


def test_nodes_open_the_ports_with_tls_only(fleet: Fleet) -> None:
    ports = fleet.resources["gpu-1-service"].inputs["ports"]
    assert [(port["internal"], port["external"]) for port in ports] == [(8843, 8843), (9843, 9843)]
    assert fleet.outputs["nodes"]["gpu-1"]["http"] == "https://10.0.0.1:8843"


def test_each_node_has_a_certificate_of_its_own_and_its_key_is_secret(fleet: Fleet) -> None:
    keys = set()
    for node in ("gpu-1", "gpu-2"):
        service = fleet.resources[f"{node}-service"]
        variables = dict(each.split("=", 1) for each in service.inputs["envs"])
        assert PRIVATE_KEY in variables[names.NODE_KEY]
        assert variables[names.NODE_CERTIFICATE].startswith("-----BEGIN CERTIFICATE")
        keys.add(variables[names.NODE_KEY])
    assert len(keys) == 2
    assert not [name for name, each in fleet.resources.items() if PRIVATE_KEY in each.in_clear]


def test_the_gateway_dials_by_tls_with_a_certificate_that_is_secret(fleet: Fleet) -> None:
    step = fleet.resources["gateway-config"]
    files = step.declaration["files"]
    assert PRIVATE_KEY in files[names.CLIENT_KEY]
    assert "proxy_pass https://ai_inference_service" in files[names.NGINX_CONF]
    assert "server 10.0.0.1:8843" in files[names.NGINX_CONF]
    assert "http://ai_inference" not in files[names.NGINX_CONF]
    assert f"/{step.declaration['revision']}/{names.CLIENT_KEY}" in files[names.NGINX_CONF]


def test_the_authority_is_made_once_and_its_key_is_secret_and_not_logged(fleet: Fleet) -> None:
    authority = fleet.resources["authority"]
    assert authority.inputs["logging"] == "none"
    assert "create" in authority.ignore_changes


def test_the_first_preview_does_not_know_the_certificates_yet_and_names_all_that_it_creates(
    fleet: Fleet,
) -> None:
    first = declare(config(), authority_made=False)
    assert first.resources.keys() == fleet.resources.keys()
    for node in ("gpu-1", "gpu-2"):
        turn = first[f"{node}-turn"]
        assert turn.inputs["triggers"][0] == UNKNOWN
        assert "[secret]" in fleet[f"{node}-turn"].in_clear
        assert "[secret]" not in turn.in_clear, "the engine refuses hooks that get an unknown secret"
        assert first[f"{node}-service"].inputs["envs"] == UNKNOWN
    assert first["gateway-config"].inputs["stdin"] == UNKNOWN


def test_the_turn_of_a_node_is_another_one_when_its_certificate_is(fleet: Fleet) -> None:
    shorter = declare({**config(), "tls": {"nodes": True, "days": 90}})
    turns = [each["gpu-1-turn"].inputs["triggers"] for each in (fleet, declare(config()), shorter)]
    assert turns[0] == turns[1] != turns[2]


def test_without_tls_nothing_is_added() -> None:
    plain = declare(config(False))
    assert "authority" not in plain.resources
    ports = plain.resources["gpu-1-service"].inputs["ports"]
    assert [port["internal"] for port in ports] == [8800, 9800]
    assert "dials" not in plain["gateway-config"].declaration, "a stack of an older version has no change"
    assert "proxy_ssl" not in plain.resources["gateway-config"].declaration["files"][names.NGINX_CONF]


@pytest.mark.parametrize("tls", [True, False])
def test_while_a_fleet_changes_over_its_nodes_serve_both_ways(tls: bool) -> None:
    stack = parse(config(tls), "prod").changing_over()
    node = stack.nodes[0]
    opened = names.published_by(stack, node, names.SERVICE)
    assert opened == {8800: 8800, 9800: 9800, 8843: 8843, 9843: 9843}
    assert stack.node_tls is tls
    assert stack.dialled_ports(node) == ((8843, 9843) if tls else (8800, 9800))


@pytest.mark.parametrize("tls", [True, False])
def test_a_fleet_changes_over_only_where_its_gateway_dials_the_other_way(tls: bool) -> None:
    stack = parse(config(tls), "prod")
    other = entry("gateway-config@10-0-0-9", {} if tls else {"NODE_TLS": "on"})
    same = entry("gateway-config@10-0-0-9", {"NODE_TLS": "on"} if tls else {})
    for resources, both in ([], False), ([same], False), ([other], True), ([same, other], True):
        found = prepared(stack, lambda resources=resources: {"resources": resources})  # type: ignore[misc]
        assert (found.serves_plain and found.serves_tls) is both, resources


def test_the_state_of_a_fleet_that_never_has_tls_is_not_waited_for() -> None:
    embedded = parse({"nodes": [{"name": "one", "host": "embedded"}], "models": {"source": "sync"}}, "prod")

    def exported() -> dict[str, Any]:
        raise AssertionError("not read")

    assert prepared(embedded, exported) is embedded


def entry(name: str, environment: object = None, **more: object) -> dict[str, Any]:
    urn = f"urn:pulumi:prod::gpu-inference::gpu-inference:index:Gateway$command:local:Command::{name}"
    inputs = {"environment": environment} if environment else {}
    return {"urn": urn, "type": "command:local:Command", "inputs": inputs, **more}


def test_the_state_tells_how_the_gateways_dial() -> None:
    plain, tls = entry("gateway-config@10-0-0-9"), entry("gateway-config@10-0-0-8", {"NODE_TLS": "on"})
    other = entry("gpu-1-ready@10-0-0-1", {"NODE_TLS": "on"})
    assert dialled_by_tls({}) == set()
    assert dialled_by_tls({"resources": [other]}) == set()
    assert dialled_by_tls({"resources": [plain, other]}) == {False}
    assert dialled_by_tls({"resources": [tls]}) == {True}
    assert dialled_by_tls({"resources": [plain, tls]}) == {False, True}
    assert dialled_by_tls({"resources": [copy.copy(tls) | {"delete": True}]}) == set()


def test_the_mark_in_the_state_is_the_one_that_the_program_writes(fleet: Fleet) -> None:
    step = fleet.resources["gateway-config"]
    assert dialled_by_tls({"resources": [{"urn": step.urn, "type": step.type, "inputs": step.inputs}]}) == {
        True
    }
