"""The console beside a gateway in a container, tested without an engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inference_service.console.settings import API_KEYS, PASSWORD, TLS
from infra.gateway.configuration import ContainerConfiguration
from infra.gateway.plan import gateway_plan
from infra.stack import StackError, parse
from tests.infra.declared import declare

pytestmark = pytest.mark.fast

KEY, SECRET = "example-key-1", "a-password-of-its-own"


def built(count: int = 2, **more: Any) -> dict[str, Any]:
    """A stack whose service is built from this project; that takes the digest of the build."""
    nodes = [{"name": f"gpu-{n}", "host": f"ssh://root@192.0.2.{10 + n}"} for n in range(1, count + 1)]
    return {"nodes": nodes, "triton": {"image": "registry.example.com/triton:1"}, **more}


def config(count: int = 2, console: Any = None, **more: Any) -> dict[str, Any]:
    """A stack with a console that the stack file asks for."""
    gateway = {**more.pop("gateway", {}), "console": {"enabled": True, **(console or {})}}
    return {**built(count, service={"image": "registry.example.com/service:1"}, **more), "gateway": gateway}


def files(stack: dict[str, Any]) -> dict[str, str]:
    """The files of the gateway's configuration, as `declare` gives them, without the resources around."""
    configuration = gateway_plan(parse(stack, "prod")).configuration
    assert isinstance(configuration, ContainerConfiguration)
    return configuration.files


def test_a_console_is_added_beside_a_gateway_whose_container_and_nodes_stay_as_they_are() -> None:
    without = declare(config(console={"enabled": False}))
    with_one = declare(config())
    changed = {
        name
        for name in without.resources.keys() | with_one.resources.keys()
        if name not in without
        or name not in with_one
        or (without[name].urn, without[name].inputs) != (with_one[name].urn, with_one[name].inputs)
    }
    assert changed == {"gateway-console", "gateway-console-limit", "gateway-config"}


def test_the_consoles_container_has_least_privilege_little_memory_and_a_health_check() -> None:
    fleet = declare(config())
    given = fleet["gateway-console"].inputs
    assert given["readOnly"] is True
    assert given["memory"] == 100
    assert given["user"] == "1000:1000"
    assert given["capabilities"] == {"drops": ["ALL"]}
    assert given["ports"] == []
    assert given["image"] == fleet["gpu-1-service"].inputs["image"]
    assert given["healthcheck"]["tests"][0] == "CMD"
    assert fleet["gateway-console-limit"].declaration["pids"] == 64


def test_a_node_that_changes_leaves_the_console_and_the_hour_that_it_keeps() -> None:
    before, after = declare(config(2)), config(3)
    after["nodes"][0]["drained"] = True
    assert before["gateway-console"].inputs == declare(after)["gateway-console"].inputs
    settings = json.loads(files(after)["settings.json"])
    assert [(node["name"], node["url"], node["state"]) for node in settings["nodes"]] == [
        ("gpu-1", "http://192.0.2.11:8800", "drained"),
        ("gpu-2", "http://192.0.2.12:8800", "serving"),
        ("gpu-3", "http://192.0.2.13:8800", "serving"),
    ]


def test_keys_and_password_are_in_the_consoles_environment_alone_and_secret() -> None:
    stack = config(apiKeys=[KEY], console={"password": SECRET})
    fleet = declare(stack)
    console = fleet["gateway-console"]
    assert f'{API_KEYS}=["{KEY}"]' in console.inputs["envs"]
    assert f"{PASSWORD}={SECRET}" in console.inputs["envs"]
    for resource in fleet.resources.values():
        assert SECRET not in resource.in_clear
        assert KEY not in resource.in_clear
    assert SECRET not in json.dumps(files(stack))
    assert KEY not in files(stack)["settings.json"]


def test_the_console_dials_nodes_as_the_gateway_does_and_shows_them_its_certificate() -> None:
    stack = config(1, tls={"nodes": True})
    assert json.loads(files(stack)["settings.json"])["nodes"][0]["url"] == "https://192.0.2.11:8843"
    assert not any(TLS in each for each in declare(config(1))["gateway-console"].inputs["envs"])
    assert "envs" in declare(stack)["gateway-console"].secrets


def test_each_of_several_gateways_has_a_console_with_its_own_address() -> None:
    hosts = ["ssh://root@192.0.2.1", "ssh://root@192.0.2.2"]
    fleet = declare(config(gateway={"hosts": hosts}))
    consoles = [each for each in fleet.of(":Container") if each.name.startswith("gateway-console")]
    assert len({each.urn for each in consoles}) == 2
    configurations = [each for each in fleet.resources.values() if each.name.startswith("gateway-config")]
    told = {json.loads(each.declaration["files"]["settings.json"])["gateway"] for each in configurations}
    assert told == {"http://192.0.2.1:8080", "http://192.0.2.2:8080"}


def test_a_gateways_host_without_nodes_gets_the_image_from_the_host_that_builds_it() -> None:
    fleet = declare(built(gateway={"host": "ssh://root@192.0.2.1"}))
    copies = [each for each in fleet.of(":Command") if each.name.startswith("service-image@")]
    assert "service-image@root@192.0.2.1" in {each.name for each in copies}
    assert "service-image@root@192.0.2.1" in fleet.after("gateway-console")


def test_the_gateway_does_not_wait_for_its_console() -> None:
    hosts = ["ssh://root@192.0.2.1", "ssh://root@192.0.2.2"]
    fleet = declare(config(gateway={"hosts": hosts}))
    for name in fleet.resources:
        if "gateway-config" in name:
            assert not any("console" in each for each in fleet.after(name))


@pytest.mark.parametrize(
    "more",
    [
        {"service": {"image": "registry.example.com/service:1"}},
        {"gateway": {"mode": "existing"}},
        {"gateway": {"console": {"enabled": False}}},
    ],
)
def test_there_is_no_console_in_an_image_or_a_site_that_may_have_none(more: dict[str, Any]) -> None:
    stack = built(**more)
    assert parse(stack, "prod").console is None
    if more.get("gateway", {}).get("mode") != "existing":
        assert "settings.json" not in files(stack)
        assert "console" not in files(stack)["nginx.conf"]


def test_without_a_console_there_is_no_container_of_one() -> None:
    fleet = declare(config(console={"enabled": False}))
    assert not [name for name in fleet.resources if "console" in name]


def test_a_service_built_from_this_project_has_a_console_beside_the_gateway() -> None:
    assert parse(built(), "prod").console is not None
    assert (
        parse(built(service={"build": {"args": {"BASE_IMAGE": "python:3.13"}}}), "prod").console is not None
    )
    assert parse(built(service={"build": {"context": "./other"}}), "prod").console is None


def test_the_console_asks_a_gateway_with_tls_over_https_and_none_that_wants_a_proxys_header() -> None:
    tls = {"certificate": "/etc/ssl/ai/chain.pem", "key": "/etc/ssl/ai/key.pem"}
    probe = json.loads(files(config(gateway={"tls": tls}))["settings.json"])["probe"]
    assert probe == "https://gateway:8080"
    behind = {"proxyProtocol": True, "trustedProxies": ["192.0.2.0/24"]}
    assert json.loads(files(config(gateway=behind))["settings.json"])["probe"] is None


@pytest.mark.parametrize(
    ("gateway", "message"),
    [
        ({"mode": "existing", "console": {"enabled": True}}, r"gateway\.console\.enabled: an existing nginx"),
        ({"console": {"password": "short"}}, r"gateway\.console\.password: expected 8 to 256 letters"),
        ({"console": {"password": 12345678}}, r"gateway\.console\.password: expected 8 to 256 letters"),
        ({"console": {"enabled": "yes"}}, r"gateway\.console\.enabled"),
        ({"console": {"memory": "lots"}}, r"gateway\.console\.memory"),
        ({"console": True}, r"gateway\.console"),
    ],
)
def test_mistakes_are_named_by_their_path_and_show_no_password(gateway: Any, message: str) -> None:
    with pytest.raises(StackError, match=message) as caught:
        parse(built(gateway=gateway), "prod")
    assert "short" not in str(caught.value)
    assert "12345678" not in str(caught.value)
