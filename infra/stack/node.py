"""One GPU host of a stack and the ports that it publishes."""

import re
from typing import Annotated

from pydantic import Field, StringConstraints

from inference_service import addresses
from inference_service.tasks import Task
from infra.stack.hosts import ClusterHost, EmbeddedHost, Host, SshHost, UnixHost, bracketed
from infra.stack.section import Section
from infra.stack.values import (
    DialledHost,
    Gpus,
    HostAddress,
    IpAddress,
    Name,
    Port,
    Positive,
    RuntimeName,
    Secret,
    Tasks,
)


class Ports(Section):
    """The ports that a node's host publishes; Triton's and the unit manager's only with `publish`."""

    http: Port = addresses.HTTP_PORT
    """The inference service's HTTP port."""
    grpc: Port = addresses.GRPC_PORT
    """The inference service's gRPC port."""
    http_tls: Port = addresses.HTTP_TLS_PORT
    """HTTP with TLS, which only the gateway may use; see `tls`. The plain ports are not open then."""
    grpc_tls: Port = addresses.GRPC_TLS_PORT
    """gRPC with TLS."""
    triton_http: Port = addresses.TRITON_HTTP_PORT
    triton_grpc: Port = addresses.TRITON_GRPC_PORT
    triton_metrics: Port = addresses.TRITON_METRICS_PORT
    unit_manager: Port = 8801


class Remote(Section):
    """The inference service that a `remote` node forwards to."""

    endpoint: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+")] | None = None
    """Its base address, e.g. https://ai.example.com."""
    token: Secret | None = None
    """Its API key."""
    timeout_seconds: Positive = 60


class Node(Section):
    """One GPU host: an inference runtime and the inference service."""

    host: HostAddress
    """ssh://user@host[:port], unix:///var/run/docker.sock, or embedded (processes on this computer)."""
    name: Name = Field(default_factory=lambda data: _name_of(data["host"]))
    """The node's name, part of its containers' names. Default: made from the host."""
    public_host: DialledHost = Field(default_factory=lambda data: data["host"].address)
    """The address that the gateway dials. Default: the host's address."""
    bind: IpAddress | None = None
    """The IP address of the host on which the node's ports are open. Default: all addresses."""
    ports: Ports = Field(default_factory=Ports)
    """Ports of this node that differ from the stack's `ports`."""
    public_http_port: Port = Field(default_factory=lambda data: data["ports"].http)
    """The port that the gateway dials for HTTP. Behind NAT it differs from the node's own port."""
    public_grpc_port: Port = Field(default_factory=lambda data: data["ports"].grpc)
    """The port that the gateway dials for gRPC."""
    public_http_tls_port: Port = Field(default_factory=lambda data: data["ports"].http_tls)
    """The port that the gateway dials for HTTP with TLS."""
    public_grpc_tls_port: Port = Field(default_factory=lambda data: data["ports"].grpc_tls)
    """The port that the gateway dials for gRPC with TLS."""
    runtime: RuntimeName = "triton"
    gpus: Gpus = Field(
        default_factory=lambda data: (
            "none" if isinstance(data["host"], EmbeddedHost) or data["runtime"] == "remote" else "all"
        )
    )
    """all, none, or GPU indices. Default: all; none for embedded and remote nodes."""
    remote: Remote = Field(default_factory=Remote)
    """Keys that differ from the stack's `remote` on this node."""
    tasks: Tasks = Field(default=["asr", "emotion", "synthesis"])
    """What the node serves: asr, emotion, synthesis. It loads only their models, and gets only their
    requests. Default: all of them."""
    weight: Annotated[int, Field(ge=1, le=100)] = 1
    """The node's share of the requests, beside nodes of other weights: 3 for a GPU three times as fast."""
    drained: bool = False
    """true: the node stays deployed and gets no traffic from the gateway."""

    @property
    def http_url(self) -> str:
        """The node's HTTP API, as the gateway dials it."""
        return f"http://{bracketed(self.public_host)}:{self.public_http_port}"

    @property
    def role(self) -> str:
        """What the node is for, as people read it: its runtime, and its tasks unless it serves all."""
        return self.runtime if self.serves_all else f"{self.runtime}: {', '.join(self.tasks)}"

    @property
    def serves_all(self) -> bool:
        """Whether the node serves every task."""
        return len(self.tasks) == len(Task)

    @property
    def wants_gpus(self) -> bool:
        """Whether the node's runtime asks for GPUs."""
        return self.gpus != "none"

    @property
    def embedded(self) -> bool:
        """Whether the node runs as processes on this computer."""
        return isinstance(self.host, EmbeddedHost)


def _name_of(host: Host) -> str:
    """A node's name from its host: stable and valid in container names."""
    match host:
        case SshHost(address=address, port=port):
            text = address if port in (None, 22) else f"{address}-{port}"
        case UnixHost():
            text = "local"
        case EmbeddedHost():
            text = "embedded"
        case ClusterHost(service=service):
            text = service
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
