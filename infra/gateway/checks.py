"""The checks of the values that get into nginx's configuration. Each raises ValueError naming the value."""

import ipaddress
import re
from typing import Any

_PATH = re.compile(r'/[^\x00-\x1f\x7f"\\$]+')  # the configuration quotes it; nginx expands $ in some values


def is_ip(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return getattr(address, "scope_id", None) is None


def check(allowed: re.Pattern[str], value: str, what: str, expected: str) -> None:
    """A text matches a pattern whole; `what` names the field, `expected` says what it may be."""
    if not allowed.fullmatch(value):
        raise ValueError(f"{what}: expected {expected}, got {value!r}")


def check_path(path: str, what: str) -> None:
    """An absolute path that nginx's configuration can hold in quotes."""
    check(_PATH, path, what, "an absolute path without quotes, backslashes and $")


def check_port(port: int, what: str) -> None:
    """A port."""
    if not 1 <= port <= 65535:
        raise ValueError(f"{what}: expected a port from 1 to 65535, got {port}")


def check_distinct(servers: tuple[Any, ...], *fields: str) -> None:
    """No two servers have the same value in one of the fields."""
    for what in fields:
        seen: set[str] = set()
        for server in servers:
            value = getattr(server, what)
            if value in seen:
                raise ValueError(f"servers: {what} {value} is listed twice")
            seen.add(value)
