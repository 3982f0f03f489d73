"""The one map from a stack to the settings of a node's inference service.

Every setting that the stack decides is one row of `_MAP`, for nodes of containers and for embedded ones.
`infra.stack.rules` refuses the same settings in `service.config`. The stack's types are for the type checker
only, so that those rules can import this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from infra import names

if TYPE_CHECKING:
    from infra.stack import Node, Stack


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a node's service listens, and the addresses at which it finds its runtime.

    `triton_url` is a URL, `triton_grpc` and `unit_manager` are `host:port`.
    """

    host: str
    http_port: int
    grpc_port: int
    triton_url: str
    triton_grpc: str
    unit_manager: str


#: In a container: on every interface of the node's own network, where the parts have names.
IN_CONTAINERS = Addresses(
    host="0.0.0.0",
    http_port=names.HTTP_PORT,
    grpc_port=names.GRPC_PORT,
    triton_url=names.TRITON_URL,
    triton_grpc=names.TRITON_GRPC_ADDRESS,
    unit_manager=names.UNIT_MANAGER_ADDRESS,
)


def on_this_computer(node: Node) -> Addresses:
    """Of an embedded node: its own ports of the loopback interface. No unit manager is embedded."""
    ports = node.ports
    return Addresses(
        host=names.LOOPBACK,
        http_port=ports.http,
        grpc_port=ports.grpc,
        triton_url=f"http://{names.LOOPBACK}:{ports.triton_http}",
        triton_grpc=f"{names.LOOPBACK}:{ports.triton_grpc}",
        unit_manager="",
    )


@dataclass(frozen=True, slots=True)
class _Service:
    """The service that settings are for."""

    stack: Stack
    node: Node
    at: Addresses


@dataclass(frozen=True, slots=True)
class _Setting:
    """A setting of the service that the stack decides.

    `path` is the setting, `key` the stack's key that decides it (None: no key does), `value` gives its value.
    A setting with a `runtime` is for nodes with that runtime only. A `secret` is an environment variable of
    the service and not in its file; it is left out when it has no value.
    """

    path: str
    key: str | None
    value: Callable[[_Service], Any]
    runtime: str | None = None
    secret: bool = False


_MAP = (
    _Setting("server.host", None, lambda of: of.at.host),
    _Setting("server.http_port", "ports.http", lambda of: of.at.http_port),
    _Setting("server.grpc_port", "ports.grpc", lambda of: of.at.grpc_port),
    _Setting("server.workers", "service.workers", lambda of: of.stack.service.workers),
    _Setting(
        "server.max_concurrency",
        "service.maxConcurrency",
        lambda of: of.stack.service.max_concurrency,
    ),
    _Setting(
        "server.shutdown_grace",
        "service.shutdownGraceSeconds",
        lambda of: of.stack.service.shutdown_grace_seconds,
    ),
    _Setting(
        "server.api_keys",
        "apiKeys",
        lambda of: [key.get_secret_value() for key in of.stack.api_keys],
        secret=True,
    ),
    _Setting("ai.runtime.backend", "nodes[].runtime", lambda of: of.node.runtime),
    _Setting("ai.runtime.triton.endpoint", None, lambda of: of.at.triton_url, runtime="triton"),
    _Setting("ai.runtime.triton.grpc_endpoint", None, lambda of: of.at.triton_grpc, runtime="triton"),
    _Setting("ai.runtime.edge_llm.endpoint", None, lambda of: of.at.unit_manager, runtime="edge-llm"),
    _Setting("ai.http.endpoint", "remote.endpoint", lambda of: of.node.remote.endpoint, runtime="remote"),
    _Setting(
        "ai.http.token",
        "remote.token",
        lambda of: of.node.remote.token and of.node.remote.token.get_secret_value(),
        runtime="remote",
        secret=True,
    ),
    _Setting(
        "ai.http.timeout",
        "remote.timeoutSeconds",
        lambda of: of.node.remote.timeout_seconds,
        runtime="remote",
    ),
)

#: The service's settings that have no effect in `service.config`, and the stack's key that decides each.
DECIDED = {setting.path: setting.key for setting in _MAP if setting.key is not None}


def service_settings(stack: Stack, node: Node, at: Addresses = IN_CONTAINERS) -> dict[str, Any]:
    """What the service's YAML file holds: `service.config`, and over it what the stack decides.

    It holds no secret; those are in `service_secrets`.
    """
    service = _Service(stack, node, at)
    settings = dict(stack.service.config)
    for setting in _rows(node, secret=False):
        settings = merged(settings, _nested(setting.path, setting.value(service)))
    return settings


def settings_file(stack: Stack, node: Node) -> str:
    """The settings of a service in a container, as the text of its file."""
    return yaml.safe_dump(service_settings(stack, node), sort_keys=True, allow_unicode=True)


def service_secrets(stack: Stack, node: Node) -> dict[str, str]:
    """The settings that are secrets, as environment variables of the service."""
    service = _Service(stack, node, IN_CONTAINERS)
    secrets = {}
    for setting in _rows(node, secret=True):
        if value := setting.value(service):
            variable = setting.path.upper().replace(".", "__")
            secrets[variable] = value if isinstance(value, str) else json.dumps(value)
    return secrets


def _rows(node: Node, *, secret: bool) -> Iterator[_Setting]:
    """The rows for a node."""
    for setting in _MAP:
        if setting.secret == secret and setting.runtime in (None, node.runtime):
            yield setting


def _nested(path: str, value: Any) -> dict[str, Any]:
    """The mapping of mappings that has `value` at a dotted path."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over` set in it, mappings merged."""
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result
