"""What an embedded node and an embedded gateway are declared as, and how a stack turns into them.

These are the whole input of `python -m infra.embedded apply-node` and `apply-gateway`, as JSON on standard
input, so whoever declares the stack (Pulumi, or `up` directly) starts the same processes.
"""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from inference_service.settings import ModelsSettings, RequestSettings
from infra import names
from infra.gateway.entrance import entrance
from infra.gateway.render import RateLimit, Tls, UpstreamServer
from infra.paths import project_path
from infra.service_settings import merged, on_this_computer, service_secrets, service_settings
from infra.stack import Node, Stack
from infra.triton_arguments import models_in_use


class Declaration(BaseModel):
    """Immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> str:
        """The declaration as `apply-node` and `apply-gateway` read it; the same text for the same one."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


class TritonDeclaration(Declaration):
    """A node's Triton. `models` are loaded and no others; None loads all of the repository."""

    http: int
    grpc: int
    metrics: int
    repository: Path
    models: tuple[str, ...] | None = None
    extra_args: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict, repr=False)


class NodeDeclaration(Declaration):
    """A node of processes on this computer; without `triton` its service forwards to another one.

    `service` are the service's settings, as in its YAML file; `environment` may hold API keys. A stopping
    service may take `grace_seconds`, and the node `ready_seconds` to become healthy.
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")
    http: int
    grpc: int
    triton: TritonDeclaration | None
    service: dict[str, Any] = Field(repr=False)
    environment: dict[str, str] = Field(default_factory=dict, repr=False)
    grace_seconds: int = 30
    ready_seconds: int = 300

    @property
    def url(self) -> str:
        """The node's HTTP API."""
        return f"http://{names.LOOPBACK}:{self.http}"

    @property
    def ports(self) -> dict[str, int]:
        """The ports it listens on, by their keys in the stack's `ports`."""
        found = {"http": self.http, "grpc": self.grpc}
        if self.triton is not None:
            found |= {
                "tritonHttp": self.triton.http,
                "tritonGrpc": self.triton.grpc,
                "tritonMetrics": self.triton.metrics,
            }
        return found


class GatewayDeclaration(Declaration):
    """The gateway of processes on this computer. `body_limit` is in bytes."""

    schema_version: Literal[1] = 1
    http: int
    grpc: int
    servers: tuple[UpstreamServer, ...]
    tls: Tls | None = None
    rate_limit: RateLimit | None = None
    api_keys: tuple[str, ...] = Field(default=(), repr=False)
    body_limit: int = RequestSettings().max_body_bytes
    grpc_balancing: Literal["http2", "layer4"] = "http2"

    @property
    def url(self) -> str:
        """The gateway's HTTP entrance."""
        return f"{'https' if self.tls else 'http'}://{names.LOOPBACK}:{self.http}"

    @property
    def ports(self) -> dict[str, int]:
        """The ports it listens on, by their keys in the stack's `gateway`."""
        return {"http": self.http, "grpc": self.grpc}


def node_declaration(stack: Stack, node: Node) -> NodeDeclaration:
    """The declaration of one of the stack's embedded nodes."""
    return NodeDeclaration(
        name=node.name,
        http=node.ports.http,
        grpc=node.ports.grpc,
        triton=_triton(stack, node) if node.runtime == "triton" else None,
        service=_service(stack, node, project_path(stack.models.path)),
        environment={**stack.service.env, **service_secrets(stack, node)},
        grace_seconds=stack.service.shutdown_grace_seconds,
        ready_seconds=stack.rollout.ready_timeout_seconds,
    )


def gateway_declaration(stack: Stack, away: Set[str] = frozenset()) -> GatewayDeclaration:
    """The stack's gateway as a process here; nodes that are `away`, by name, get no traffic."""
    gateway = stack.gateway
    return GatewayDeclaration(http=gateway.http, grpc=gateway.grpc, **entrance(stack, away))


def _triton(stack: Stack, node: Node) -> TritonDeclaration:
    return TritonDeclaration(
        http=node.ports.triton_http,
        grpc=node.ports.triton_grpc,
        metrics=node.ports.triton_metrics,
        repository=project_path(stack.models.path),
        models=models_in_use(stack),
        extra_args=tuple(stack.triton.extra_args),
        environment=dict(stack.triton.env),
    )


def _service(stack: Stack, node: Node, repository: Path) -> dict[str, Any]:
    """The settings of the node's service.

    Unlike a service in a container, this one sees the models' folders: the emotion model's labels are those
    beside it in the repository, unless the stack names others.
    """
    emotion = ModelsSettings.model_validate(stack.service.config.get("ai", {}).get("models", {})).emotion
    labels = repository / emotion.model_name / "labels.json"
    defaults = {"ai": {"models": {"emotion": {"labels_path": str(labels)}}}} if labels.is_file() else {}
    return merged(defaults, service_settings(stack, node, on_this_computer(node)))
