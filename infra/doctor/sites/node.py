"""The site of a node: where its parts listen and how its settings and models are read."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from inference_service.settings import Settings, SettingsError
from inference_service.settings import load as load_settings
from infra.doctor.host_access import HostAccess
from infra.doctor.linter import Listing
from infra.doctor.web import HttpServer
from infra.stack import Node


@dataclass(frozen=True, slots=True)
class InUse:
    """The settings that a service runs with: the text of its file, and its environment."""

    file: str
    environment: Mapping[str, str] = field(repr=False)

    def settings(self) -> Settings:
        """The settings as the service reads them. Raises SettingsError with the service's own messages."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            file.write(self.file)
            file.flush()
            try:
                return load_settings(Path(file.name), self.environment)[0]
            except SettingsError as error:
                raise SettingsError([line.replace(f"{file.name}: ", "") for line in error.problems]) from None


class NodeSite(Protocol):
    """The containers of a node on a host, or its processes on this computer."""

    node: Node

    @property
    def access(self) -> HostAccess | None:
        """The access to the node's host; None for processes on this computer."""

    #: Triton's gRPC address as the service's settings must have it.
    triton_address: str
    #: The commands that show Triton's or the service's log, and that start them again.
    triton_log: str
    triton_start: str
    service_log: str
    service_start: str

    def service(self) -> HttpServer:
        """The service's HTTP API."""

    def triton(self) -> HttpServer:
        """Triton's HTTP API."""

    def unit_manager(self) -> tuple[str, int]:
        """The unit manager's address and port."""

    async def in_use(self) -> InUse:
        """The service's settings. Raises NoAnswer where they cannot be read."""

    async def repository(self) -> tuple[str, Listing]:
        """The folder that Triton reads models from, and its listing. Raises NoAnswer."""


class ExaminedNode:
    """A node under examination: its site, and what its first checks found out for the later ones."""

    def __init__(self, site: NodeSite, api_key: str | None, *, models_on_disk: bool) -> None:
        """`api_key` is the one given to the doctor; without it, the service's own settings have one.

        `models_on_disk` is False where Triton reads its models from an object store.
        """
        self.models_on_disk = models_on_disk
        self.site = site
        self.node = site.node
        self.where = (site.node.name,)
        self.settings: Settings | None = None
        self._given_key = api_key

    @property
    def known_settings(self) -> Settings:
        """The service's settings, after the check `settings`."""
        assert self.settings is not None, "the check `settings` comes first"
        return self.settings

    @property
    def key(self) -> str | None:
        """An API key that the node accepts; None where it requires none."""
        keys = self.settings.server.api_keys if self.settings is not None else []
        return self._given_key or (keys[0].get_secret_value() if keys else None)
