"""A node of containers on a Docker host: its addresses, the state of its containers, and their drift."""

from __future__ import annotations

import asyncio
import datetime
import shlex
from collections.abc import Mapping
from typing import Any

from infra import names
from infra import service_settings as declared_settings
from infra.connection import typed
from infra.doctor.answers import failing
from infra.doctor.checks.drift import keys, setting_differences
from infra.doctor.checks.host import HostChecks
from infra.doctor.containers import Container
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.doctor.host_access import NoAnswer
from infra.doctor.linter import Listing
from infra.doctor.linter.files import parse as parse_listing
from infra.doctor.linter.files import script as listing_script
from infra.doctor.sites.node import InUse
from infra.doctor.web import HttpServer
from infra.image_references import ImageReferences, sources
from infra.stack import Node, Stack

_LOG_LINES = 5
_RECENT = datetime.timedelta(hours=24)


class DockerNodeSite:
    """The containers of one node."""

    def __init__(self, stack: Stack, node: Node, host: HostChecks, images: ImageReferences) -> None:
        self.stack = stack
        self.node = node
        self.host = host
        self.where = (node.name,)
        self.access = host.access
        self._images = images
        self._reading = asyncio.Lock()
        self._in_use: InUse | None = None
        self.triton_address = names.TRITON_GRPC_ADDRESS
        triton, service = self.container_name(names.TRITON), self.container_name(names.SERVICE)
        self.triton_log, self.service_log = self.log(triton), self.log(service)
        self.triton_start, self.service_start = self.start(triton), self.start(service)

    def container_name(self, part: str) -> str:
        """The name of the container of one part of the node."""
        return names.container(self.stack, self.node, part)

    def log(self, container: str) -> str:
        """The command that shows a container's log."""
        return typed(self.node.host, self.stack.ssh, f"docker logs --tail 50 {container}")

    def start(self, container: str) -> str:
        """The command that starts a container again."""
        restart = typed(self.node.host, self.stack.ssh, f"docker restart {container}")
        return f"{restart}, or `pulumi up --stack {self.stack.name}`"

    def image(self, part: str) -> str:
        """The image that the stack declares for a part. Raises ContextError without its build."""
        return self._images.reference(part, sources(self.stack, self.node)[part])

    # Addresses, settings and models ---------------------------------------------------------------------

    def service(self) -> HttpServer:
        """The service's HTTP API, on the node's network."""
        return HttpServer(self._address(names.SERVICE), names.HTTP_PORT, self.access)

    def triton(self) -> HttpServer:
        """Triton's HTTP API, on the node's network."""
        return HttpServer(self._address(names.TRITON), names.TRITON_HTTP_PORT, self.access)

    def unit_manager(self) -> tuple[str, int]:
        """The unit manager, on the node's network."""
        return self._address(names.UNIT_MANAGER), names.UNIT_MANAGER_PORT

    def _address(self, part: str) -> str:
        return self.host.containers[self.container_name(part)].address

    async def in_use(self) -> InUse:
        """From the service's container, running or not; as declared when there is no container."""
        async with self._reading:
            if self._in_use is None:
                self._in_use = await self._read_in_use()
        return self._in_use

    async def _read_in_use(self) -> InUse:
        name = self.container_name(names.SERVICE)
        if name not in self.host.containers:
            return InUse(declared_settings.settings_file(self.stack, self.node), self.stack.service.env)
        result = await self.access.run(
            f"docker cp {shlex.quote(f'{name}:{names.SETTINGS_FILE}')} - | tar -xOf -"
        )
        if result.status != 0:
            raise NoAnswer(f"{names.SETTINGS_FILE} in {name} cannot be read: {result.last_line}")
        return InUse(result.stdout, self.host.containers[name].environment)

    async def repository(self) -> tuple[str, Listing]:
        """The folder that is mounted at /models, read on the host: its links only resolve there."""
        name = self.container_name(names.TRITON)
        container = self.host.containers.get(name)
        folder = container.mounts.get(names.MODELS_MOUNT) if container is not None else None
        if folder is None:
            synced = f"{names.models_folder(self.stack, self.node)}/{names.REPOSITORY}"
            folder = synced if self.stack.models.source == "sync" else self.stack.models.path
        result = await self.access.run(listing_script(folder))
        if result.status != 0:
            raise NoAnswer(f"{folder}: {result.last_line}")
        return folder, parse_listing(result.stdout)

    # State and drift ------------------------------------------------------------------------------------

    async def container(self, part: str) -> Outcome:
        """Whether the container of one part of the node runs, and how it ended when it does not."""
        return await container_state(self.host, self.container_name(part), self.stack)

    async def gpu_in_container(self) -> Outcome:
        """Whether the runtime's container sees the node's GPUs."""
        runtime = names.TRITON if self.node.runtime == "triton" else names.LLM_NODE
        return await self.host.gpu_in_container(self.node, self.container_name(runtime), self.image(runtime))

    async def drift(self) -> Outcome:
        """Whether the containers' images, GPUs, ports and settings are those that the stack declares."""
        outcomes = []
        with failing(self.service_start):
            in_use = keys((await self.in_use()).file)
        for part in sources(self.stack, self.node):
            container = self.host.containers.get(self.container_name(part))
            if container is not None:
                outcomes += [self._differs(part, text) for text in self._differences(part, container)]
        declared = declared_settings.service_settings(self.stack, self.node)
        outcomes += [self._differs(names.SERVICE, text) for text in setting_differences(declared, in_use)]
        return worst(outcomes, "images, GPUs, ports and settings are as declared")

    def _differs(self, part: str, difference: str) -> Outcome:
        return warning(
            f"{self.container_name(part)}: {difference}",
            f"`pulumi up --stack {self.stack.name}` (with --refresh if somebody changed it by hand), "
            "or change the stack file",
        )

    def _differences(self, part: str, container: Container) -> list[str]:
        differences = []
        image = self.image(part)
        if container.image != image:
            differences.append(f"its image is {container.image}, declared is {image}")
        gpus: Any = "none"
        if part in (names.TRITON, names.LLM_NODE):
            gpus = self.node.gpus if isinstance(self.node.gpus, str) else tuple(map(str, self.node.gpus))
        if container.gpus != gpus:
            differences.append(f"its gpus are {_listed(container.gpus)}, declared is {_listed(gpus)}")
        published = names.published_by(self.stack, self.node, part)
        ports = {outer: inner for inner, outer in published.items()}
        if container.ports != ports:
            differences.append(f"it publishes {_ports(container.ports)}, declared is {_ports(ports)}")
        env = {names.TRITON: self.stack.triton.env, names.SERVICE: self.stack.service.env}.get(part, {})
        differences += [
            f"its environment has another {name} than declared"
            for name, value in env.items()
            if container.environment.get(name) != value
        ]
        return differences


async def container_state(host: HostChecks, name: str, stack: Stack) -> Outcome:
    """Whether a container runs and is healthy; else how it ended, with the end of its log."""
    container = host.containers.get(name)
    if container is None:
        return problem(
            f"there is no container {name}", f"`pulumi up --refresh --stack {stack.name}` creates it again"
        )
    if not container.running or container.health == "unhealthy":
        result = await host.access.run(f"docker logs --tail {_LOG_LINES} {shlex.quote(name)} 2>&1")
        log = result.stdout.strip()
        state = (
            f"unhealthy: {container.health_output}"
            if container.running
            else f"{container.status}, {container.ended}"
        )
        verb = "start" if container.status in ("exited", "created") else "restart"
        remedy = typed(host.access.host, stack.ssh, f"docker {verb} {name}")
        if container.out_of_memory:
            remedy = (
                "give the part more memory (triton.memory, service.memory, …), or the host; then " + remedy
            )
        return problem(f"{name}: {state}" + (f"; its log ends:\n{log}" if log else ""), remedy)
    if container.restarts and _recent(container.started_at):
        return warning(
            f"{name} restarted {container.restarts} times, last at {container.started_at[:19]}; "
            f"{container.ended}",
            "its log has the reasons: "
            + typed(host.access.host, stack.ssh, f"docker logs --since 24h {name}"),
        )
    return ok(f"{name} runs" + (f", {container.health}" if container.health else ""))


def _recent(started_at: str) -> bool:
    try:
        started = datetime.datetime.fromisoformat(started_at[:19] + "+00:00")
    except ValueError:
        return False
    return datetime.datetime.now(datetime.UTC) - started < _RECENT


def _listed(gpus: str | tuple[str, ...]) -> str:
    return gpus if isinstance(gpus, str) else ", ".join(gpus)


def _ports(ports: Mapping[int, int]) -> str:
    return ", ".join(f"{outer}->{inner}" for outer, inner in sorted(ports.items())) or "no port"
