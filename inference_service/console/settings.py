"""The settings of the console: one JSON file, which the fleet writes."""

from pathlib import Path

import msgspec


class WatchedNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node: the base of its HTTP API as the console reaches it, and what the stack file says of it.

    `state` is `serving`, `drained` or `skipped` (its host could not be reached at the last update).
    """

    name: str
    url: str
    host: str = ""
    role: str = "triton"
    state: str = "serving"


class ConsoleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the console watches and where it listens.

    `gateway` is the gateway's HTTP entrance as clients reach it, `probe` as the console does. The console
    listens on the Unix socket `socket`, to which nginx proxies. nginx writes a line for each request to the
    Unix socket `log_socket`; without it the gateway has no figures. `api_keys` guard the console's data;
    without keys everybody may see it. `certificate` verifies nodes that speak TLS.
    """

    stack: str
    nodes: tuple[WatchedNode, ...]
    gateway: str
    probe: str
    socket: str
    log_socket: str | None = None
    api_keys: tuple[str, ...] = ()
    certificate: str | None = None


class SettingsInvalid(Exception):
    """The file cannot be used; `str(error)` names it and what is wrong."""


def load(path: Path) -> ConsoleSettings:
    """The settings in a file. Raises SettingsInvalid."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ConsoleSettings)
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsInvalid(f"{path}: {error}") from None
