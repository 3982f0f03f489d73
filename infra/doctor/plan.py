"""The checks of a stack: of its hosts, nodes, gateways and monitoring, in the order of the findings."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from infra import names
from infra.doctor.check_list import CheckList, Subject
from infra.doctor.checks import (
    base_images,
    certificate,
    copies,
    docker_node,
    edge_llm,
    embedded,
    exposure,
    gateway,
    host,
    monitoring,
    nginx_configuration,
    node_tls,
    service,
    triton,
    virtual_address,
)
from infra.doctor.host_access import HostAccess
from infra.doctor.sites.docker_node import DockerNodeSite
from infra.doctor.sites.embedded_node import EmbeddedNodeSite
from infra.doctor.sites.gateway import EmbeddedGatewaySite, GatewaySite, RemoteGatewaySite
from infra.doctor.sites.host import HostSite
from infra.doctor.sites.monitoring import MonitoringSite, containers
from infra.doctor.sites.node import NodeSite
from infra.doctor.sites.virtual_address import VirtualAddressSite
from infra.embedded.layout import Layout
from infra.gateway.entrance import upstreams
from infra.image_references import ImageReferences
from infra.stack import Host, Node, Stack
from infra.update import preflight
from infra.update.written.models import copied

# A little more than the limit of the request, whose error is clearer.
_INFERENCE_SECONDS = service.INFERENCE_SECONDS + 3


class Plan(CheckList):
    """The checks of a whole stack, and the connections that they use."""

    def __init__(self, stack: Stack, folder: Path, layout: Layout, api_key: str | None) -> None:
        """`folder` is private and for the SSH sessions; `layout` has the files of the embedded stack.

        Raises ContextError without the build context of an image.
        """
        super().__init__()
        self._stack, self._folder, self._layout, self._api_key = stack, folder, layout, api_key
        self._images = ImageReferences(stack)
        self._hosts: dict[Host, HostSite] = {}
        self._fleet: list[HostSite] = []
        for requirements in preflight.checks(stack):
            self._add_host(requirements)
        for remote in self._fleet:
            # After all hosts are connected: each clock is compared with all others.
            ssh = self._everywhere("ssh")
            self._add(remote, "clock", "date", host.clock_skew, ["ssh"], also_after=ssh)
        self._nodes = [self._add_node(node) for node in stack.nodes]
        for each in stack.gateways:
            self._add_gateway(each)
        self._add_virtual_address()
        self._add_monitoring()

    async def close(self) -> None:
        """End the SSH sessions."""
        for site in self._hosts.values():
            await site.access.close()

    def _add_host(self, requirements: preflight.HostCheck) -> None:
        nodes = [node for node in self._stack.nodes if node.host == requirements.host]
        access = HostAccess(requirements.host, self._stack.ssh, self._folder)
        site = HostSite(access, requirements, self._stack, nodes, self._fleet)
        self._hosts[requirements.host] = site
        self._known[site] = {}
        if site.ssh_command is not None:
            self._fleet.append(site)
            self._add(site, "ssh", site.ssh_command, host.ssh)
        else:
            self._add(site, "ssh", "a shell on this computer", host.ssh, name="shell")
        if requirements.docker:
            self._add(site, "docker", "docker version", host.docker, ["ssh"])
            listed = f"docker ps --all --filter {site.label}"
            self._add(site, "containers", listed, host.stack_containers, ["docker"])
            self._add(site, "base images", "tags and digests", base_images.base_images, ["docker"])
            if site.ports:
                numbers = ", ".join(str(port.number) for port in site.ports)
                self._add(site, "ports", f"ports {numbers}", host.ports_held, ["docker"])
        if requirements.gpus:
            self._add(site, "gpu", "nvidia-smi on the host", host.gpu, ["ssh"])
            checked = "docker info, nvidia-container-runtime-hook, CDI"
            self._add(site, "nvidia runtime", checked, host.nvidia_runtime, ["docker"])
        self._add(site, "disk", "df", host.disk, ["ssh"], ["docker"])

    def _add_node(self, node: Node) -> NodeSite:
        site: NodeSite = self._add_processes(node) if node.embedded else self._add_containers(node)
        checked = "the service's settings, as it reads them"
        self._add(site, "settings", checked, service.settings, ["containers"])
        if isinstance(site, DockerNodeSite):
            checked = f"the ports of {node.public_host}, from this computer"
            self._add(site, "exposure", checked, exposure.exposure, ["settings"])
            if self._stack.node_tls:
                checked = "the certificate for the gateway"
                self._add(site, "node certificate", checked, node_tls.node, ["service runs"])
        if node.runtime == "triton":
            self._add_triton(site)
        if node.runtime == "edge-llm":
            needs = ["unit-manager runs", "llm-node runs", "settings"]
            self._add(site, "edge-llm setup", "setup and exit of a session", edge_llm.setup, needs)
        self._add(site, "service", "GET /health", service.answers, ["service runs"])
        runtime = ["triton", "triton endpoint", "models", "model tensors", "edge-llm setup"]
        needs = ["service", "settings", *runtime]
        self._add(site, "health", "GET /api/v1/ai/health", service.health, needs)
        self._add(site, "model kinds", "GET /api/v1/ai/info", service.model_kinds, ["health"])
        checked = "POST /api/v1/ai/asr"
        self._add(site, "inference", checked, service.inference, ["health"], seconds=_INFERENCE_SECONDS)
        return site

    def _add_containers(self, node: Node) -> DockerNodeSite:
        site = DockerNodeSite(self._stack, node, self._api_key, self._hosts[node.host], self._images)
        self._known[site] = dict(self._known[site.host])
        for part in site.images:
            self._add_container(site, part, site.container_name(part), site.host)
        if node.wants_gpus:
            needs = ["containers", "gpu", "nvidia runtime"]
            checked = "nvidia-smi -L in a container"
            self._add(site, "gpu in a container", checked, docker_node.gpu, needs, seconds=15.0)
        if copied(self._stack, node):
            checked = "links, sizes and times of files, against the last update"
            self._add(site, "model copies", checked, copies.copies, ["containers"], seconds=30.0)
        self._add(site, "drift", "docker inspect, against the stack file", docker_node.drift, ["containers"])
        return site

    def _add_container(self, subject: Subject, part: str, container: str, site: HostSite) -> None:
        self._add(
            subject,
            f"{part} runs",
            f"docker inspect {container}",
            lambda _: docker_node.container(site, container),
            ["containers"],
            name=f"{part} container",
        )

    def _add_processes(self, node: Node) -> EmbeddedNodeSite:
        site = EmbeddedNodeSite(self._stack, node, self._api_key, self._layout)
        self._known[site] = {}
        for part in site.parts:
            self._add_process(site, part, site.program(part))
        self._add_ports(site, "ports", site.declaration.ports)
        self._add(site, "disk", "free space", embedded.disk)
        checked = "the processes, against the stack file"
        self._add(site, "drift", checked, embedded.drift, ["service runs"])
        return site

    def _add_process(self, subject: Subject, part: str, program: str) -> None:
        ask = partial(embedded.process, self._layout, program)
        self._add(subject, f"{part} runs", f"supervisord: {program}", lambda _: ask(), name=f"{part} process")

    def _add_ports(self, subject: Subject, prefix: str, ports: Mapping[str, int]) -> None:
        """`prefix` is the place of the ports' keys in the stack file."""
        declared = {f"{prefix}.{key}": port for key, port in ports.items()}
        checked = f"ports {', '.join(map(str, ports.values()))}"
        self._add(subject, "ports", checked, lambda _: embedded.ports(self._layout, declared))

    def _add_triton(self, site: NodeSite) -> None:
        if not self._stack.models.object_store:
            checked = "model folders, config.pbtxt, version folders, files"
            self._add(site, "model folder", checked, triton.model_folder, ["containers"], ["settings"])
        self._add(site, "triton", "GET /v2/health/live", triton.live, ["triton runs"])
        self._add(site, "triton endpoint", "ai.runtime.triton.endpoint", triton.endpoint, ["settings"])
        self._add(site, "models", "POST /v2/repository/index", triton.models, ["triton", "settings"])
        checked = "GET /v2/models/*, against the settings"
        self._add(site, "model tensors", checked, triton.tensors, ["triton", "settings"])

    def _add_gateway(self, stack: Stack) -> None:
        """Adds the checks of the gateway that `stack` has, one of those of the whole stack."""
        declared = stack.gateway
        site: EmbeddedGatewaySite | RemoteGatewaySite
        if declared.mode == "embedded":
            site = EmbeddedGatewaySite(stack, self._api_key, self._layout)
            self._known[site] = {}
            self._add_process(site, "nginx", names.GATEWAY)
            self._add_ports(site, "gateway", site.declaration.ports)
        else:
            on = self._hosts[declared.host]
            site = RemoteGatewaySite(stack, self._api_key, on)
            self._known[site] = dict(self._known[on])
            if declared.mode == "container":
                self._add_container(site, "nginx", names.gateway_container(stack), on)
            if declared.virtual_address is not None:
                self._add_container(site, names.KEEPALIVED, names.keepalived_container(stack), on)
        site.nodes = self._nodes
        site.public_host = self._stack.gateway.public_host
        site.serving = [self._known[each]["health"] for each in self._nodes if not each.node.drained]
        checked = "nginx's file, against the stack"
        self._add(site, "nginx configuration", checked, nginx_configuration.configuration, ["ssh"])
        self._add(site, "gateway http", f"GET {site.server.url}", gateway.http, ["ssh", "nginx runs"])
        avoided_after = self._add_upstreams(site)
        needs = ["ssh", "nginx runs"]
        self._add(site, "upstreams avoided", "nginx's log", gateway.avoided, needs, avoided_after)
        if declared.tls is not None:
            checked = "the certificate that is served"
            self._add(site, "certificate", checked, certificate.certificate, ["gateway http"])
        if stack.node_tls:
            checked = "the certificate for the nodes"
            self._add(site, "node certificate", checked, node_tls.gateway, ["ssh"])
        if declared.mode != "existing":
            checked, health = f"gRPC health check at {site.grpc_address}", self._everywhere("health")
            self._add(
                site,
                "gateway grpc",
                checked,
                gateway.grpc_health,
                ["gateway http"],
                also_after=health,
                seconds=gateway.GRPC_HEALTH_SECONDS,
            )
        self._add(
            site,
            "gateway inference",
            f"POST {site.server.url}/api/v1/ai/asr",
            gateway.inference,
            ["gateway http"],
            ["nginx configuration"],
            # After the nodes' own, so that it measures the gateway and not their queue.
            also_after=self._everywhere("health", "inference"),
            seconds=_INFERENCE_SECONDS,
        )

    def _add_monitoring(self) -> None:
        for address, parts in containers(self._stack):
            on = self._hosts[address]
            site = MonitoringSite(self._stack, on)
            self._known[site] = dict(self._known[on])
            for part in parts:
                self._add_container(site, part, names.monitoring_container(self._stack, part), on)
            if site.has_files:
                checked = "the files of its parts, against the last update"
                self._add(site, "monitoring files", checked, monitoring.files, ["containers"])

    def _add_virtual_address(self) -> None:
        stack = self._stack
        if stack.gateway.virtual_address is None:
            return
        hosts = [(each.name, self._hosts[each.host]) for each in stack.gateway.each]
        ssh = {host: self._known[host]["ssh"] for _, host in hosts}
        site = VirtualAddressSite(stack, [(name, host, ssh[host]) for name, host in hosts])
        self._known[site] = {}
        checked = f"who has {site.ip}, by /proc/net/fib_trie"
        self._add(site, "virtual address", checked, virtual_address.holder, also_after=list(ssh.values()))
        checked = f"GET {site.server.url}"
        self._add(site, "virtual address http", checked, virtual_address.answers, ["virtual address"])

    def _add_upstreams(self, site: GatewaySite) -> list[str]:
        """Checks of the way from the gateway's host to each node. Returns their keys."""
        of_node = {each.node.name: self._known[each] for each in self._nodes}
        servers = upstreams(self._stack)
        for server in servers:
            known = of_node[server.name]
            earlier = [known[key] for key in ("ssh", "docker", "service runs", "service") if key in known]
            self._add(
                site,
                f"upstream {server.name}",
                f"GET http://{server.http_address}/health from the gateway's host",
                partial(gateway.upstream, server=server, earlier=earlier),
                ["ssh"],
                also_after=earlier,
                where=(*site.where, server.name),
            )
        return [f"upstream {server.name}" for server in servers]
