"""The one map from a stack to the settings of a node's inference service.

It holds for nodes of containers and for embedded ones. `infra.stack.rules` refuses the settings in `DECIDED`
in `service.config`. The stack's types are for the type checker only, so that those rules can import this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference_service import addresses
from inference_service.tasks import Task
from infra import names

if TYPE_CHECKING:
    from infra.stack import Node, Stack

#: The service's settings that have no effect in `service.config`, and the stack's key that decides each.
DECIDED = {
    "server.http_port": "ports.http",
    "server.grpc_port": "ports.grpc",
    "server.tls.certificate": "tls.nodes",
    "server.tls.key": "tls.nodes",
    "server.tls.client_ca": "tls.nodes",
    "server.tls.http_port": "ports.httpTls",
    "server.tls.grpc_port": "ports.grpcTls",
    "server.workers": "service.workers",
    "server.max_concurrency": "service.maxConcurrency",
    "server.shutdown_grace": "service.shutdownGraceSeconds",
    "server.api_keys": "apiKeys",
    "server.traces.endpoint": "traces.endpoint",
    "server.traces.share": "traces.share",
    "server.traces.resource": "traces",
    "server.cors_origins": "cors.origins",
    "ai.runtime.backend": "nodes[].runtime",
    "ai.models.allow_rules": "models.allowRules",
    "ai.http.endpoint": "remote.endpoint",
    "ai.http.token": "remote.token",
    "ai.http.timeout": "remote.timeoutSeconds",
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses that a node's service listens on, and those at which it finds its runtime.

    The defaults are those in a container: every interface of the node's network, where the parts have names.
    `triton_url` is a URL, and the others are `host:port`. Without `triton_metrics`, its port is the one after
    that of `triton_grpc`.
    """

    host: str = "0.0.0.0"
    http_port: int = addresses.HTTP_PORT
    grpc_port: int = addresses.GRPC_PORT
    triton_url: str = addresses.TRITON_URL
    triton_grpc: str = addresses.TRITON_GRPC
    triton_metrics: str | None = None
    unit_manager: str = addresses.UNIT_MANAGER


IN_CONTAINERS = Addresses()
#: In a pod, whose containers have one network.
IN_A_POD = Addresses(
    triton_url=f"http://{names.LOOPBACK}:{addresses.TRITON_HTTP_PORT}",
    triton_grpc=f"{names.LOOPBACK}:{addresses.TRITON_GRPC_PORT}",
    unit_manager=f"{names.LOOPBACK}:{addresses.UNIT_MANAGER_PORT}",
)

#: The service's environment variable for API keys.
API_KEYS = "SERVER__API_KEYS"


def on_this_computer(node: Node) -> Addresses:
    """The addresses of an embedded node: its own ports of the loopback interface."""
    ports = node.ports
    return Addresses(
        host=names.LOOPBACK,
        http_port=ports.http,
        grpc_port=ports.grpc,
        triton_url=f"http://{names.LOOPBACK}:{ports.triton_http}",
        triton_grpc=f"{names.LOOPBACK}:{ports.triton_grpc}",
        triton_metrics=f"{names.LOOPBACK}:{ports.triton_metrics}",
    )


def service_settings(stack: Stack, node: Node, at: Addresses = IN_CONTAINERS) -> dict[str, Any]:
    """The content of the service's YAML file: `service.config`, overridden by what the stack decides.

    Secrets are not in it but in `service_secrets`.
    """
    runtime: dict[str, Any] = {"backend": node.runtime}
    ai: dict[str, Any] = {"runtime": runtime}
    if node.runtime == "triton":
        runtime["triton"] = {"endpoint": at.triton_url, "grpc_endpoint": at.triton_grpc}
        if at.triton_metrics is not None:
            runtime["triton"]["metrics_endpoint"] = at.triton_metrics
    elif node.runtime == "edge-llm":
        runtime["edge_llm"] = {"endpoint": at.unit_manager}
    else:
        ai["http"] = {"endpoint": node.remote.endpoint, "timeout": node.remote.timeout_seconds}
    models: dict[str, Any] = switched_off(node)
    if stack.models.allow_rules is False:
        models["allow_rules"] = False
    if models:
        ai["models"] = models
    server: dict[str, Any] = {
        "host": at.host,
        "http_port": at.http_port,
        "grpc_port": at.grpc_port,
        "workers": stack.service.workers,
        "max_concurrency": stack.service.max_concurrency,
        "shutdown_grace": stack.service.shutdown_grace_seconds,
    }
    if stack.cors.origins:
        server["cors_origins"] = stack.cors.origins
    if stack.traces.endpoint is not None:
        server["traces"] = {
            "endpoint": stack.traces.endpoint,
            "share": stack.traces.share,
            "resource": traced_as(stack, node),
        }
    return merged(stack.service.config, {"server": server, "ai": ai})


def traced_as(stack: Stack, node: Node) -> dict[str, str]:
    """The attributes by which the spans of a node's service and runtime tell whose they are."""
    return {"service.namespace": stack.name, "service.instance.id": node.name}


def switched_off(node: Node) -> dict[str, Any]:
    """The settings in `ai.models` for the tasks that the node does not serve."""
    return {task.model: {"enabled": False} for task in Task if task.model not in node.tasks}


def settings_text(stack: Stack, node: Node, at: Addresses = IN_CONTAINERS) -> str:
    """The text of the settings of a service in a container: JSON, which is YAML, too.

    YAML's writer gives some texts a form in which nothing finds an encrypted value again.
    """
    return json.dumps(service_settings(stack, node, at), sort_keys=True, ensure_ascii=False)


def service_secrets(stack: Stack, node: Node) -> dict[str, str]:
    """The settings that are secrets, as environment variables of the service."""
    secrets = {}
    if stack.api_keys:
        secrets[API_KEYS] = keys_text(stack)
    if node.runtime == "remote" and node.remote.token:
        secrets["AI__HTTP__TOKEN"] = node.remote.token.get_secret_value()
    return secrets


def keys_text(stack: Stack) -> str:
    """The API keys as the service and the console take them: a JSON list."""
    return json.dumps([key.get_secret_value() for key in stack.api_keys])


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over` set in it, mappings merged."""
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result
