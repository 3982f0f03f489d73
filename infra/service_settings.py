"""The settings of a node's inference service, from the stack."""

from __future__ import annotations

import json
from typing import Any

import yaml

from infra import names
from infra.stack import Node, Stack


def service_settings(stack: Stack, node: Node) -> dict[str, Any]:
    """What the service's YAML file holds: the stack's own settings, and over them what the node decides.

    No secret is in it; those are in `service_secrets`.
    """
    ai: dict[str, Any] = {"runtime": {"backend": node.runtime}}
    if node.runtime == "triton":
        ai["runtime"]["triton"] = {
            "endpoint": names.TRITON_URL,
            "grpc_endpoint": names.TRITON_GRPC_ADDRESS,
        }
    elif node.runtime == "edge-llm":
        ai["runtime"]["edge_llm"] = {"endpoint": names.UNIT_MANAGER_ADDRESS}
    else:
        ai["http"] = {"endpoint": node.remote.endpoint, "timeout": node.remote.timeout_seconds}
    server = {
        "host": "0.0.0.0",
        "http_port": names.HTTP_PORT,
        "grpc_port": names.GRPC_PORT,
        "workers": stack.service.workers,
        "max_concurrency": stack.service.max_concurrency,
        "shutdown_grace": stack.service.shutdown_grace_seconds,
    }
    return merged(stack.service.config, {"ai": ai, "server": server})


def settings_file(stack: Stack, node: Node) -> str:
    """The service's settings as the text of its file."""
    return yaml.safe_dump(service_settings(stack, node), sort_keys=True, allow_unicode=True)


def service_secrets(stack: Stack, node: Node) -> dict[str, str]:
    """The settings that are secrets, as environment variables of the service."""
    secrets = {}
    if stack.api_keys:
        secrets["SERVER__API_KEYS"] = json.dumps([key.get_secret_value() for key in stack.api_keys])
    if node.runtime == "remote" and node.remote.token is not None:
        secrets["AI__HTTP__TOKEN"] = node.remote.token.get_secret_value()
    return secrets


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over` set in it, mappings merged."""
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result
