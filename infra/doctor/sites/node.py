"""A node under examination: where its parts listen, and how its settings and models are read."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from inference_service.settings import Settings, SettingsError
from inference_service.settings import load as load_settings
from infra.doctor.host_access import HostAccess
from infra.doctor.linter import Listing
from infra.doctor.web import HttpServer
from infra.stack import Node, Stack


@dataclass(frozen=True, slots=True)
class InUse:
    """The settings that a service runs with: the text of its file, and its environment."""

    file: str
    environment: Mapping[str, str] = field(repr=False)

    @property
    def keys(self) -> dict[str, Any]:
        """The keys in the file; none where it is not YAML, which the check `settings` reports."""
        try:
            content = yaml.safe_load(self.file)
        except yaml.YAMLError:
            return {}
        return content if isinstance(content, dict) else {}

    def settings(self) -> Settings:
        """The settings as the service reads them. Raises SettingsError with the service's own messages."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            file.write(self.file)
            file.flush()
            try:
                return load_settings(Path(file.name), self.environment)[0]
            except SettingsError as error:
                raise SettingsError([line.replace(f"{file.name}: ", "") for line in error.problems]) from None


class NodeSite(ABC):
    """A node under examination: containers on a host, or processes on this computer."""

    #: The access to the node's host; None for processes on this computer.
    access: HostAccess | None = None
    #: Triton's gRPC address as the service's settings must have it.
    triton_address: str
    #: The service's settings, after the check `settings`.
    settings: Settings | None = None

    def __init__(self, stack: Stack, node: Node, api_key: str | None) -> None:
        """`api_key` is the one given to the doctor; without it, the service's own settings have one."""
        self.stack, self.node, self.where = stack, node, (node.name,)
        self._given_key = api_key

    @abstractmethod
    def address(self, part: str) -> tuple[str, int]:
        """The address and port of a part: HTTP of the service and of Triton, TCP of the unit manager."""

    @abstractmethod
    def log(self, part: str) -> str:
        """The command that shows the log of a part."""

    @abstractmethod
    def start(self, part: str) -> str:
        """The command that starts a part again."""

    @abstractmethod
    async def in_use(self) -> InUse:
        """The service's settings. Raises NoAnswer where they cannot be read."""

    @abstractmethod
    async def repository(self) -> tuple[str, Listing]:
        """The folder that Triton reads models from, and its listing. Raises NoAnswer."""

    def server(self, part: str) -> HttpServer:
        """The HTTP API of a part."""
        return HttpServer(*self.address(part), self.access)

    @property
    def known_settings(self) -> Settings:
        """The service's settings, for checks that need the check `settings`."""
        assert self.settings is not None
        return self.settings

    @property
    def key(self) -> str | None:
        """An API key that the node accepts; None where it requires none."""
        keys = self.settings.server.api_keys if self.settings is not None else []
        return self._given_key or (keys[0].get_secret_value() if keys else None)
