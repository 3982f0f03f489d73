"""Which checks a stack needs, and which of them come after which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from infra import names
from infra.doctor.checks import embedded
from infra.doctor.checks.docker_node import DockerPlace, container_state
from infra.doctor.checks.embedded import EmbeddedPlace
from infra.doctor.checks.gateway import EmbeddedPlace as EmbeddedGateway
from infra.doctor.checks.gateway import GatewayChecks, RemotePlace
from infra.doctor.checks.host import HostChecks
from infra.doctor.checks.node import INFERENCE_SECONDS, NodeChecks
from infra.doctor.findings import Outcome, Status
from infra.doctor.reach import Reach
from infra.doctor.runner import Check
from infra.embedded.declarations import gateway_declaration, node_declaration
from infra.embedded.layout import Layout
from infra.gateway.entrance import upstreams
from infra.image_references import ImageReferences, sources
from infra.stack import Host, Node, SshHost, Stack
from infra.update import preflight

GATEWAY = names.GATEWAY
# A little more than its own limit, which can say what did not answer.
_INFERENCE_SECONDS = INFERENCE_SECONDS + 3


class Plan:
    """The checks of a whole stack, and the connections that they use."""

    def __init__(self, stack: Stack, folder: Path, layout: Layout, api_key: str | None) -> None:
        """`folder` is a private one, for the SSH sessions; `layout` has the files of the embedded stack.

        Raises ContextError where what an image is built from is not there.
        """
        self.checks: list[Check] = []
        self._stack = stack
        self._layout = layout
        self._api_key = api_key
        self._folder = folder
        self._images = ImageReferences(stack)
        self._hosts: dict[Host, HostChecks] = {}
        self._of_host: dict[Host, dict[str, Check]] = {}
        self._nodes: dict[str, NodeChecks] = {}
        self._of_node: dict[str, dict[str, Check]] = {}
        for asked in preflight.checks(stack):
            self._host(asked)
        self._clocks()
        for node in stack.nodes:
            if node.embedded:
                self._embedded_node(node)
            else:
                self._docker_node(node)
        self._gateway()

    async def close(self) -> None:
        """End the SSH sessions."""
        for host in self._hosts.values():
            await host.reach.close()

    def _add(self, check: Check, among: dict[str, Check]) -> Check:
        self.checks.append(check)
        among[check.name] = check
        return check

    # Hosts ----------------------------------------------------------------------------------------------

    def _host(self, asked: preflight.Check) -> None:
        host = asked.host
        nodes = [node for node in self._stack.nodes if node.host == host]
        reach = Reach(host, self._stack.ssh, self._folder)
        checks = HostChecks(reach, asked, self._stack, nodes, asked.ports)
        found: dict[str, Check] = {}
        self._hosts[host], self._of_host[host] = checks, found
        where = asked.users

        if isinstance(host, SshHost):
            port = f"-p {host.port} " if host.port else ""
            ssh = Check(where, "ssh", f"ssh {port}{host.destination}", checks.ssh)
        else:
            ssh = Check(where, "shell", "a shell on this computer", checks.ssh)
        self.checks.append(ssh)
        found["ssh"] = ssh
        if asked.docker:
            docker = self._add(Check(where, "docker", "docker version", checks.docker, needs=[ssh]), found)
            label = f"label={names.STACK_LABEL}={self._stack.name}"
            self._add(
                Check(
                    where,
                    "containers",
                    f"docker ps --all --filter {label}",
                    checks.stack_containers,
                    needs=[docker],
                ),
                found,
            )
            if checks.ports:
                said = f"ports {', '.join(str(port.number) for port in checks.ports)}"
                self._add(Check(where, "ports", said, checks.ports_held, needs=[docker]), found)
        if asked.gpus:
            self._add(Check(where, "gpu", "nvidia-smi on the host", checks.gpu, needs=[ssh]), found)
            said = "docker info, nvidia-container-runtime-hook, CDI"
            self._add(
                Check(where, "nvidia runtime", said, checks.nvidia_runtime, needs=[found["docker"]]), found
            )
        after = [found["docker"]] if asked.docker else []
        self._add(Check(where, "disk", "df", checks.disk, needs=[ssh], after=after), found)

    def _clocks(self) -> None:
        """Each clock against all of them, once all are known."""
        fleet = [host for host in self._hosts.values() if isinstance(host.reach.host, SshHost)]
        connected = [self._of_host[host.reach.host]["ssh"] for host in fleet]
        for checks in fleet:
            found = self._of_host[checks.reach.host]

            async def ask(checks: HostChecks = checks) -> Outcome:
                return await checks.clock_skew(fleet)

            self._add(
                Check(checks.asked.users, "clock", "date", ask, needs=[found["ssh"]], after=connected), found
            )

    # Nodes ----------------------------------------------------------------------------------------------

    def _docker_node(self, node: Node) -> None:
        host, of_host = self._hosts[node.host], self._of_host[node.host]
        place = DockerPlace(self._stack, node, host, self._images)
        where, found = (node.name,), dict[str, Check]()
        there = of_host["containers"]
        for part in sources(self._stack, node):

            async def runs(part: str = part) -> Outcome:
                return await place.container(part)

            place.image(part)  # a build that is not there is a mistake in the stack file, and no host's
            said = f"docker inspect {place.container_name(part)}"
            self._add(Check(where, f"{part} container", said, runs, needs=[there]), found)
        if node.wants_gpus:
            runtime = "triton" if node.runtime == "triton" else "llm-node"

            async def gpu() -> Outcome:
                image = place.image(runtime)
                return await host.gpu_in_container(node, place.container_name(runtime), image)

            needs = [there, of_host["gpu"], of_host["nvidia runtime"]]
            self._add(
                Check(where, "gpu in a container", "nvidia-smi -L in a container", gpu, 15, needs), found
            )
        self._add(
            Check(where, "drift", "docker inspect, against the stack file", place.drift, needs=[there]), found
        )
        self._node(NodeChecks(place, self._api_key), found, there=[there], runs="container")

    def _embedded_node(self, node: Node) -> None:
        declared = node_declaration(self._stack, node)
        place = EmbeddedPlace(node, declared, self._layout)
        where, found = (node.name,), dict[str, Check]()
        for name in place.programs:

            async def runs(name: str = name) -> Outcome:
                return await embedded.process(self._layout, name)

            part = name.removeprefix(names.process(node.name, ""))
            self._add(Check(where, f"{part} process", f"supervisord: {name}", runs), found)

        async def ports() -> Outcome:
            return await embedded.ports(
                self._layout, {f"ports.{key}": port for key, port in declared.ports.items()}
            )

        async def disk() -> Outcome:
            return await embedded.disk([self._layout.root])

        self._add(
            Check(where, "ports", f"ports {', '.join(map(str, declared.ports.values()))}", ports), found
        )
        self._add(Check(where, "disk", "free space", disk), found)
        started = [found["service process"]]
        self._add(
            Check(where, "drift", "the processes, against the stack file", place.drift, needs=started), found
        )
        self._node(NodeChecks(place, self._api_key), found, there=[], runs="process")

    def _node(
        self, checks: NodeChecks, found: dict[str, Check], *, there: Sequence[Check], runs: str
    ) -> None:
        """What is the same wherever the node's parts run."""
        node, where = checks.node, (checks.node.name,)
        self._nodes[node.name], self._of_node[node.name] = checks, found

        def add(name: str, said: str, ask: Any, needs: Sequence[Check], **more: Any) -> Check:
            return self._add(Check(where, name, said, ask, needs=needs, **more), found)

        settings = add("settings", "the service's settings, as it reads them", checks.settings, there)
        runtime: list[Check] = []
        source = self._stack.models
        if node.runtime == "triton":
            if not source.object_store:
                said = "model folders, config.pbtxt, version folders, files"
                add("model folder", said, checks.model_folder, there, after=[settings])
            live = add("triton", "GET /v2/health/live", checks.triton_live, [found[f"triton {runs}"]])
            endpoint = add(
                "triton endpoint", "ai.runtime.triton.endpoint", checks.triton_endpoint, [settings]
            )
            models = add("models", "POST /v2/repository/index", checks.triton_models, [live, settings])
            tensors = add(
                "model tensors",
                "GET /v2/models/*, against the settings",
                checks.triton_tensors,
                [live, settings],
            )
            runtime = [live, endpoint, models, tensors]
        elif node.runtime == "edge-llm":
            needs = [found[f"unit-manager {runs}"], found[f"llm-node {runs}"], settings]
            runtime = [add("edge-llm setup", "setup and exit of a session", checks.edge_llm_setup, needs)]
        service = add("service", "GET /health", checks.service, [found[f"service {runs}"]])
        health = add("health", "GET /api/v1/ai/health", checks.health, [service, settings, *runtime])
        add("inference", "POST /api/v1/ai/asr", checks.inference, [health], seconds=_INFERENCE_SECONDS)

    # The gateway ----------------------------------------------------------------------------------------

    def _gateway(self) -> None:
        stack, where, found = self._stack, (GATEWAY,), dict[str, Check]()
        gateway = stack.gateway
        at: list[Check] = []  # how its host is reached
        place: RemotePlace | EmbeddedGateway
        if gateway.mode == "embedded":
            declared = gateway_declaration(stack)
            place = EmbeddedGateway(declared, self._layout)

            async def runs() -> Outcome:
                return await embedded.process(self._layout, GATEWAY)

            async def ports() -> Outcome:
                keyed = {f"gateway.{key}": port for key, port in declared.ports.items()}
                return await embedded.ports(self._layout, keyed)

            process = self._add(Check(where, "nginx process", "supervisord: gateway", runs), found)
            self._add(Check(where, "ports", f"ports {gateway.http}, {gateway.grpc}", ports), found)
            started = [process]
        else:
            host, of_host = self._hosts[gateway.host], self._of_host[gateway.host]
            place = RemotePlace(stack, host.reach)
            at = started = [of_host["ssh"]]
            if gateway.mode == "container":

                async def runs() -> Outcome:
                    return await container_state(host, names.gateway_container(stack), stack)

                said = f"docker inspect {names.gateway_container(stack)}"
                container = self._add(
                    Check(where, "nginx container", said, runs, needs=[of_host["containers"]]), found
                )
                started = [container]
        checks = GatewayChecks(stack, place, list(self._nodes.values()), self._api_key)
        configuration = self._add(
            Check(
                where,
                "nginx configuration",
                "nginx's file, against the stack",
                checks.configuration,
                needs=at,
            ),
            found,
        )
        http = self._add(
            Check(where, "gateway http", f"GET {checks.site.url}", checks.http, needs=started), found
        )
        behind = []
        for server in upstreams(stack):
            node = stack.node(server.name)
            earlier = [*self._of_host.get(node.host, {}).values(), *self._of_node[node.name].values()]
            earlier = [
                check
                for check in earlier
                if check.name in ("ssh", "docker", "service")
                or check.name.endswith(("service container", "service process"))
            ]

            async def dial(server: Any = server, earlier: Sequence[Check] = earlier) -> Outcome:
                return await checks.upstream(server, earlier)

            behind.append(
                self._add(
                    Check(
                        (GATEWAY, node.name),
                        f"upstream {node.name}",
                        f"GET http://{server.http_address}/health from the gateway's host",
                        dial,
                        needs=at,
                        after=earlier,
                    ),
                    found,
                )
            )
        self._add(
            Check(where, "upstreams avoided", "nginx's log", checks.avoided, needs=started, after=behind),
            found,
        )
        if gateway.tls is not None:
            self._add(
                Check(
                    where, "certificate", "the certificate that is served", checks.certificate, needs=[http]
                ),
                found,
            )
        serving = [self._of_node[node.name]["health"] for node in stack.nodes if not node.drained]
        heard = [self._of_node[node.name]["inference"] for node in stack.nodes]
        if gateway.mode != "existing":
            entrance = self._any(lambda: checks.grpc(_unhealthy(serving)), serving)
            said = f"gRPC health check at {gateway.public_host}:{gateway.grpc}"
            self._add(Check(where, "gateway grpc", said, entrance, needs=[http], after=serving), found)
        self._add(
            Check(
                where,
                "gateway inference",
                f"POST {checks.site.url}/api/v1/ai/asr",
                self._any(checks.inference, serving),
                seconds=_INFERENCE_SECONDS,
                needs=[http],
                # After the nodes' own, so that it measures the gateway and not their queue.
                after=[*serving, configuration, *heard],
            ),
            found,
        )

    @staticmethod
    def _any(ask: Any, serving: Sequence[Check]) -> Any:
        """`ask`, unless every node is known not to serve: then the gateway is not to blame."""

        async def asked() -> Outcome:
            unhealthy = _unhealthy(serving)
            if unhealthy and len(unhealthy) == len(serving):
                causes = ", ".join(f"{name} health" for name in unhealthy)
                return Outcome(Status.SKIPPED, f"because of: {causes}")
            return cast(Outcome, await ask())

        return asked


def _unhealthy(serving: Sequence[Check]) -> list[str]:
    """The nodes whose health is known not to be well."""
    known = [(check.where[0], check.finding) for check in serving if check.finding is not None]
    return [name for name, finding in known if finding.status is not Status.OK]
