"""A stack's configuration: defaults, and all mistakes at once, each with its key and without a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks, set_mocks

from infra.paths import PROJECT
from infra.stack import (
    EmbeddedHost,
    SshHost,
    Stack,
    StackError,
    UnixHost,
    load,
    load_file,
    memory_bytes,
    parse,
    parse_host,
)
from infra.stack.__main__ import main

pytestmark = pytest.mark.fast

GPU_1, GPU_2 = "ssh://root@192.0.2.10", "ssh://root@192.0.2.11"
LOGIN = {"registry": "nvcr.io", "username": "a", "password": "example"}


def virtual(**keys: Any) -> dict[str, Any]:
    """A stack of two gateways with these keys of their virtual address."""
    address = {"address": "192.0.2.100/24", **keys}
    return {"nodes": [GPU_1], "gateway": {"hosts": [GPU_1, GPU_2], "virtualAddress": address}}


def mistakes(**config: Any) -> list[str]:
    """The errors of a configuration."""
    with pytest.raises(StackError) as caught:
        parse(config)
    return [str(problem) for problem in caught.value.problems]


# Defaults -----------------------------------------------------------------------------------------------


def test_the_smallest_stack_is_a_list_of_hosts() -> None:
    stack = parse({"nodes": [GPU_1, GPU_2]})
    first = stack.nodes[0]
    assert (first.name, first.public_host, first.gpus, first.runtime) == (
        "192-0-2-10",
        "192.0.2.10",
        "all",
        "triton",
    )
    assert (first.public_http_port, first.public_grpc_port) == (8800, 9800)
    assert (stack.ports.triton_http, stack.ports.triton_grpc, stack.ports.triton_metrics) == (
        8000,
        8001,
        8002,
    )
    assert stack.ports.unit_manager == 8801
    assert (stack.models.source, stack.models.path) == ("host", "/models")
    assert (stack.gateway.mode, str(stack.gateway.host)) == ("container", GPU_1)
    assert (stack.gateway.http, stack.gateway.grpc) == (8080, 9080)
    assert stack.gateway.rate_limit is not None
    assert (stack.gateway.rate_limit.requests_per_second, stack.gateway.rate_limit.burst) == (50, 10)
    assert (stack.rollout.canary, stack.rollout.batch, stack.rollout.unreachable) == (1, 1, "fail")


def test_a_nodes_ports_differ_from_the_stacks_only_where_it_says_so() -> None:
    stack = parse(
        {"nodes": [{"host": GPU_1, "ports": {"http": 8810}}], "ports": {"http": 8805, "grpc": 9805}}
    )
    assert (stack.nodes[0].ports.http, stack.nodes[0].ports.grpc) == (8810, 9805)
    assert stack.nodes[0].public_http_port == 8810


@pytest.mark.parametrize("off", [False, None])
def test_the_rate_limit_can_be_turned_off(off: object) -> None:
    assert parse({"nodes": [GPU_1], "gateway": {"rateLimit": off}}).gateway.rate_limit is None


def test_several_gateways_have_one_address_for_clients_and_one_each() -> None:
    stack = parse(virtual())
    assert (stack.gateway.public_host, stack.gateway.host) == ("192.0.2.100", parse_host(GPU_1))
    assert [(each.gateway.name, each.gateway.public_host) for each in stack.gateways] == [
        ("gateway@192.0.2.10", "192.0.2.10"),
        ("gateway@192.0.2.11", "192.0.2.11"),
    ]
    own = parse(virtual(peers=["198.51.100.1", "198.51.100.2"])).gateway.each
    assert [each.public_host for each in own] == ["198.51.100.1", "198.51.100.2"]
    for_dns = parse({"nodes": [GPU_1], "gateway": {"hosts": [GPU_1, GPU_2], "publicHost": "ai.example.com"}})
    assert for_dns.gateway.public_host == "ai.example.com"
    alone = parse({"nodes": [GPU_1], "gateway": {"hosts": [GPU_2]}})
    assert [each.gateway.name for each in alone.gateways] == ["gateway"]


def test_embedded_nodes_have_an_embedded_gateway_and_no_gpus() -> None:
    stack = parse({"nodes": ["embedded"], "models": {"source": "sync"}})
    assert (stack.gateway.mode, stack.nodes[0].gpus, stack.nodes[0].embedded) == ("embedded", "none", True)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("ssh://root@192.0.2.10:2222", SshHost("192.0.2.10", "root", 2222)),
        ("ssh://gpu-1", SshHost("gpu-1")),
        ("ssh://root@[2001:db8::1]:22", SshHost("2001:db8::1", "root", 22)),
        ("unix:///var/run/docker.sock", UnixHost("/var/run/docker.sock")),
        ("embedded", EmbeddedHost()),
    ],
)
def test_hosts_are_read_and_written_back(text: str, host: object) -> None:
    assert parse_host(text) == host
    assert str(parse_host(text)) == text


@pytest.mark.parametrize(
    "text", ["gpu-1", "ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "unix://docker.sock", "ssh://a:0"]
)
def test_a_value_that_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_host(text)


@pytest.mark.parametrize(
    ("text", "size"), [("512m", 512 << 20), ("16g", 16 << 30), ("1024k", 1 << 20), ("7", 7)]
)
def test_sizes_are_in_bytes(text: str, size: int) -> None:
    assert memory_bytes(text) == size


# Mistakes -----------------------------------------------------------------------------------------------


def test_a_bad_host_is_shown_with_what_was_expected() -> None:
    assert mistakes(nodes=[GPU_1, {"name": "gpu-2", "host": "ssh://gpu-2:abc"}]) == [
        'nodes[1].host: expected ssh://user@host[:port], got "ssh://gpu-2:abc"'
    ]


def test_all_mistakes_are_reported_at_once_and_in_the_order_of_the_keys() -> None:
    found = mistakes(
        nodes=[{"host": "gpu-1", "drained": "maybe"}, {"host": GPU_2, "gpus": [0, 0, -1]}],
        ports={"http": 70000},
        rollout={"batch": "0%"},
        modles={},
    )
    assert found == [
        'modles: unknown key; did you mean "models"?',
        "nodes[0].host: expected ssh://user@host[:port], unix:///path/to/docker.sock or embedded,"
        ' got "gpu-1"',
        'nodes[0].drained: expected true or false, got "maybe"',
        "nodes[1].gpus: GPU index 0 is listed twice; GPU index -1 is negative; the first GPU is 0",
        "ports.http: expected a port from 1 to 65535, got 70000",
        'rollout.batch: expected a number of nodes from 1 or a share such as "25%", got "0%"',
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"nodes": []}, "nodes: expected at least one node, got an empty list"),
        ({}, "nodes: required: the list of hosts"),
        ({"nodes": "gpu-1"}, 'nodes: expected a list of nodes, got "gpu-1"'),
        ({"nodes": 7}, "nodes: expected a list of nodes, got 7"),
        ({"nodes": [{}]}, "nodes[0].host: required"),
        ({"nodes": [{"host": None}]}, "embedded, got nothing"),
        ({"nodes": [7]}, "nodes[0]: expected a mapping of keys, got 7"),
        (
            {"nodes": [{"host": GPU_1, "runtime": "tritn"}]},
            'expected triton, edge-llm or remote, got "tritn"',
        ),
        (
            {"nodes": [{"host": GPU_1, "publichost": "a"}]},
            'publichost: unknown key; did you mean "publicHost"?',
        ),
        ({"nodes": [{"host": GPU_1, "public_host": "a"}]}, 'unknown key; did you mean "publicHost"?'),
        ({"nodes": [{"host": GPU_1, "name": "GPU 1"}]}, "nodes[0].name: expected lower-case letters"),
        (
            {"nodes": [{"host": GPU_1, "gpus": 2}]},
            "nodes[0].gpus: expected all, none or a list of GPU indices",
        ),
        ({"nodes": [{"host": GPU_1, "gpus": []}]}, "nodes[0].gpus: expected at least one GPU index"),
        (
            {"nodes": [{"host": GPU_1, "tasks": ["asr", "emotions"]}]},
            'nodes[0].tasks[1]: expected asr, emotion or synthesis, got "emotions"; did you mean "emotion"?',
        ),
        ({"nodes": [{"host": GPU_1, "tasks": ["speech_recognition"]}]}, 'did you mean "asr"?'),
        ({"nodes": [{"host": GPU_1, "tasks": []}]}, "nodes[0].tasks: expected at least one of asr, emotion"),
        ({"nodes": [{"host": GPU_1, "tasks": ["asr", "asr"]}]}, "nodes[0].tasks: asr is listed twice"),
        (
            {
                "nodes": [{"host": GPU_1, "tasks": ["asr"]}],
                "service": {"config": {"ai": {"models": {"asr": {"enabled": False}}}}},
            },
            "nodes[0].tasks: asr is switched off on every node by service.config.ai.models.asr.enabled",
        ),
        (
            {
                "nodes": [GPU_1, {"host": GPU_2, "tasks": ["asr"]}],
                "gateway": {"mode": "existing", "host": GPU_1},
            },
            "nodes[1].tasks: an existing site sends every request to every node",
        ),
        (
            {
                "nodes": [{"host": GPU_1, "tasks": ["emotion"]}, {"host": GPU_2, "tasks": ["asr"]}],
                "gateway": {"grpcBalancing": "layer4"},
            },
            "nodes[0].tasks: grpcBalancing layer4 cannot choose a node by the task of a call",
        ),
        ({"nodes": [{"host": GPU_1, "weight": 0}]}, "nodes[0].weight: expected at least 1, got 0"),
        ({"nodes": [{"host": GPU_1, "weight": 101}]}, "nodes[0].weight: expected at most 100, got 101"),
        ({"nodes": [{"host": GPU_1, "publicHttpPort": 0}]}, "nodes[0].publicHttpPort: expected a port"),
        ({"nodes": [{"host": GPU_1, "publicHttpPort": True}]}, "got true"),
        ({"nodes": [GPU_1], "service": {"workers": "2"}}, 'service.workers: expected an integer, got "2"'),
        (
            {"nodes": [GPU_1], "service": {"image": "a", "build": True}},
            "service: expected image or build, got both",
        ),
        (
            {"nodes": [GPU_1], "service": {"build": "yes"}},
            "service.build: expected true or {context: …}, got",
        ),
        (
            {"nodes": [GPU_1], "edgeLlm": {"llmNode": {"build": True}}},
            "edgeLlm.llmNode.build: expected {context: …}, got true",
        ),
        ({"nodes": [GPU_1], "service": {"env": {"DEBUG": 1}}}, "service.env.DEBUG: expected text, got 1"),
        (
            {"nodes": [GPU_1], "gateway": {"rateLimit": {"requestsPerSecond": float("inf")}}},
            "gateway.rateLimit.requestsPerSecond: expected a number",
        ),
        (
            {"nodes": [GPU_1], "triton": {"shmSize": "big"}},
            "triton.shmSize: expected a size such as 512m or 16g",
        ),
        ({"nodes": [GPU_1], "models": {"source": "s4://a"}}, "models.source: expected host, sync, s3://"),
        (
            {"nodes": [GPU_1], "models": {"path": "models"}},
            "models.path: expected an absolute path on the hosts",
        ),
        ({"nodes": [GPU_1], "gateway": {"mode": "exists"}}, "expected container, existing or embedded"),
        ({"nodes": [GPU_1], "gateway": {"tls": {"key": "/k"}}}, "gateway.tls.certificate: required"),
        ({"nodes": [GPU_1], "gateway": {"mode": "embedded", "host": GPU_1}}, "gateway.host: mode embedded"),
        (
            {"nodes": [GPU_1], "gateway": {"host": GPU_1, "hosts": [GPU_1, GPU_2]}},
            "gateway.hosts: expected gateway.host or gateway.hosts, got both",
        ),
        ({"nodes": [GPU_1], "gateway": {"hosts": []}}, "gateway.hosts: "),
        ({"nodes": [GPU_1], "gateway": {"hosts": [GPU_1, "gpu-2"]}}, "gateway.hosts[1]: expected ssh://"),
        (
            {"nodes": [GPU_1], "gateway": {"hosts": [GPU_1, GPU_2, f"{GPU_1}:22"]}},
            "gateway.hosts[2]: is the machine of gateway.hosts[0]",
        ),
        (
            {"nodes": [GPU_1], "gateway": {"hosts": [GPU_1, "embedded"]}},
            "gateway.hosts[1]: mode container needs a Docker host",
        ),
        (
            {"nodes": [GPU_1], "gateway": {"hosts": [GPU_1, GPU_2], "mode": "existing"}},
            "gateway.mode: several gateways are containers; expected container, got existing",
        ),
        (
            {"nodes": [GPU_1], "gateway": {"hosts": [GPU_1, GPU_2], "bind": "192.0.2.10"}},
            "gateway.bind: the hosts of several gateways have no address in common",
        ),
        (
            {"nodes": [GPU_1], "gateway": {"hosts": [GPU_1, GPU_2], "http": 8800}},
            "gateway.http: port 8800 of 192.0.2.10 is also nodes[0].ports.http",
        ),
        (
            {"nodes": [GPU_1], "gateway": {"virtualAddress": {"address": "192.0.2.100/24"}}},
            "gateway.virtualAddress: moves between gateways; expected two or more gateway.hosts",
        ),
        (
            virtual(address="192.0.2.100"),
            "gateway.virtualAddress.address: expected an IPv4 address with its prefix, such as",
        ),
        (
            virtual(address="2001:db8::1/64"),
            "gateway.virtualAddress.address: expected an IPv4 address with its prefix, such as",
        ),
        (
            virtual(address="192.0.2.11/24"),
            "gateway.virtualAddress.address: expected an address that no host has, got that of",
        ),
        (virtual(routerId=256), "gateway.virtualAddress.routerId: expected at most 255, got 256"),
        (virtual(interface="eth0; id"), "gateway.virtualAddress.interface: expected the name of a network"),
        (
            virtual(peers=["192.0.2.10"]),
            "gateway.virtualAddress.peers: expected one for each of the 2 gateway",
        ),
        (
            virtual(peers=["192.0.2.10", "2001:db8::1"]),
            "gateway.virtualAddress.peers[1]: expected an IPv4 address, got 2001:db8::1",
        ),
        (
            virtual(peers=["192.0.2.10", "192.0.2.10"]),
            "gateway.virtualAddress.peers[1]: 192.0.2.10 is also gateway.virtualAddress.peers[0]",
        ),
        (
            {
                "nodes": [GPU_1],
                "gateway": {
                    "hosts": ["ssh://one.example.com", GPU_2],
                    "virtualAddress": {"address": "192.0.2.100/24"},
                },
            },
            "gateway.virtualAddress.peers: required: the gateways' own IPv4 addresses; one.example.com",
        ),
        ({"nodes": [GPU_1], "rollout": {"unreachable": "ignore"}}, "expected fail or skip"),
        (
            {"nodes": [GPU_1], "rollout": {"takeOver": "yes"}},
            'rollout.takeOver: expected true or false, got "yes"',
        ),
        ({"nodes": [GPU_1], "rollout": {"canary": -1}}, "rollout.canary: expected at least 0, got -1"),
        ({"nodes": [GPU_1], "images": {"username": "a"}}, "images.registry: required"),
        (
            {"nodes": [GPU_1], "images": {"logins": 2 * [LOGIN]}},
            "images.logins[1].registry: nvcr.io has a login",
        ),
        (
            {"nodes": [GPU_1], "images": {"logins": [LOGIN | {"registry": "https://nvcr.io"}]}},
            "images.logins[0].registry: expected a registry's name, such as nvcr.io",
        ),
        ({"nodes": [{"host": GPU_1, "runtime": "remote"}]}, "nodes[0].remote.endpoint: required"),
        (
            {"nodes": [{"host": "embedded", "bind": "192.0.2.1"}]},
            "nodes[0].bind: an embedded node is open on",
        ),
        ({"nodes": [{"host": GPU_1, "bind": "gpu-1"}]}, "nodes[0].bind: expected an IP address"),
        ({"nodes": [{"host": "embedded", "gpus": "all"}]}, "nodes[0].gpus: an embedded node"),
        ({"nodes": [{"host": "embedded", "runtime": "edge-llm"}]}, "nodes[0].runtime: an embedded node"),
        ({"nodes": ["embedded"], "gateway": {"host": GPU_1}}, "nodes[0].publicHost: required"),
        ({"nodes": [{"host": GPU_1, "runtime": "edge-llm"}]}, "edgeLlm.unitManager: expected image or build"),
        (
            {"nodes": [GPU_1], "service": {"config": {"ai": {"modles": {}}}}},
            "service.config.ai.modles: unknown key; did you mean models?",
        ),
        (
            {"nodes": [GPU_1], "service": {"config": {"ai": {"request": {"max_body_bytes": "many"}}}}},
            "service.config.ai.request.max_body_bytes:",
        ),
        (
            {"nodes": [GPU_1], "service": {"config": {"server": {"workers": 4}}}},
            "service.config.server.workers: has no effect in a stack; set service.workers",
        ),
        (
            {"nodes": [GPU_1], "service": {"workers": 4, "maxConcurrency": 3}},
            "service.maxConcurrency: 3 is less than server.workers (4)",
        ),
        ({"nodes": [GPU_1], "apiKeys": ["short"]}, "apiKeys: expected keys of 8 to 256"),
        (
            {"nodes": [GPU_1], "cors": {"origins": ["app.example.com"]}},
            "cors.origins[0]: expected scheme://host[:port]",
        ),
        (
            {"nodes": [GPU_1], "service": {"config": {"server": {"cors_origins": ["https://a"]}}}},
            "service.config.server.cors_origins: has no effect in a stack; set cors.origins",
        ),
        (
            {"nodes": [GPU_1], "traces": {"endpoint": "192.0.2.30:4318"}},
            "traces.endpoint: expected http(s)://host[:port][/path], got '192.0.2.30:4318'",
        ),
        (
            {"nodes": [GPU_1], "traces": {"endpoint": "http://192.0.2.30:4318/v1/traces"}},
            "traces.endpoint: expected the collector's address without /v1/traces",
        ),
        (
            {"nodes": [GPU_1], "traces": {"endpoint": "http://127.0.0.1:4318"}},
            "traces.endpoint: http://127.0.0.1:4318 is each container itself",
        ),
        (
            {"nodes": [GPU_1], "traces": {"endpoint": "http://192.0.2.30:4318", "share": 10}},
            "traces.share: expected at most 1, got 10",
        ),
        ({"nodes": [GPU_1], "traces": {"share": 0.5}}, "traces.endpoint: required with traces.share"),
        (
            {"nodes": [GPU_1], "service": {"config": {"server": {"traces": {"share": 1}}}}},
            "service.config.server.traces.share: has no effect in a stack; set traces.share",
        ),
        *(
            ({"nodes": [GPU_1], "monitoring": given}, f"monitoring.{message}")
            for given, message in (
                ({"prometheus": {"retention": "15"}}, "prometheus.retention: expected a number of hours"),
                ({"prometheus": {"bind": "0.0.0.0"}}, "prometheus.bind: has no password; expected 127.0.0.1"),
                ({"alertmanager": {"bind": "8.8.8.8"}}, "alertmanager.bind: has no password"),
                ({"alertmanager": {"webhook": "hooks"}}, "alertmanager.webhook: expected an address that"),
                ({"alertmanager": {"email": {"to": "a@b"}}}, "alertmanager.email.from: required"),
                (
                    {
                        "alertmanager": {
                            "email": {"to": "a", "from": "b", "smarthost": "mail", "username": "c"}
                        }
                    },
                    "alertmanager.email.smarthost: expected a server and its port",
                ),
                (
                    {"grafana": {"bind": "192.168.7.1"}},
                    "grafana.password: required where bind is 192.168.7.1",
                ),
                ({"grafana": True}, "grafana: expected a mapping of keys"),
                ({"exporters": {"hosts": "all"}}, "exporters.hosts: expected auto, existing, true or false"),
                ({"exporters": {"gpus": "existing"}}, "exporters.gpus: expected auto, true or false"),
                ({"host": "embedded"}, "host: needs a Docker host"),
                ({"existing": "prometheus"}, "existing: expected http://host[:port]"),
                (
                    {"existing": "http://a.example.com", "grafana": {}},
                    "existing: nothing is started beside it; leave out grafana",
                ),
                ({"prometheus": {"port": 3000}}, "grafana.port: port 3000 of 192.0.2.10 is also monitoring."),
                (
                    {"prometheus": {"port": 8080}},
                    "prometheus.port: port 8080 of 192.0.2.10 is also gateway.http",
                ),
            )
        ),
    ],
)
def test_a_mistake_is_named_by_its_key(config: dict[str, Any], message: str) -> None:
    found = mistakes(**config)
    assert any(message in problem for problem in found), found


def test_limits_of_the_service_are_checked_against_the_stacks_workers() -> None:
    config = {"ai": {"models": {"asr": {"max_concurrent": 1}}}}
    parse({"nodes": [GPU_1], "service": {"workers": 1, "config": config}})


def test_two_nodes_of_one_name_are_distinguished_also_when_one_has_other_mistakes() -> None:
    nodes = [{"host": GPU_1, "name": "gpu"}, {"host": "nonsense", "name": "gpu"}]
    assert 'nodes[1].name: "gpu" is also the name of nodes[0]' in mistakes(nodes=nodes)


def test_two_nodes_on_one_host_and_port_are_a_mistake() -> None:
    found = mistakes(nodes=[{"host": GPU_1, "name": "a"}, {"host": f"{GPU_1}:22", "name": "b"}])
    assert found == [
        "nodes[1].ports.http: port 8800 of 192.0.2.10 is also nodes[0].ports.http",
        "nodes[1].ports.grpc: port 9800 of 192.0.2.10 is also nodes[0].ports.grpc",
    ]


def test_two_hosts_behind_one_nat_address_differ_in_their_public_ports() -> None:
    behind = [{"host": "ssh://root@nat.example.com:2201"}, {"host": "ssh://root@nat.example.com:2202"}]
    assert all(problem.startswith("nodes[1].public") for problem in mistakes(nodes=behind))
    behind[1] |= {"publicHttpPort": 51312, "publicGrpcPort": 51313}  # type: ignore[dict-item]
    assert len(parse({"nodes": behind, "tls": {"nodes": False}}).nodes) == 2
    # A name may be public, so the gateway dials by TLS.
    assert all("TlsPort: nat.example.com:" in problem for problem in mistakes(nodes=behind))
    behind[1] |= {"publicHttpTlsPort": 51314, "publicGrpcTlsPort": 51315}  # type: ignore[dict-item]
    assert len(parse({"nodes": behind}).nodes) == 2


def test_the_gateways_ports_clash_with_a_nodes_on_one_host() -> None:
    found = mistakes(nodes=[{"host": GPU_1, "ports": {"http": 8080}}])
    assert found == ["gateway.http: port 8080 of 192.0.2.10 is also nodes[0].ports.http"]


def test_a_mistaken_secret_is_not_shown() -> None:
    message = "\n".join(
        mistakes(
            nodes=[GPU_1],
            apiKeys=["s3cret"],
            images={"registry": "r", "password": 12345},
            models={"source": "s3://a", "credentials": {"AWS_SECRET_ACCESS_KEY": 67890}},
        )
    )
    for path in ("apiKeys", "images.password", "models.credentials.AWS_SECRET_ACCESS_KEY"):
        assert f"{path}: expected" in message
    for secret in ("s3cret", "12345", "67890"):
        assert secret not in message


def test_a_long_mistake_is_shown_in_part_and_on_one_line() -> None:
    (message,) = mistakes(nodes=[{"host": GPU_1, "gpus": "all\n" * 100}])
    assert len(message) < 200
    assert "\n" not in message
    assert message.endswith("…")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([GPU_1, "embedded"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(config=st.dictionaries(st.sampled_from([info.alias for info in Stack.model_fields.values()]), VALUES))
@settings(max_examples=300, deadline=None)
def test_whatever_is_written_is_a_stack_or_has_mistakes_by_path(config: dict[str, Any]) -> None:
    try:
        parse(config)
    except StackError as error:
        assert all(problem.path for problem in error.problems)


@given(
    section=st.sampled_from([info.alias for info in Stack.model_fields.values() if info.alias != "nodes"]),
    data=st.data(),
)
@settings(max_examples=300, deadline=None)
def test_whatever_is_written_at_a_known_key_is_fine_or_a_mistake_by_path(
    section: str, data: st.DataObject
) -> None:
    field = next(info for info in Stack.model_fields.values() if info.alias == section)
    keys = [key.alias for key in getattr(field.annotation, "model_fields", {}).values()]
    value = data.draw(st.dictionaries(st.sampled_from(keys), VALUES) if keys else VALUES)
    try:
        parse({"nodes": [GPU_1], section: value})
    except StackError as error:
        assert all(problem.path for problem in error.problems)


def test_secrets_are_not_in_a_stacks_text() -> None:
    assert "example-key" not in repr(parse({"nodes": [GPU_1], "apiKeys": "example-key-1, example-key-2"}))


# Where it comes from ------------------------------------------------------------------------------------


def test_a_file_is_read_without_pulumi_and_its_encrypted_values_are_named(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(
        "encryptionsalt: v1:x\n"
        "config:\n"
        f"  gpu-inference:nodes: [{GPU_1}]\n"
        "  gpu-inference:apiKeys: {secure: AAAB}\n"
        "  docker:host: unix:///somewhere\n"
    )
    stack = load_file(file)
    assert (stack.name, stack.encrypted, stack.api_keys) == ("prod", ("apiKeys",), [])


@pytest.mark.parametrize(
    "text",
    [
        *(
            "config: [",
            "",
            "config: 7",
            "[]",
            "a: &a [*a]",
            "day: 2026-02-30",
            "[" * 2000,
            "big: " + "9" * 5000,
        ),
        *("\t", "--- a\n--- b\n", "a: !!python/name:os.system", "{[a]: b}", "\0"),
    ],
    ids=lambda text: text[:20],
)
def test_a_file_that_is_no_stack_is_reported_by_its_path(tmp_path: Path, text: str) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(text)
    with pytest.raises(StackError, match=r"Pulumi\.prod\.yaml"):
        load_file(file)


def test_an_error_about_a_repeated_key_names_both_lines(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(f"config:\n  gpu-inference:nodes: [{GPU_1}]\n  gpu-inference:nodes: [{GPU_2}]\n")
    with pytest.raises(StackError, match=r"gpu-inference:nodes is already in line 2\n.*line 3"):
        load_file(file)


def test_an_encrypted_value_that_is_needed_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(
        "config: {'gpu-inference:nodes': "
        "[{host: ssh://a, runtime: remote, remote: {endpoint: {secure: x}}}]}\n"
    )
    with pytest.raises(StackError) as caught:
        load_file(file)
    assert [str(problem) for problem in caught.value.problems] == [
        "nodes[0].remote.endpoint: is encrypted, and only Pulumi can decrypt it; this command needs its value"
    ]


def test_encrypted_passwords_of_monitoring_are_no_mistake_without_pulumi(tmp_path: Path) -> None:
    """docs/monitoring.md says to encrypt them, and other keys require them."""
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(
        f"""config:
  gpu-inference:nodes: [{GPU_1}]
  gpu-inference:monitoring:
    grafana: {{bind: 192.168.7.11, password: {{secure: v1:x}}}}
    alertmanager:
      email: {{to: a@example.com, from: b@example.com, smarthost: "mail.example.com:587",
              username: fleet, password: {{secure: v1:y}}}}
"""
    )
    assert load_file(file).encrypted == (
        "monitoring.grafana.password",
        "monitoring.alertmanager.email.password",
    )
    file.write_text(file.read_text().replace("password: {secure: v1:x}", "memory: 1g"))
    with pytest.raises(StackError, match=r"monitoring\.grafana\.password: required"):
        load_file(file)


def test_an_encrypted_value_that_names_or_images_would_show_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(
        """config:
  gpu-inference:nodes: [{host: {secure: v1:x}}, {host: ssh://b, name: {secure: v1:x}}]
  gpu-inference:gateway: {hosts: [{secure: v1:x}]}
  gpu-inference:service: {build: {args: {TOKEN: {secure: v1:x}}}}
"""
    )
    with pytest.raises(StackError) as caught:
        load_file(file)
    in_names = "cannot be encrypted: the names of resources and containers contain it"
    in_images = "cannot be encrypted: an image shows its build arguments to everyone who has it"
    assert {str(problem) for problem in caught.value.problems} == {
        f"nodes[0].host: {in_names}",
        f"nodes[1].name: {in_names}",
        f"gateway.hosts: {in_names}",
        f"service.build.args.TOKEN: {in_images}",
    }


def test_pulumis_own_configuration_gives_the_same_stack() -> None:
    class Engine(Mocks):
        def call(self, args: MockCallArgs) -> Any:
            raise AssertionError(args.token)

        def new_resource(self, args: MockResourceArgs) -> Any:
            return "", {}

    set_mocks(Engine(), project="gpu-inference", stack="prod")
    pulumi.runtime.set_all_config(
        {
            "gpu-inference:nodes": f'["{GPU_1}"]',
            "gpu-inference:apiKeys": "example-key-1",
            "gpu-inference:remoteDir": "/srv/gpu",
            "docker:host": "unix:///somewhere",
        },
        ["gpu-inference:apiKeys"],
    )

    @pulumi.runtime.test
    def run() -> None:
        loaded.append(load())

    loaded: list[Stack] = []
    run()
    (stack,) = loaded
    assert stack.name == "prod"
    assert stack.nodes == parse({"nodes": [GPU_1]}).nodes
    assert [key.get_secret_value() for key in stack.api_keys] == ["example-key-1"]
    assert stack.remote_dir == "/srv/gpu"


@pytest.mark.parametrize("name", ["dev", "example"])
def test_the_projects_own_stacks_have_no_mistakes(name: str) -> None:
    assert load_file(PROJECT / f"Pulumi.{name}.yaml").name == name


def test_the_schema_in_the_project_is_the_types() -> None:
    assert main(["schema", "--check"]) == 0


def test_check_names_the_mistake_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text("config:\n  gpu-inference:nodes: []\n")
    assert main(["check", str(file)]) == 1
    message = capsys.readouterr().err
    assert "has 1 error:" in message
    assert "nodes: expected at least one node" in message
