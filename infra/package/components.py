"""`Node`, `Gateway` and `Fleet` with settings as plain data, for programs of your own.

Their annotations are outputs, and types rather than strings: Pulumi infers the package's schema from them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from inference_service.addresses import GRPC_PORT, HTTP_PORT
from infra.gateway.configuration import Configuration
from infra.gateway.plan import gateway_plan
from infra.package.args import FleetArgs, GatewayArgs, NodeArgs
from infra.package.stack import secret_list, stack_of
from infra.program import fleet, gateway, node
from infra.program.host import Host, HostArgs, dependencies, label_of
from infra.program.images import Images
from infra.service_settings import API_KEYS
from infra.stack import Stack
from infra.stack.hosts import bracketed

#: The settings of a node that are those of a whole fleet, too.
_SHARED = {"triton", "edge_llm", "service", "models", "ssh", "images", "remote_dir", "cors", "traces"}


class Node(node.Node):
    """One node on its Docker host: the runtime, the inference service, and the wait for its health."""

    http: pulumi.Output[str]
    """The service's HTTP address."""
    grpc: pulumi.Output[str]
    """The service's gRPC address."""
    upstream: pulumi.Output[Mapping[str, Any]]
    """The node as a `Gateway` takes it, once it is healthy."""

    def __init__(self, name: str, args: NodeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        pulumi.ComponentResource.__init__(self, node.TYPE, name, None, opts)
        settings: dict[str, Any] = dict(args)
        keys = settings.pop("api_keys", None)
        ready = {key: settings.pop(key) for key in ("ready_timeout_seconds",) if key in settings}
        shared = {key: settings.pop(key) for key in _SHARED & settings.keys()}
        nodes = [{**settings, "name": name}]
        stack = stack_of({**shared, "nodes": nodes, "rollout": ready}, pulumi.get_stack())
        [declared] = stack.nodes
        if declared.embedded:
            raise ValueError("host: expected a Docker host, got embedded")
        inside = pulumi.ResourceOptions(parent=self)
        host = Host(f"{name}-{label_of(declared.host)}", HostArgs(declared.host, stack), inside)
        images = Images(stack, host if stack.images.registry else None)
        secrets = {} if keys is None else {API_KEYS: secret_list(keys).apply(json.dumps)}
        prepared = node.PreparedNode(
            name, node.PreparedNodeArgs(stack, declared, host, images, secrets), inside
        )
        self.declare(node.NodeArgs(prepared), [*dependencies(opts), *prepared.resources])


class Gateway(gateway.Gateway):
    """One HTTP and one gRPC entrance over nodes."""

    http: pulumi.Output[str]
    """The HTTP entrance's URL."""
    grpc: pulumi.Output[str]
    """The gRPC entrance's address."""

    def __init__(self, name: str, args: GatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        pulumi.ComponentResource.__init__(self, gateway.TYPE, name, None, opts)
        settings: dict[str, Any] = dict(args)
        nodes, keys = settings.pop("nodes"), settings.pop("api_keys", None)
        shared = {key: settings.pop(key) for key in _SHARED & settings.keys()}

        def stack_with(nodes: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Stack:
            return stack_of(
                {
                    **shared,
                    "nodes": [_node(each) for each in nodes],
                    # The console watches nodes that it knows from the stack file: that of a fleet.
                    "gateway": {**settings, "console": {"enabled": False}},
                    "api_keys": list(keys),
                },
                f"{pulumi.get_stack()}-{name}",
            )

        # Everything except the configuration is the same for all nodes and keys.
        any_node = {"name": "any", "host": "192.0.2.1", "http": HTTP_PORT, "grpc": GRPC_PORT}
        fixed = stack_with([any_node], [])
        address = fixed.gateway.host
        host = Host(
            f"{name}-{label_of(address)}", HostArgs(address, fixed), pulumi.ResourceOptions(parent=self)
        )

        def text(given: Sequence[Any]) -> str:
            stack = stack_with(*given)
            return _planned(stack)[1].to_json()

        output = pulumi.Output.all(nodes, [] if keys is None else secret_list(keys)).apply(text)
        url, configuration = _planned(fixed)
        self.declare(name, gateway.GatewayArgs(fixed, host, url, configuration, output), dependencies(opts))


def _node(upstream: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": upstream["name"],
        "host": f"ssh://{bracketed(upstream['host'])}",
        "public_http_port": upstream["http"],
        "public_grpc_port": upstream["grpc"],
        "drained": bool(upstream.get("drained")),
        **{key: upstream[key] for key in ("tasks", "weight") if key in upstream},
    }


def _planned(stack: Stack) -> tuple[str, Configuration]:
    """The gateway's HTTP entrance and its configuration."""
    plan = gateway_plan(stack)
    if plan.configuration is None:
        raise ValueError("mode: expected container or existing, got embedded")
    return plan.url, plan.configuration


class Fleet(fleet.Fleet):
    """All nodes, the gateway over them, and their hosts, changed in the rollout's order."""

    http: pulumi.Output[str]
    """The gateway's HTTP URL."""
    grpc: pulumi.Output[str]
    """The gateway's gRPC address."""
    monitoring: pulumi.Output[Mapping[str, Any]]
    """The addresses of Prometheus, Alertmanager and Grafana on their host, and the command that reaches them
    from another computer. Without monitoring it is empty."""
    targets: pulumi.Output[Mapping[str, Any]]
    """What a Prometheus reads, in the form of its file_sd_configs: gateways, nodes and hosts."""

    def __init__(self, name: str, args: FleetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        stack = stack_of(args, f"{pulumi.get_stack()}-{name}")
        super().__init__(name, fleet.FleetArgs(stack), opts)
        self.http = pulumi.Output.from_input(self.outputs["gateway"]["http"])
        self.grpc = pulumi.Output.from_input(self.outputs["gateway"]["grpc"])
        self.monitoring = pulumi.Output.from_input(self.outputs.get("monitoring", {}))
        self.targets = pulumi.Output.from_input(self.outputs["prometheus"])
