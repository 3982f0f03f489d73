"""The rules of a configuration that span several of its keys."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from inference_service import settings
from infra import names, service_settings
from infra.stack import gateway_rules, monitoring_rules, roles, traces
from infra.stack.gateway import Gateway
from infra.stack.hosts import Host, SshHost
from infra.stack.images import Images
from infra.stack.monitoring import Monitoring
from infra.stack.node import Node
from infra.stack.problems import Problem
from infra.stack.runtimes import EdgeLlm, Models, Service, Triton
from infra.stack.tls import TlsToNodes, impossible, wanted


def check(nodes: Mapping[int, Node], sections: Mapping[str, Any]) -> Iterator[Problem]:
    """Yields the problems of every rule.

    `nodes` are the valid nodes by position, `sections` the valid sections by field name. A rule is skipped if
    one of its sections is invalid, since that section has an error of its own.
    """
    triton: Triton | None = sections.get("triton")
    edge_llm: EdgeLlm | None = sections.get("edge_llm")
    gateway: Gateway | None = sections.get("gateway")
    models: Models | None = sections.get("models")
    monitoring: Monitoring | None = sections.get("monitoring")
    yield from shared(nodes, sections)
    if triton is not None and edge_llm is not None:
        with_tls = _with_tls(nodes, gateway, sections.get("tls"))
        yield from _ports(nodes, triton, edge_llm, gateway, with_tls, monitoring)
    for position, node in nodes.items():
        yield from _runtime(f"nodes[{position}]", node, models)
    if gateway is not None:
        yield from gateway_rules.check(nodes, gateway)
        yield from _tls(nodes, gateway, sections.get("tls"))
        if monitoring is not None:
            yield from monitoring_rules.check(monitoring, gateway)
    if models is not None:
        yield from _models(models)


def shared(nodes: Mapping[int, Node], sections: Mapping[str, Any]) -> Iterator[Problem]:
    """Yields the problems of the rules that hold on every target."""
    gateway: Gateway | None = sections.get("gateway")
    edge_llm: EdgeLlm | None = sections.get("edge_llm")
    service: Service | None = sections.get("service")
    images: Images | None = sections.get("images")
    models: Models | None = sections.get("models")
    for position, node in nodes.items():
        yield from _needs(f"nodes[{position}]", node, edge_llm)
    yield from roles.check(nodes, service, gateway)
    if images is not None and images.registry is None and (images.username or images.password):
        yield Problem("images.registry", "required with images.username and images.password")
    if images is not None:
        yield from _logins(images)
    if models is not None and models.credentials and not models.object_store:
        yield Problem(
            "models.credentials", f"used with an object store only; models.source is {models.source}"
        )
    if service is not None:
        yield from _service(service)
    if sections.get("traces") is not None:
        yield from traces.check(nodes, sections["traces"])


def _logins(images: Images) -> Iterator[Problem]:
    """No two logins are of one registry."""
    taken: dict[str, str] = {}
    if images.registry_host and images.username:
        taken[images.registry_host] = "images.registry"
    for position, login in enumerate(images.logins):
        path = f"images.logins[{position}].registry"
        first = taken.setdefault(login.registry, path)
        if first != path:
            yield Problem(path, f"{login.registry} has a login already: {first}")


def unique_names(given: Mapping[int, str]) -> Iterator[Problem]:
    """No two nodes share a name. `given` are the known names by position."""
    positions: dict[str, int] = {}
    for position, name in given.items():
        first = positions.setdefault(name, position)
        if first != position:
            yield Problem(f"nodes[{position}].name", f'"{name}" is also the name of nodes[{first}]')


def _ports(
    nodes: Mapping[int, Node],
    triton: Triton,
    edge_llm: EdgeLlm,
    gateway: Gateway | None,
    with_tls: bool,
    monitoring: Monitoring | None,
) -> Iterator[Problem]:
    """No port of a machine is used twice.

    Two SSH addresses with different SSH ports may be two machines behind one NAT address, so only nodes
    with the same address and SSH port count as one machine.
    """
    taken: dict[tuple[str, int, int], str] = {}

    def claim(host: Host, port: int, path: str) -> Iterator[Problem]:
        machine, ssh_port = "this computer", 0
        if isinstance(host, SshHost):
            machine, ssh_port = host.address.lower(), host.port or 22
        first = taken.setdefault((machine, ssh_port, port), path)
        if first != path:
            yield Problem(path, f"port {port} of {machine} is also {first}")

    apart: dict[int, Node] = {}
    for position, node in nodes.items():
        # Embedded nodes have no private network: Triton's ports are open on the loopback interface.
        publish = triton.publish or node.embedded
        clashes = [
            problem
            for port in names.node_ports(node, triton=publish, unit_manager=edge_llm.publish, tls=with_tls)
            for problem in claim(node.host, port.outer, f"nodes[{position}].ports.{port.key}")
        ]
        yield from clashes
        if not clashes:
            apart[position] = node
    yield from _public_addresses(apart, with_tls)
    if gateway is not None and gateway.mode != "existing":
        for each in gateway.each:
            yield from claim(each.host, each.http, "gateway.http")
            yield from claim(each.host, each.grpc, "gateway.grpc")
    if gateway is not None and monitoring is not None:
        for key, number in monitoring_rules.ports(monitoring):
            yield from claim(monitoring.host or gateway.each[0].host, number, f"monitoring.{key}")


def _with_tls(nodes: Mapping[int, Node], gateway: Gateway | None, tls: TlsToNodes | None) -> bool:
    return gateway is not None and tls is not None and wanted(tls, list(nodes.values()), gateway)


def _tls(nodes: Mapping[int, Node], gateway: Gateway, tls: TlsToNodes | None) -> Iterator[Problem]:
    if tls is not None and tls.nodes is True:
        reason = impossible(list(nodes.values()), gateway)
        if reason is not None:
            yield Problem("tls.nodes", f"cannot be true: {reason}")


def _public_addresses(nodes: Mapping[int, Node], with_tls: bool) -> Iterator[Problem]:
    """No two nodes have the same upstream address."""
    taken: dict[tuple[str, int], str] = {}
    for position, node in nodes.items():
        ports = {"publicHttpPort": node.public_http_port, "publicGrpcPort": node.public_grpc_port}
        if with_tls:
            ports["publicHttpTlsPort"] = node.public_http_tls_port
            ports["publicGrpcTlsPort"] = node.public_grpc_tls_port
        for key, port in ports.items():
            path = f"nodes[{position}].{key}"
            first = taken.setdefault((node.public_host.lower(), port), path)
            if first != path:
                yield Problem(path, f"{node.public_host}:{port} is also {first}")


def _needs(path: str, node: Node, edge_llm: EdgeLlm | None) -> Iterator[Problem]:
    """What a runtime needs wherever it runs."""
    if node.runtime == "remote" and node.remote.endpoint is None:
        yield Problem(
            f"{path}.remote.endpoint", "required where runtime is remote (or remote.endpoint for all)"
        )
    if node.runtime == "edge-llm" and edge_llm is not None:
        for key, part in (("unitManager", edge_llm.unit_manager), ("llmNode", edge_llm.llm_node)):
            if part.source is None:
                yield Problem(f"edgeLlm.{key}", f"expected image or build: {path}.runtime is edge-llm")


def _runtime(path: str, node: Node, models: Models | None) -> Iterator[Problem]:
    if node.runtime == "remote" and node.wants_gpus:
        yield Problem(f"{path}.gpus", "a remote node runs no models; expected none")
    if node.embedded:
        if node.bind is not None:
            yield Problem(f"{path}.bind", "an embedded node is open on 127.0.0.1 only")
        if node.runtime == "edge-llm":
            yield Problem(f"{path}.runtime", "an embedded node runs triton or remote, not edge-llm")
        if node.wants_gpus and node.runtime != "remote":
            yield Problem(f"{path}.gpus", "an embedded node runs Triton on the CPU; expected none")
        if models is not None and models.object_store:
            yield Problem(
                "models.source", "embedded nodes read models from this computer: expected host or sync"
            )
    if node.runtime == "edge-llm" and models is not None and models.object_store:
        yield Problem("models.source", f"an object store is read by Triton only: {path}.runtime is edge-llm")


def _service(service: Service) -> Iterator[Problem]:
    """The service's own settings are valid; those of another image's service are not checked."""
    for key in ("ai", "server"):
        if not isinstance(service.config.get(key, {}), dict):
            yield Problem(f"service.config.{key}", "expected a mapping of the service's settings")
            return
    if service.image is not None:
        return
    for path, key in service_settings.DECIDED.items():
        if _at(service.config, path.split(".")) not in (None, ""):
            yield Problem(f"service.config.{path}", f"has no effect in a stack; set {key}")
    # Limits are checked against the number of workers, which the stack decides.
    config = copy.deepcopy(service.config)
    config["server"] = {
        **(config.get("server") or {}),
        "workers": service.workers,
        "max_concurrency": service.max_concurrency,
    }
    try:
        settings.check(config, service.env)
    except settings.SettingsError as error:
        for problem in error.problems:
            path, _, message = problem.partition(": ")
            # The node sets the endpoint, so `service.config` alone may lack it.
            if path != "ai.http.endpoint":
                yield Problem(service_settings.DECIDED.get(path, f"service.config.{path}"), message)


def _at(config: Any, steps: list[str]) -> Any:
    """The value at a path of keys; None if there is none."""
    for step in steps:
        config = config.get(step) if isinstance(config, dict) else None
    return config


def _models(models: Models) -> Iterator[Problem]:
    if models.claim is not None or models.image is not None:
        yield Problem(
            "models.source",
            f"needs target: kubernetes; expected host, sync, s3://…, gs://… or as://…, got {models.source}",
        )
    if models.source == "host" and not models.path.startswith("/"):
        yield Problem("models.path", f'expected an absolute path on the hosts, got "{models.path}"')
