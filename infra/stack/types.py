"""A stack's configuration, as typed data.

Keys are camelCase in the file and snake_case here. Everything has a default except the nodes' hosts: loading
a stack fills in what a node leaves out, so code that reads a `Stack` never repeats a default. `rules` has the
rules that span several keys.
"""

from typing import Literal, Self

from pydantic import Field, PrivateAttr

from infra.stack.console import Console
from infra.stack.gateway import Gateway
from infra.stack.hosts import Host, bracketed
from infra.stack.images import Images
from infra.stack.kubernetes import Kubernetes
from infra.stack.monitoring import Monitoring
from infra.stack.node import Node, Ports, Remote
from infra.stack.pools import Pool
from infra.stack.rollout import Rollout
from infra.stack.runtimes import EdgeLlm, Models, Service, Triton
from infra.stack.section import Section
from infra.stack.tls import TlsToNodes, wanted
from infra.stack.traces import Traces
from infra.stack.values import HostPath, JumpHosts, Keys, NonEmpty, Origin


class Ssh(Section):
    """Settings that differ from the user's SSH configuration and agent. Host keys are always checked."""

    known_hosts: NonEmpty | None = None
    """A known_hosts file."""
    private_key_file: NonEmpty | None = None
    proxy_jump: JumpHosts | None = None
    """Jump hosts, as `ssh -J` takes them."""
    config_file: NonEmpty | None = None
    """An SSH configuration file, as `ssh -F` takes it."""


class Cors(Section):
    """Web pages that may call the API from a browser, beside those of its own origin."""

    origins: list[Origin] = Field(default_factory=list)
    """Their origins, such as https://app.example.com, https://*.example.com or http://localhost:*; "*": every
    page."""


class Stack(Section):
    """One fleet."""

    nodes: list[Node] = Field(min_length=1)
    ports: Ports = Field(default_factory=Ports)
    triton: Triton = Field(default_factory=Triton)
    edge_llm: EdgeLlm = Field(default_factory=EdgeLlm)
    remote: Remote = Field(default_factory=Remote)
    service: Service = Field(default_factory=Service)
    models: Models = Field(default_factory=Models)
    gateway: Gateway = Field(default_factory=Gateway)
    rollout: Rollout = Field(default_factory=Rollout)
    tls: TlsToNodes = Field(default_factory=TlsToNodes)
    ssh: Ssh = Field(default_factory=Ssh)
    images: Images = Field(default_factory=Images)
    remote_dir: HostPath = "/opt/gpu-inference"
    """The folder on each host for synced models and the gateway's configuration."""
    api_keys: Keys = Field(default_factory=list)
    """Keys, one of which each client must send; without keys every client is served. Kept as a secret."""

    cors: Cors = Field(default_factory=Cors)
    traces: Traces = Field(default_factory=Traces)
    monitoring: Monitoring | None = None
    """Prometheus with alerts, Grafana and exporters; {} starts all of them. Default: none."""
    target: Literal["hosts", "kubernetes"] = "hosts"
    """kubernetes: `nodes` are pools of pods in the cluster that `kubernetes` names."""
    kubernetes: Kubernetes = Field(default_factory=Kubernetes)

    _pools: tuple[Pool, ...] = PrivateAttr(default=())
    _name: str = PrivateAttr(default="stack")
    _encrypted: tuple[str, ...] = PrivateAttr(default=())
    _secrets: tuple[str, ...] = PrivateAttr(default=())
    _changing_over: bool = PrivateAttr(default=False)

    @property
    def name(self) -> str:
        """The stack's name; not a key of the file."""
        return self._name

    @property
    def in_cluster(self) -> bool:
        """Whether the stack is deployed to Kubernetes: each of `nodes` then stands for a pool."""
        return self.target == "kubernetes"

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools of a stack in a cluster, in the order of `nodes`; none for a stack on hosts."""
        return self._pools

    @property
    def encrypted(self) -> tuple[str, ...]:
        """The paths of keys with encrypted values, which files read without Pulumi lack."""
        return self._encrypted

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that were encrypted in the file, under any key: nothing may show them."""
        return self._secrets

    @property
    def gateways(self) -> tuple["Stack", ...]:
        """The stack once for each of its gateways, in the order in which they change: `gateway` is that one,
        with its own host and its own address."""
        each = self.gateway.each
        return tuple(self.model_copy(update={"gateway": gateway}) for gateway in each)

    @property
    def node_tls(self) -> bool:
        """Whether the gateway dials the nodes by TLS."""
        return wanted(self.tls, self.nodes, self.gateway)

    @property
    def node_scheme(self) -> str:
        """How the gateway speaks HTTP to the nodes."""
        return "https" if self.node_tls else "http"

    def dialled_ports(self, node: Node) -> tuple[int, int]:
        """The ports at which the gateway dials a node: HTTP, gRPC."""
        if self.node_tls:
            return node.public_http_tls_port, node.public_grpc_tls_port
        return node.public_http_port, node.public_grpc_port

    def node_url(self, node: Node) -> str:
        """A node's HTTP API, as the gateway dials it."""
        return f"{self.node_scheme}://{bracketed(node.public_host)}:{self.dialled_ports(node)[0]}"

    @property
    def serves_plain(self) -> bool:
        """Whether the nodes publish the service's ports without TLS."""
        return not self.node_tls or self._changing_over

    @property
    def serves_tls(self) -> bool:
        """Whether the nodes publish the service's ports with TLS."""
        return self.node_tls or self._changing_over

    def changing_over(self) -> Self:
        """The stack while the gateway still dials the nodes the other way: they serve both ways."""
        changed = self.model_copy()
        changed._changing_over = True
        return changed

    @property
    def console(self) -> Console | None:
        """The console beside each gateway; None where there is none."""
        gateway = self.gateway
        wanted = gateway.console.enabled
        if wanted is None:
            wanted = gateway.mode == "embedded" or self.service.own
        return gateway.console if wanted and gateway.mode != "existing" else None

    @property
    def monitoring_host(self) -> Host | None:
        """The Docker host on which monitoring runs; None where the stack starts none."""
        if self.monitoring is None or self.monitoring.existing is not None:
            return None
        return self.monitoring.host or self.gateway.each[0].host

    def node(self, name: str) -> Node:
        """The node of that name. Raises KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)
