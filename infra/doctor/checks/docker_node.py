"""A node of containers: where its parts are, whether they run, and whether they are as declared."""

from __future__ import annotations

import asyncio
import datetime
import shlex
from collections.abc import Mapping
from typing import Any

from infra import names
from infra import service_settings as declared_settings
from infra.connection import typed
from infra.doctor.checks.host import HostChecks
from infra.doctor.checks.node import InUse
from infra.doctor.checks.settings import keys, setting_differences
from infra.doctor.containers import Container
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.doctor.linter import Listing
from infra.doctor.linter.files import parse as parse_listing
from infra.doctor.linter.files import script as listing_script
from infra.doctor.reach import NoAnswer
from infra.doctor.web import Site
from infra.image_references import ImageReferences, sources
from infra.stack import Node, Stack

_LOG_LINES = 5
_RECENT = datetime.timedelta(hours=24)


class DockerPlace:
    """Where the containers of one node are."""

    def __init__(self, stack: Stack, node: Node, host: HostChecks, images: ImageReferences) -> None:
        self.stack = stack
        self.node = node
        self.host = host
        self.reach = host.reach
        self._images = images
        self._reading = asyncio.Lock()
        self._in_use: InUse | None = None
        self.triton_address = names.TRITON_GRPC_ADDRESS
        triton, service = self.container_name(names.TRITON), self.container_name(names.SERVICE)
        self.triton_log, self.service_log = self.log(triton), self.log(service)
        self.triton_start, self.service_start = self.start(triton), self.start(service)

    def container_name(self, part: str) -> str:
        """The name of the container that is this part of the node."""
        return names.container(self.stack, self.node, part)

    def log(self, container: str) -> str:
        """The command that shows a container's log."""
        return typed(self.node.host, self.stack.ssh, f"docker logs --tail 50 {container}")

    def start(self, container: str) -> str:
        """The command that starts a container again."""
        restart = typed(self.node.host, self.stack.ssh, f"docker restart {container}")
        return f"{restart}, or `pulumi up --stack {self.stack.name}`"

    def image(self, part: str) -> str:
        """The image that the stack declares for a part. Raises ContextError where its build is not there."""
        return self._images.reference(part, sources(self.stack, self.node)[part])

    # Where it is ----------------------------------------------------------------------------------------

    def service(self) -> Site:
        """The service's HTTP API, on the node's network."""
        return Site(self._address(names.SERVICE), names.HTTP_PORT, self.reach)

    def triton(self) -> Site:
        """Triton's HTTP API, on the node's network."""
        return Site(self._address(names.TRITON), names.TRITON_HTTP_PORT, self.reach)

    def unit_manager(self) -> tuple[str, int]:
        """The unit manager, on the node's network."""
        return self._address(names.UNIT_MANAGER), names.UNIT_MANAGER_PORT

    def _address(self, part: str) -> str:
        return self.host.containers[self.container_name(part)].address

    async def in_use(self) -> InUse:
        """From the service's container, also when it does not run; as declared when there is none."""
        async with self._reading:
            if self._in_use is None:
                self._in_use = await self._read_in_use()
        return self._in_use

    async def _read_in_use(self) -> InUse:
        name = self.container_name(names.SERVICE)
        if name not in self.host.containers:
            return InUse(declared_settings.settings_file(self.stack, self.node), self.stack.service.env)
        done = await self.reach.run(
            f"docker cp {shlex.quote(f'{name}:{names.SETTINGS_FILE}')} - | tar -xOf -"
        )
        if done.status != 0:
            raise NoAnswer(f"{names.SETTINGS_FILE} in {name} cannot be read: {done.last_line}")
        return InUse(done.out, self.host.containers[name].environment)

    async def repository(self) -> tuple[str, Listing]:
        """The folder that is mounted at /models, read on the host as its links resolve there."""
        name = self.container_name(names.TRITON)
        there = self.host.containers.get(name)
        folder = there.mounts.get(names.MODELS_MOUNT) if there is not None else None
        if folder is None:
            synced = f"{names.models_folder(self.stack, self.node)}/{names.REPOSITORY}"
            folder = synced if self.stack.models.source == "sync" else self.stack.models.path
        done = await self.reach.run(listing_script(folder))
        if done.status != 0:
            raise NoAnswer(f"{folder}: {done.last_line}")
        return folder, parse_listing(done.out)

    # Whether it runs ------------------------------------------------------------------------------------

    async def container(self, part: str) -> Outcome:
        """Whether one of the node's containers runs, and how it ended when it does not."""
        return await container_state(self.host, self.container_name(part), self.stack)

    async def drift(self) -> Outcome:
        """What runs against what the stack declares: image, GPUs, ports, settings."""
        outcomes = []
        try:
            in_use = keys((await self.in_use()).file)
        except NoAnswer as error:
            return problem(str(error), self.service_start)
        for part in sources(self.stack, self.node):
            there = self.host.containers.get(self.container_name(part))
            if there is not None:
                outcomes += [self._differs(part, said) for said in self._differences(part, there)]
        declared = declared_settings.service_settings(self.stack, self.node)
        outcomes += [self._differs("service", said) for said in setting_differences(declared, in_use)]
        return worst(outcomes, "images, GPUs, ports and settings are as declared")

    def _differs(self, part: str, said: str) -> Outcome:
        return warning(
            f"{self.container_name(part)}: {said}",
            f"`pulumi up --stack {self.stack.name}` (with --refresh when it was changed by hand), "
            "or declare what is there",
        )

    def _differences(self, part: str, there: Container) -> list[str]:
        said = []
        image = self.image(part)
        if there.image != image:
            said.append(f"its image is {there.image}, declared is {image}")
        gpus: Any = "none"
        if part in (names.TRITON, names.LLM_NODE):
            gpus = self.node.gpus if isinstance(self.node.gpus, str) else tuple(map(str, self.node.gpus))
        if there.gpus != gpus:
            said.append(f"its gpus are {_listed(there.gpus)}, declared is {_listed(gpus)}")
        published = names.published_by(self.stack, self.node, part)
        ports = {outer: inner for inner, outer in published.items()}
        if there.ports != ports:
            said.append(f"it publishes {_ports(there.ports)}, declared is {_ports(ports)}")
        env = {names.TRITON: self.stack.triton.env, names.SERVICE: self.stack.service.env}.get(part, {})
        said += [
            f"its environment has another {name} than declared"
            for name, value in env.items()
            if there.environment.get(name) != value
        ]
        return said


async def container_state(host: HostChecks, name: str, stack: Stack) -> Outcome:
    """Whether a container runs and is healthy; else how it ended, with its last words."""
    there = host.containers.get(name)
    if there is None:
        return problem(
            f"there is no container {name}", f"`pulumi up --refresh --stack {stack.name}` makes it again"
        )
    if not there.running or there.health == "unhealthy":
        said = await host.reach.run(f"docker logs --tail {_LOG_LINES} {shlex.quote(name)} 2>&1")
        log = said.out.strip()
        state = f"unhealthy: {there.health_said}" if there.running else f"{there.status}, {there.ended}"
        verb = "start" if there.status in ("exited", "created") else "restart"
        remedy = typed(host.reach.host, stack.ssh, f"docker {verb} {name}")
        if there.out_of_memory:
            remedy = (
                "give the part more memory (triton.memory, service.memory, …), or the host; then " + remedy
            )
        return problem(f"{name}: {state}" + (f"; its log ends:\n{log}" if log else ""), remedy)
    if there.restarts and _recent(there.started_at):
        return warning(
            f"{name} restarted {there.restarts} times, last at {there.started_at[:19]}; {there.ended}",
            "see why: " + typed(host.reach.host, stack.ssh, f"docker logs --since 24h {name}"),
        )
    return ok(f"{name} runs" + (f", {there.health}" if there.health else ""))


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
