"""The declarations of an embedded node and of the embedded gateway, made from a stack.

They are the whole input of `python -m infra.embedded apply-node` and `apply-gateway`, as JSON on standard
input, so Pulumi and `up` start the same processes.
"""

from collections.abc import Set
from pathlib import Path
from typing import Annotated, Any

import msgspec

from inference_service.console.settings import WatchedNode
from inference_service.settings import ModelsSettings
from infra import names
from infra.declaration import Declaration
from infra.gateway import entrance, watched
from infra.gateway.render import Site
from infra.models.files import version
from infra.paths import project_path
from infra.service_settings import merged, on_this_computer, service_secrets, service_settings
from infra.stack import Node, Stack
from infra.stack.values import NAME
from infra.triton_arguments import TritonPorts, models_in_use, trace_arguments, trace_environment


class TritonDeclaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node's Triton. `models` are loaded and no others; None loads all of the folder `repository`."""

    ports: TritonPorts
    repository: str
    models: tuple[str, ...] | None = None
    extra_args: tuple[str, ...] = ()
    environment: dict[str, str] = msgspec.field(default_factory=dict)


class NodeDeclaration(Declaration, frozen=True, kw_only=True):
    """A node of processes on this computer; without `triton` its service forwards to another one.

    `service` are the service's settings, as in its YAML file; `environment` may hold API keys. A stopping
    service may take `grace_seconds`, and the node `ready_seconds` to become healthy.
    """

    name: Annotated[str, msgspec.Meta(pattern=f"^{NAME}$")]
    http: int
    grpc: int
    triton: TritonDeclaration | None
    service: dict[str, Any]
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    grace_seconds: int = 30
    ready_seconds: int = 300

    @property
    def url(self) -> str:
        """The node's HTTP API."""
        return f"http://{names.LOOPBACK}:{self.http}"

    @property
    def health_url(self) -> str:
        """The route that answers 200 when the node serves."""
        return f"{self.url}/api/v1/ai/health"

    @property
    def ports(self) -> dict[str, int]:
        """The node's ports, by their keys in the stack's `ports`."""
        ports = {"http": self.http, "grpc": self.grpc}
        if self.triton is not None:
            triton = self.triton.ports
            ports |= {"tritonHttp": triton.http, "tritonGrpc": triton.grpc, "tritonMetrics": triton.metrics}
        return ports

    @property
    def programs(self) -> list[str]:
        """The names of the node's processes, in the order in which they start."""
        parts = [names.TRITON, names.SERVICE] if self.triton else [names.SERVICE]
        return [names.process(self.name, part) for part in parts]


class ConsoleDeclaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The console beside the gateway: the stack's name, its nodes, and the password that opens it."""

    stack: str
    nodes: tuple[WatchedNode, ...]
    password: str | None = None


class GatewayDeclaration(Declaration, frozen=True, kw_only=True):
    """The gateway as a process on this computer; `console` is what the console beside it watches."""

    site: Site
    console: ConsoleDeclaration | None = None

    @property
    def url(self) -> str:
        """The gateway's HTTP entrance."""
        return f"{'https' if self.site.tls else 'http'}://{names.LOOPBACK}:{self.site.http}"

    @property
    def ports(self) -> dict[str, int]:
        """The gateway's ports, by their keys in the stack's `gateway`."""
        return {"http": self.site.http, "grpc": self.site.grpc}


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
    console = None
    if stack.console is not None:
        password = stack.console.password
        console = ConsoleDeclaration(
            stack=stack.name,
            nodes=watched.nodes(stack, away, {node.name: node.http_url for node in stack.nodes}),
            password=password.get_secret_value() if password is not None else None,
        )
    return GatewayDeclaration(site=entrance.site(stack, away), console=console)


def _triton(stack: Stack, node: Node) -> TritonDeclaration:
    ports = node.ports
    return TritonDeclaration(
        ports=TritonPorts(ports.triton_http, ports.triton_grpc, ports.triton_metrics),
        repository=str(project_path(stack.models.path)),
        models=models_in_use(stack, node),
        extra_args=(*trace_arguments(stack, node), *stack.triton.extra_args),
        environment={**trace_environment(stack), **stack.triton.env},
    )


def _service(stack: Stack, node: Node, repository: Path) -> dict[str, Any]:
    """The settings of the node's service.

    The node's Triton reads the models where they are. Nothing writes their versions into their configuration,
    as a copy to a host does, so the service gets them here. A classifier's labels are those beside it in the
    repository, which this service sees, unlike one in a container. The stack may name others.
    """
    models = ModelsSettings.model_validate(stack.service.config.get("ai", {}).get("models", {}))
    beside: dict[str, Any] = {
        key: {"labels_path": str(labels)}
        for key, model in (("emotion", models.emotion), ("synthesis", models.synthesis))
        if (labels := repository / model.model_name / "labels.json").is_file()
    }
    folders = (
        [repository / model for model in models_in_use(stack, node) or ()] if node.runtime == "triton" else []
    )
    if versions := {folder.name: version(folder) for folder in folders if folder.is_dir()}:
        beside["versions"] = versions
    defaults = {"ai": {"models": beside}} if beside else {}
    return merged(defaults, service_settings(stack, node, on_this_computer(node)))
