"""The settings of the console: one JSON file, which the fleet writes, and two environment variables."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

#: The environment variables with the API keys (a JSON list), the password, and a `NodeTls` as JSON. They are
#: secrets, and the file of a console in a container has none.
API_KEYS, PASSWORD, TLS = "CONSOLE_API_KEYS", "CONSOLE_PASSWORD", "CONSOLE_TLS"


class WatchedNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node: the base of its HTTP API as the console reaches it, and what the stack file says of it.

    `state` is `serving`, `drained` or `skipped` (its host could not be reached at the last update). With
    `pool` the name in `url` has the address of each of its pods.
    """

    name: str
    url: str
    host: str = ""
    role: str = "triton"
    state: str = "serving"
    #: Unset and not False, so that a fleet on hosts has the same file as before.
    pool: bool | msgspec.UnsetType = msgspec.UNSET


class NodeTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The console's certificate and key, and the authority of the nodes' certificates (PEM texts). Every
    node's certificate is also for `name`."""

    certificate: str
    key: str
    authority: str
    name: str


class ConsoleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the console watches and where it listens.

    `gateway` is the gateway's HTTP entrance as clients reach it, `probe` as the console does; None where the
    console cannot ask it. The console listens on the Unix socket `socket`, to which nginx proxies. nginx
    writes a line for each request to the Unix socket `log_socket`; without it the gateway has no figures.
    `api_keys` guard the console's data, `password` in their place; without either everybody may see it.
    `tls` is for nodes that are dialled by TLS. `prometheus` is the base address of one that reads the fleet:
    it has the hour before the console started.
    """

    stack: str
    nodes: tuple[WatchedNode, ...]
    gateway: str
    probe: str | None
    socket: str
    log_socket: str | None = None
    api_keys: tuple[str, ...] = ()
    password: str | None = None
    tls: NodeTls | None = None
    #: Unset and not None, so that a fleet without one has the same file as before.
    prometheus: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def guard(self) -> str:
        """What opens the console: `password`, `key` (an API key), or empty for everybody."""
        return "password" if self.password else "key" if self.api_keys else ""


class SettingsInvalid(Exception):
    """The settings cannot be used; `str(error)` names the file or variable and what is wrong."""


def load(path: Path, environment: Mapping[str, str] = os.environ) -> ConsoleSettings:
    """The settings in a file, with the secrets of the environment. Raises SettingsInvalid."""
    try:
        settings = msgspec.json.decode(path.read_bytes(), type=ConsoleSettings)
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsInvalid(f"{path}: {error}") from None
    try:
        keys = msgspec.json.decode(environment.get(API_KEYS, "[]"), type=tuple[str, ...])
    except msgspec.MsgspecError:
        # The message must not show the keys.
        raise SettingsInvalid(f"{API_KEYS}: expected a JSON list of texts") from None
    try:
        tls = msgspec.json.decode(environment.get(TLS, "null"), type=NodeTls | None)
    except msgspec.MsgspecError:
        raise SettingsInvalid(f"{TLS}: expected JSON with certificate, key, authority and name") from None
    return msgspec.structs.replace(
        settings,
        api_keys=settings.api_keys or keys,
        tls=settings.tls or tls,
        password=settings.password or environment.get(PASSWORD) or None,
    )
