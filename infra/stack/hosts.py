"""The hosts of nodes and of the gateway: an SSH host, a Docker socket, processes on this computer, or a
Kubernetes cluster."""

import ipaddress
import re
from dataclasses import dataclass

from infra.stack.shown import shown

EXPECTED = "ssh://user@host[:port]"
OTHERS = "unix:///path/to/docker.sock or embedded"

_SSH = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?))"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
#: The same pattern for the JSON Schema, without named groups; `parse_host` checks the port's range.
PATTERN = f"^({re.sub('[?]P<[a-z0-9]+>', '', _SSH.pattern)}|unix:///.+|embedded)$"


def bracketed(address: str) -> str:
    """The address as it is written before `:port`: an IPv6 address in brackets."""
    return f"[{address}]" if ":" in address else address


@dataclass(frozen=True, slots=True)
class SshHost:
    """A Docker host reached through `ssh`; without user or port, the SSH configuration decides."""

    address: str
    user: str | None = None
    port: int | None = None

    @property
    def destination(self) -> str:
        """The destination for `ssh`: `user@address` or `address`."""
        return f"{self.user}@{self.address}" if self.user else self.address

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"ssh://{user}{bracketed(self.address)}{port}"


@dataclass(frozen=True, slots=True)
class UnixHost:
    """A Docker daemon of this computer, by its socket."""

    socket: str
    address: str = "127.0.0.1"

    def __str__(self) -> str:
        return f"unix://{self.socket}"


@dataclass(frozen=True, slots=True)
class EmbeddedHost:
    """This computer without Docker: ordinary processes under a supervisor."""

    address: str = "127.0.0.1"

    def __str__(self) -> str:
        return "embedded"


@dataclass(frozen=True, slots=True)
class ClusterHost:
    """A Service in a Kubernetes cluster, in front of a pool's pods or the gateway's; not a key's value."""

    service: str
    namespace: str
    domain: str

    @property
    def address(self) -> str:
        """Its name in the cluster's DNS."""
        return f"{self.service}.{self.namespace}.svc.{self.domain}"

    def __str__(self) -> str:
        return f"kubernetes:{self.namespace}/{self.service}"


Host = SshHost | UnixHost | EmbeddedHost | ClusterHost


def parse_host(text: object) -> Host:
    """The host that `text` names.

    Raises ValueError with the expected form and the given text.
    """
    if isinstance(text, SshHost | UnixHost | EmbeddedHost | ClusterHost):
        return text
    if text == "embedded":
        return EmbeddedHost()
    if isinstance(text, str) and text.startswith("unix://"):
        socket = text.removeprefix("unix://")
        if not re.fullmatch("/.+", socket):
            raise ValueError(f"expected unix:///path/to/docker.sock, got {shown(text)}")
        return UnixHost(socket)
    if isinstance(text, str) and text.startswith("ssh://"):
        match = _SSH.fullmatch(text)
        port = int(match["port"]) if match and match["port"] else None
        if match is None or (port is not None and not 1 <= port <= 65535):
            raise ValueError(f"expected {EXPECTED}, got {shown(text)}")
        return SshHost(match["v6"] or match["name"], match["user"], port)
    raise ValueError(f"expected {EXPECTED}, {OTHERS}, got {shown(text)}")


def machine_of(host: Host) -> str:
    """A name for the machine, the same for every user that logs in to it."""
    if not isinstance(host, SshHost):
        return str(host).split("//")[-1]
    # The double colon separates the parts of a URN.
    address = ipaddress.ip_address(host.address).exploded if "::" in host.address else host.address
    return address if host.port in (None, 22) else f"{address}:{host.port}"
