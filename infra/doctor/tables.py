"""The checks as tables: a row for each check of a host, a node and the gateway; `plan` applies them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from infra.doctor.checks import (
    docker_node,
    edge_llm,
    embedded,
    gateway,
    host,
    nginx_configuration,
    service,
    triton,
)
from infra.doctor.checks.certificate import certificate
from infra.doctor.findings import Outcome
from infra.doctor.sites.docker_node import DockerNodeSite
from infra.doctor.sites.embedded_node import EmbeddedNodeSite
from infra.doctor.sites.gateway import ExaminedGateway
from infra.doctor.sites.host import ExaminedHost
from infra.doctor.sites.node import ExaminedNode
from infra.embedded.layout import Layout

_SECONDS = 8.0
# A little more than the limit of the request, whose error is clearer.
_INFERENCE_SECONDS = service.INFERENCE_SECONDS + 3


class Subject(Protocol):
    """What a table's checks examine."""

    @property
    def where(self) -> tuple[str, ...]:
        """The names of the nodes that a finding concerns, or `gateway`."""


S = TypeVar("S", bound=Subject)


@dataclass(frozen=True)
class Row(Generic[S]):
    """One check of each subject of a kind.

    `key` is its name in other rows, and in findings unless `name` is set. `needs` and `after` are keys of the
    same subject's checks, or of its host's; `after_all` are keys of every subject's. Keys of checks that the
    stack does not have are passed over. `after`: see `Check`.
    """

    key: str
    label: str | Callable[[S], str]
    ask: Callable[[S], Awaitable[Outcome]]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    after_all: tuple[str, ...] = ()
    seconds: float = _SECONDS
    when: Callable[[S], bool] = lambda _: True
    name: str = ""


# Hosts --------------------------------------------------------------------------------------------------


def _needs_docker(examined: ExaminedHost) -> bool:
    return examined.requirements.docker


def _needs_gpus(examined: ExaminedHost) -> bool:
    return examined.requirements.gpus


def _publishes_ports(examined: ExaminedHost) -> bool:
    return examined.requirements.docker and bool(examined.ports)


HOST: tuple[Row[ExaminedHost], ...] = (
    Row("ssh", ExaminedHost.ssh_command, host.ssh, when=ExaminedHost.remote),
    Row(
        "ssh", "a shell on this computer", host.ssh, name="shell", when=lambda examined: not examined.remote()
    ),
    Row("docker", "docker version", host.docker, needs=("ssh",), when=_needs_docker),
    Row(
        "containers",
        lambda examined: f"docker ps --all --filter {examined.label}",
        host.stack_containers,
        needs=("docker",),
        when=_needs_docker,
    ),
    Row(
        "ports",
        lambda examined: f"ports {', '.join(str(port.number) for port in examined.ports)}",
        host.ports_held,
        needs=("docker",),
        when=_publishes_ports,
    ),
    Row("gpu", "nvidia-smi on the host", host.gpu, needs=("ssh",), when=_needs_gpus),
    Row(
        "nvidia runtime",
        "docker info, nvidia-container-runtime-hook, CDI",
        host.nvidia_runtime,
        needs=("docker",),
        when=_needs_gpus,
    ),
    Row("disk", "df", host.disk, needs=("ssh",), after=("docker",)),
)

#: After all hosts are connected: each clock is compared with all others.
CLOCK: tuple[Row[ExaminedHost], ...] = (
    Row("clock", "date", host.clock_skew, needs=("ssh",), after_all=("ssh",), when=ExaminedHost.remote),
)

# Nodes --------------------------------------------------------------------------------------------------


def container_row(part: str) -> Row[DockerNodeSite]:
    """The check of the container of one part of a node."""
    return Row(
        f"{part} runs",
        lambda site: f"docker inspect {site.container_name(part)}",
        lambda site: docker_node.container(site, part),
        needs=("containers",),
        name=f"{part} container",
    )


def process_row(layout: Layout, program: str, part: str) -> Row[Subject]:
    """The check of the process of one part of an embedded node or gateway; `program` is its name."""
    return Row(
        f"{part} runs",
        f"supervisord: {program}",
        lambda _: embedded.process(layout, program),
        name=f"{part} process",
    )


def ports_row(layout: Layout, prefix: str, ports: Mapping[str, int]) -> Row[Subject]:
    """The check of the ports of an embedded node or gateway, whose keys begin with `prefix`."""
    declared = {f"{prefix}.{key}": port for key, port in ports.items()}
    return Row(
        "ports", f"ports {', '.join(map(str, ports.values()))}", lambda _: embedded.ports(layout, declared)
    )


DOCKER_NODE: tuple[Row[DockerNodeSite], ...] = (
    Row(
        "gpu in a container",
        "nvidia-smi -L in a container",
        docker_node.gpu_in_container,
        needs=("containers", "gpu", "nvidia runtime"),
        seconds=15.0,
        when=lambda site: site.node.wants_gpus,
    ),
    Row("drift", "docker inspect, against the stack file", docker_node.drift, needs=("containers",)),
)

EMBEDDED_NODE: tuple[Row[EmbeddedNodeSite], ...] = (
    Row("disk", "free space", lambda site: embedded.disk(site.layout)),
    Row("drift", "the processes, against the stack file", embedded.drift, needs=("service runs",)),
)


def _has_triton(node: ExaminedNode) -> bool:
    return node.node.runtime == "triton"


def _has_edge_llm(node: ExaminedNode) -> bool:
    return node.node.runtime == "edge-llm"


#: The same checks wherever the node's parts run.
NODE: tuple[Row[ExaminedNode], ...] = (
    Row("settings", "the service's settings, as it reads them", service.settings, needs=("containers",)),
    Row(
        "model folder",
        "model folders, config.pbtxt, version folders, files",
        triton.model_folder,
        needs=("containers",),
        after=("settings",),
        when=lambda node: _has_triton(node) and node.models_on_disk,
    ),
    Row("triton", "GET /v2/health/live", triton.live, needs=("triton runs",), when=_has_triton),
    Row(
        "triton endpoint",
        "ai.runtime.triton.endpoint",
        triton.endpoint,
        needs=("settings",),
        when=_has_triton,
    ),
    Row("models", "POST /v2/repository/index", triton.models, needs=("triton", "settings"), when=_has_triton),
    Row(
        "model tensors",
        "GET /v2/models/*, against the settings",
        triton.tensors,
        needs=("triton", "settings"),
        when=_has_triton,
    ),
    Row(
        "edge-llm setup",
        "setup and exit of a session",
        edge_llm.setup,
        needs=("unit-manager runs", "llm-node runs", "settings"),
        when=_has_edge_llm,
    ),
    Row("service", "GET /health", service.answers, needs=("service runs",)),
    Row(
        "health",
        "GET /api/v1/ai/health",
        service.health,
        needs=(
            *("service", "settings", "triton", "triton endpoint", "models", "model tensors"),
            "edge-llm setup",
        ),
    ),
    Row("inference", "POST /api/v1/ai/asr", service.inference, needs=("health",), seconds=_INFERENCE_SECONDS),
)

# The gateway --------------------------------------------------------------------------------------------

#: Before the checks of the upstreams, one for each node.
GATEWAY: tuple[Row[ExaminedGateway], ...] = (
    Row(
        "nginx configuration",
        "nginx's file, against the stack",
        nginx_configuration.configuration,
        needs=("ssh",),
    ),
    Row(
        "gateway http",
        lambda examined: f"GET {examined.server.url}",
        gateway.http,
        needs=("ssh", "nginx runs"),
    ),
)

#: After the checks of the upstreams.
ENTRANCE: tuple[Row[ExaminedGateway], ...] = (
    Row(
        "upstreams avoided",
        "nginx's log",
        gateway.avoided,
        needs=("ssh", "nginx runs"),
        after_all=("upstream",),
    ),
    Row(
        "certificate",
        "the certificate that is served",
        certificate,
        needs=("gateway http",),
        when=lambda examined: examined.stack.gateway.tls is not None,
    ),
    Row(
        "gateway grpc",
        lambda examined: f"gRPC health check at {examined.grpc_address}",
        gateway.grpc_health,
        needs=("gateway http",),
        after_all=("health",),
        when=lambda examined: examined.stack.gateway.mode != "existing",
    ),
    Row(
        "gateway inference",
        lambda examined: f"POST {examined.server.url}/api/v1/ai/asr",
        gateway.inference,
        needs=("gateway http",),
        after=("nginx configuration",),
        # After the nodes' own, so that it measures the gateway and not their queue.
        after_all=("health", "inference"),
        seconds=_INFERENCE_SECONDS,
    ),
)
