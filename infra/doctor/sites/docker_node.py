"""A node of containers on a Docker host: its addresses, its settings and its models."""

from __future__ import annotations

import asyncio
import shlex

from infra import names
from infra import service_settings as declared_settings
from infra.connection import typed
from infra.doctor.host_access import NoAnswer
from infra.doctor.linter import Listing
from infra.doctor.linter.files import parse as parse_listing
from infra.doctor.linter.files import script as listing_script
from infra.doctor.sites.host import ExaminedHost
from infra.doctor.sites.node import InUse
from infra.doctor.web import HttpServer
from infra.image_references import ImageReferences, sources
from infra.stack import Node, Stack


class DockerNodeSite:
    """The containers of one node."""

    def __init__(self, stack: Stack, node: Node, host: ExaminedHost, images: ImageReferences) -> None:
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
