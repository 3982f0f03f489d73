"""A node of containers on a Docker host: its addresses, its settings and its models."""

import asyncio
import shlex

from inference_service import addresses
from infra import names
from infra import service_settings as declared_settings
from infra.doctor.linter import Listing
from infra.doctor.linter.files import parse as parse_listing
from infra.doctor.linter.files import script as listing_script
from infra.doctor.sites.host import HostSite
from infra.doctor.sites.node import InUse, NodeSite
from infra.image_references import ImageReferences, sources
from infra.stack import Node, Stack


class DockerNodeSite(NodeSite):
    """The containers of one node."""

    triton_address = addresses.TRITON_GRPC

    def __init__(
        self, stack: Stack, node: Node, api_key: str | None, host: HostSite, images: ImageReferences
    ) -> None:
        """Raises ContextError without the build context of one of the node's images."""
        super().__init__(stack, node, api_key)
        self.host = host
        self.access = host.access
        #: The image that the stack declares for each part, in the order in which they start.
        self.images = {part: images.reference(part, source) for part, source in sources(stack, node).items()}
        self._reading = asyncio.Lock()
        self._in_use: InUse | None = None

    def container_name(self, part: str) -> str:
        """The name of the container of one part of the node."""
        return names.container(self.stack, self.node, part)

    def address(self, part: str) -> tuple[str, int]:
        """The address on the node's network."""
        port = {names.SERVICE: addresses.HTTP_PORT, names.TRITON: addresses.TRITON_HTTP_PORT}
        address = self.host.containers[self.container_name(part)].address
        return address, port.get(part, addresses.UNIT_MANAGER_PORT)

    def log(self, part: str) -> str:
        return self.host.typed(f"docker logs --tail 50 {self.container_name(part)}")

    def start(self, part: str) -> str:
        restart = self.host.typed(f"docker restart {self.container_name(part)}")
        return f"{restart}, or `pulumi up --stack {self.stack.name}`"

    async def in_use(self) -> InUse:
        """The settings in the service's container, running or not; without a container, the declared ones."""
        async with self._reading:
            if self._in_use is None:
                self._in_use = await self._read_in_use()
        return self._in_use

    async def _read_in_use(self) -> InUse:
        name = self.container_name(names.SERVICE)
        if name not in self.host.containers:
            return InUse(declared_settings.settings_text(self.stack, self.node), self.stack.service.env)
        environment = self.host.containers[name].environment
        if names.SETTINGS_VARIABLE in environment:
            return InUse(environment[names.SETTINGS_VARIABLE], environment)
        text = await self.host.access.output(
            f"docker cp {shlex.quote(f'{name}:{names.SETTINGS_FILE}')} - | tar -xOf -",
            f"{names.SETTINGS_FILE} in {name} cannot be read: ",
        )
        return InUse(text, environment)

    async def repository(self) -> tuple[str, Listing]:
        """The folder that is mounted at /models, read on the host: its links only resolve there."""
        container = self.host.containers.get(self.container_name(names.TRITON))
        folder = container.mounts.get(names.MODELS_MOUNT) if container is not None else None
        if folder is None:
            synced = f"{names.models_folder(self.stack, self.node)}/{names.REPOSITORY}"
            folder = synced if self.stack.models.source == "sync" else self.stack.models.path
        return folder, parse_listing(await self.host.access.output(listing_script(folder), f"{folder}: "))
