"""What an embedded node and an embedded gateway are declared as, and how a stack turns into them.

These are the whole input of `python -m infra.embedded apply-node` and `apply-gateway`, as JSON on standard
input, so whoever declares the stack (Pulumi, or `up` directly) starts the same processes.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from inference_service.settings import ModelsSettings, RequestSettings
from infra.gateway.entrance import entrance
from infra.gateway.render import RateLimit, Tls, UpstreamServer
from infra.paths import project_path
from infra.service_settings import merged
from infra.stack import Node, Stack

LOOPBACK = "127.0.0.1"


class Declaration(BaseModel):
    """Immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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

    `service` are the service's settings, as in its YAML file; they may hold API keys. `grace_seconds` is how
    long a stopping service may take, `ready_seconds` how long the node may take to become healthy.
    """

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
        return f"http://{LOOPBACK}:{self.http}"

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
        return f"{'https' if self.tls else 'http'}://{LOOPBACK}:{self.http}"

    @property
    def ports(self) -> dict[str, int]:
        """The ports it listens on, by their keys in the stack's `gateway`."""
        return {"http": self.http, "grpc": self.grpc}


def node_declaration(stack: Stack, node: Node) -> NodeDeclaration:
    """The declaration of one of the stack's embedded nodes."""
    environment = dict(stack.service.env)
    return NodeDeclaration(
        name=node.name,
        http=node.ports.http,
        grpc=node.ports.grpc,
        triton=_triton(stack, node) if node.runtime == "triton" else None,
        service=_service_settings(stack, node, project_path(stack.models.path)),
        environment=environment,
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
        models=_models_in_use(stack),
        extra_args=tuple(stack.triton.extra_args),
        environment=dict(stack.triton.env),
    )


def _models_in_use(stack: Stack) -> tuple[str, ...] | None:
    """The models that the service asks for: loading others would only take memory and time."""
    if any(name.upper().startswith("AI__MODELS") for name in stack.service.env):
        return None
    models = ModelsSettings.model_validate(stack.service.config.get("ai", {}).get("models", {}))
    names = {models.for_task(task).model_name for task in models.tasks}
    if models.asr.enabled and models.asr.decoder_path:
        names.add(models.asr.decoder_path)
    if models.emotion.enabled and models.emotion.text_model_name:
        names.add(models.emotion.text_model_name)
    return tuple(sorted(names))


def _service_settings(stack: Stack, node: Node, repository: Path) -> dict[str, Any]:
    """The settings of the node's service: the stack's own, and on top what the node decides.

    The emotion model's labels are those beside it in the repository, if the stack names no others.
    """
    emotion = ModelsSettings.model_validate(stack.service.config.get("ai", {}).get("models", {})).emotion
    labels = repository / emotion.model_name / "labels.json"
    found = {"ai": {"models": {"emotion": {"labels_path": str(labels)}}}}
    base = merged(found, stack.service.config) if labels.is_file() else stack.service.config
    runtime: dict[str, Any]
    if node.runtime == "triton":
        runtime = {
            "runtime": {
                "backend": "triton",
                "triton": {
                    "endpoint": f"http://{LOOPBACK}:{node.ports.triton_http}",
                    "grpc_endpoint": f"{LOOPBACK}:{node.ports.triton_grpc}",
                },
            }
        }
    else:
        remote = node.remote
        runtime = {
            "runtime": {"backend": "remote"},
            "http": {
                "endpoint": remote.endpoint,
                "token": remote.token.get_secret_value() if remote.token else None,
                "timeout": remote.timeout_seconds,
            },
        }
    decided = {
        "ai": runtime,
        "server": {
            "host": LOOPBACK,
            "http_port": node.ports.http,
            "grpc_port": node.ports.grpc,
            "workers": stack.service.workers,
            "max_concurrency": stack.service.max_concurrency,
            "shutdown_grace": stack.service.shutdown_grace_seconds,
            "api_keys": [key.get_secret_value() for key in stack.api_keys],
        },
    }
    return merged(base, decided)
