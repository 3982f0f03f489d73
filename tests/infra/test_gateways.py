"""Several gateways: one after the other, each on its own host, with an address that keepalived moves."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from infra.gateway import keepalived
from infra.stack import parse, parse_host
from infra.update.preflight import checks
from infra.update.prepare import Away
from tests.infra.declared import declare

pytestmark = pytest.mark.fast

FIRST, SECOND = "192.0.2.1", "192.0.2.2"


def config(gateway: dict[str, Any] | None = None, **virtual: Any) -> dict[str, Any]:
    address = {"address": "192.0.2.100/24", "image": "registry.example.com/keepalived:1", **virtual}
    return {
        "nodes": [{"name": f"gpu-{n}", "host": f"ssh://root@192.0.2.{10 + n}"} for n in (1, 2)],
        "service": {"image": "registry.example.com/service:1"},
        "gateway": gateway
        or {"hosts": [f"ssh://root@{FIRST}", f"ssh://root@{SECOND}"], "virtualAddress": address},
    }


def test_gateways_change_one_after_the_other_when_all_nodes_have_changed() -> None:
    fleet = declare(config())
    of_second = {f"gateway-config@{SECOND}", f"gateway@{SECOND}", f"gateway-keepalived@{SECOND}"}
    for name in of_second:
        assert {"gateway-config", "gateway", "gateway-keepalived"} <= fleet.after(name)
    assert {"gpu-1-ready", "gpu-2-ready"} <= fleet.after("gateway-config")
    assert not of_second & fleet.after("gateway-keepalived")


def test_the_next_gateway_waits_until_the_one_before_answers_by_its_own_address() -> None:
    fleet = declare(config())
    answers = fleet["gateway-answers"]
    assert answers.declaration["url"] == f"http://{FIRST}:8080/health"
    assert "gateway" in answers.needs
    assert "gateway-answers" in fleet.after(f"gateway-config@{SECOND}")


@pytest.mark.parametrize(
    ("gateway", "asked"),
    [
        ({}, f"http://{FIRST}:8080"),
        ({"publicHost": "speech.example.com", "http": 80}, f"http://{FIRST}:80"),
        ({"bind": "0.0.0.0"}, f"http://{FIRST}:8080"),
        ({"bind": "192.0.2.99"}, "http://192.0.2.99:8080"),
        ({"host": "ssh://root@gpu-1"}, "http://127.0.0.1:8080"),
    ],
)
def test_a_gateway_alone_is_asked_where_its_own_host_reaches_it(
    gateway: dict[str, object], asked: str
) -> None:
    fleet = declare(config({"host": f"ssh://root@{FIRST}", **gateway}))
    assert fleet["gateway-answers"].declaration["url"] == f"{asked}/health"
    assert "gateway" in fleet["gateway-answers"].needs


def test_gateways_have_the_same_configuration_and_nodes_return_behind_each() -> None:
    fleet = declare(config())
    one, other = fleet["gateway-config"].declaration, fleet[f"gateway-config@{SECOND}"].declaration
    assert one["files"] == other["files"]
    assert (one["connection"]["host"], other["connection"]["host"]) == (FIRST, SECOND) or all(
        address in json.dumps(each["connection"]) for address, each in ((FIRST, one), (SECOND, other))
    )
    for name in ("gateway-traffic", f"gateway-traffic@{SECOND}"):
        assert name in fleet.after("gpu-1-service")


def test_one_gateway_declares_the_same_with_host_and_with_hosts() -> None:
    host = declare(config({"host": f"ssh://root@{FIRST}"}))
    hosts = declare(config({"hosts": [f"ssh://root@{FIRST}"]}))
    assert {(each.urn, json.dumps(each.inputs)) for each in host.resources.values()} == {
        (each.urn, json.dumps(each.inputs)) for each in hosts.resources.values()
    }


def test_a_second_gateway_leaves_the_resources_of_the_first_as_they_are() -> None:
    alone = declare(config({"host": f"ssh://root@{FIRST}"}))
    both = declare(config())
    for name in ("gateway", "gateway-config", "gateway-network"):
        assert alone[name].urn == both[name].urn
        assert alone[name].inputs == both[name].inputs


def test_keepalived_is_on_the_hosts_network_with_three_capabilities() -> None:
    container = declare(config())["gateway-keepalived"].inputs
    assert container["networkMode"] == "host"
    assert "networksAdvanced" not in container
    assert container["capabilities"] == {
        "drops": ["ALL"],
        "adds": ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SETGID"],
    }
    assert container["image"] == "registry.example.com/keepalived:1"


def test_keepalived_is_another_one_with_each_nginx_so_the_address_moves_before_nginx_ends() -> None:
    container = declare(config())["gateway-keepalived"]
    assert container.replace_with == ("gateway",)
    assert container.delete_before_replace


def test_the_next_gateway_changes_when_the_one_before_can_have_the_address() -> None:
    container = declare(config())["gateway-keepalived"].inputs
    assert container["wait"]
    assert "MASTER" in container["healthcheck"]["tests"]
    scripts = {each["file"]: each for each in container["uploads"]}
    assert scripts["/etc/gpu-inference/notify"]["executable"]


def test_without_a_virtual_address_there_is_no_keepalived_and_outputs_name_every_gateway() -> None:
    hosts = {"hosts": [f"ssh://root@{FIRST}", f"ssh://root@{SECOND}"], "publicHost": "ai.example.com"}
    fleet = declare(config(hosts))
    assert not [name for name in fleet.resources if "keepalived" in name]
    assert fleet.outputs["gateway"] == {
        "http": "http://ai.example.com:8080",
        "grpc": "ai.example.com:9080",
        "each": {
            FIRST: {"http": f"http://{FIRST}:8080", "grpc": f"{FIRST}:9080"},
            SECOND: {"http": f"http://{SECOND}:8080", "grpc": f"{SECOND}:9080"},
        },
    }
    assert declare(config()).outputs["gateway"]["virtualAddress"] == "192.0.2.100/24"


def test_a_gateway_that_is_away_stays_as_it_is_and_the_others_change() -> None:
    everything = declare(config())
    away = Away(frozenset({parse_host(f"ssh://root@{FIRST}")}), (), everything.state)
    skipped = declare(config(), away)
    left = {name for name, each in skipped.resources.items() if each.ignore_changes == ("*",)}
    assert {"gateway", "gateway-config", "gateway-keepalived", "gateway-network"} <= left
    assert not any(SECOND in name for name in left)
    assert skipped[f"gateway@{SECOND}"].urn == everything[f"gateway@{SECOND}"].urn


def test_every_host_of_a_gateway_is_checked_before_an_update() -> None:
    found = {str(check.host): check for check in checks(parse(config(), "prod"))}
    for address in (FIRST, SECOND):
        check = found[f"ssh://root@{address}"]
        assert check.users == (f"gateway@{address}",)
        assert [port.number for port in check.ports] == [8080, 9080]


def test_keepalived_speaks_to_the_other_gateways_only_and_asks_its_own_nginx() -> None:
    first, second = (keepalived.configuration(each) for each in parse(config(), "prod").gateways)
    assert f"unicast_src_ip {FIRST}" in first
    assert re.search(r"unicast_peer \{\s+192\.0\.2\.2 min_ttl 255 max_ttl 255\s+\}", first)
    assert f"http://{FIRST}:8080/health" in first
    assert f"http://{SECOND}:8080/health" in second
    priorities = [int(re.findall(r"priority (\d+)", text)[0]) for text in (first, second)]
    assert priorities[0] > priorities[1]
    assert "192.0.2.100/24" in first


def test_keepalived_asks_a_gateway_with_tls_and_proxy_protocol_as_it_listens() -> None:
    stack = config()
    stack["gateway"] |= {
        "tls": {"certificate": "/etc/ssl/ai/c.pem", "key": "/etc/ssl/ai/k.pem"},
        "proxyProtocol": True,
        "trustedProxies": ["192.0.2.0/24"],
    }
    text = keepalived.configuration(parse(stack, "prod").gateways[0])
    assert f"--insecure --haproxy-protocol https://{FIRST}:8080/health" in text
