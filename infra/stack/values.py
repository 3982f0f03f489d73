"""The values that keys of a stack take: ports, GPUs, sizes, paths, names and secrets.

Each has its check, its error message and its part of the JSON Schema.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
)

from inference_service.origins import ORIGIN_PATTERN, parse_origin
from inference_service.tasks import TASK_NAMES, Task
from infra.stack.hosts import PATTERN, Host, parse_host
from infra.stack.shown import shown

NAME = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
API_KEY = r"[A-Za-z0-9._~+/=-]{8,256}"
_SHARE = "^([1-9][0-9]?|100)%$"
_SHARE_OR_NONE = "^(0|[1-9][0-9]?|100)%$"
_ALL_TASKS = "without the key a node serves all of them"
_MEMORY = re.compile(r"([1-9][0-9]*)([kmg]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _port(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, got {shown(value)}")
    return value


def parse_gpus(value: object) -> object:
    """`all`, `none`, or a list of GPU indices, each once."""
    if value in ("all", "none") and isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError(f"expected all, none or a list of GPU indices such as [0, 1], got {shown(value)}")
    problems = []
    for position, index in enumerate(value):
        if isinstance(index, bool) or not isinstance(index, int):
            problems.append(f"expected GPU indices, got {shown(index)}")
        elif index < 0:
            problems.append(f"GPU index {index} is negative; the first GPU is 0")
        elif index in value[:position]:
            problems.append(f"GPU index {index} is listed twice")
    if not value:
        problems.append("expected at least one GPU index, or none for a node without GPUs")
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    return value


def _task(value: object) -> object:
    """A task by its short name; other names are errors with a hint."""
    short = [task.model for task in Task]
    if value in short:
        return value
    message = f"expected {', '.join(short[:-1])} or {short[-1]}, got {shown(value)}"
    near = difflib.get_close_matches(str(value).lower(), TASK_NAMES, n=1, cutoff=0.6)
    raise ValueError(f'{message}; did you mean "{TASK_NAMES[near[0]].model}"?' if near else message)


def _tasks(value: list[str]) -> list[str]:
    if twice := next((task for at, task in enumerate(value) if task in value[:at]), None):
        raise ValueError(f"{twice} is listed twice")
    if not value:
        raise ValueError(f"expected at least one of {', '.join(task.model for task in Task)}; {_ALL_TASKS}")
    return [task.model for task in Task if task.model in value]


def _nodes_or_share(least: int, share: str, example: str) -> Callable[[object], object]:
    """Return a check for a number of nodes from `least`, or a share that matches the pattern `share`."""

    def checked(value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        if isinstance(value, str) and re.fullmatch(share, value):
            return value
        raise ValueError(
            f'expected a number of nodes from {least} or a share such as "{example}", got {shown(value)}'
        )

    return checked


def memory_bytes(text: str) -> int:
    """A size such as `512m` or `16g` in bytes. Raises ValueError for any other text."""
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a size such as 512m or 16g, got {shown(text)}")
    return int(match[1]) * _UNITS[match[2].lower()]


def _memory(value: str) -> str:
    memory_bytes(value)
    return value.lower()


def _absolute(value: str) -> str:
    if not value.startswith("/") or ".." in PurePosixPath(value).parts:
        raise ValueError(f"expected an absolute path on the host, got {shown(value)}")
    return str(PurePosixPath(value))


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError(
            f"expected a network such as 192.0.2.0/24 or an address, got {shown(value)}"
        ) from None


def _ip_address(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value) if "." in value else ipaddress.IPv6Address(value))
    except ValueError:
        raise ValueError(f"expected an IP address such as 192.0.2.10, got {shown(value)}") from None


def _interface_address(value: str) -> str:
    try:
        address = ipaddress.IPv4Interface(value) if "/" in value else None
    except ValueError:
        address = None
    if address is None or address.ip.is_loopback or address.ip.is_multicast or address.ip.is_unspecified:
        raise ValueError(
            f"expected an IPv4 address with its prefix, such as 198.51.100.10/24, got {shown(value)}"
        )
    return str(address)


def off(value: object) -> object:
    """`false` means none; YAML reads `off` as `false`."""
    return None if value is False else value


def _keys(value: object) -> object:
    """API keys as a list, or as one text with commas or blanks between them (an encrypted value is text)."""
    keys = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("expected a list of keys, or one text with commas between them")
    wrong = [str(number) for number, key in enumerate(keys, start=1) if not re.fullmatch(API_KEY, key)]
    if wrong:
        allowed = "8 to 256 letters, digits or any of . _ ~ + / = -"
        raise ValueError(f"expected keys of {allowed}; {_numbers(wrong)}")
    return keys


def _numbers(wrong: list[str]) -> str:
    if len(wrong) == 1:
        return f"key number {wrong[0]} does not match"
    return f"keys number {', '.join(wrong)} do not match"


# The constraints are for the JSON Schema: the validators before them have better messages.
Port = Annotated[int, Field(ge=1, le=65535), BeforeValidator(_port)]
Indices = Annotated[
    list[Annotated[int, Field(ge=0)]], Field(min_length=1, json_schema_extra={"uniqueItems": True})
]
Gpus = Annotated[Literal["all", "none"] | Indices, BeforeValidator(parse_gpus)]
HostAddress = Annotated[
    Host,
    BeforeValidator(parse_host),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": PATTERN}),
]
Batch = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[str, StringConstraints(pattern=_SHARE)],
    BeforeValidator(_nodes_or_share(1, _SHARE, "25%")),
]
MinHealthy = Annotated[
    Annotated[int, Field(ge=0)] | Annotated[str, StringConstraints(pattern=_SHARE_OR_NONE)],
    BeforeValidator(_nodes_or_share(0, _SHARE_OR_NONE, "50%")),
]
Memory = Annotated[
    str, AfterValidator(_memory), Field(json_schema_extra={"pattern": "^[1-9][0-9]*[kKmMgG]?[bB]?$"})
]
HostPath = Annotated[str, AfterValidator(_absolute), Field(json_schema_extra={"pattern": "^/"})]
InterfaceAddress = Annotated[
    str,
    AfterValidator(_interface_address),
    Field(json_schema_extra={"pattern": r"^([0-9]{1,3}\.){3}[0-9]{1,3}/[0-9]{1,2}$"}),
]
# The kernel's names of network interfaces have at most 15 characters.
InterfaceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.@-]{1,15}$")]
# What nginx, URLs and `ssh` all take for a host: a DNS name or an IP address.
DialledHost = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_.:-]{0,252}[A-Za-z0-9_.])?$")
]
IpAddress = Annotated[
    str,
    AfterValidator(_ip_address),
    Field(json_schema_extra={"pattern": r"^[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*$"}),
]
Network = Annotated[
    str,
    AfterValidator(_network),
    Field(json_schema_extra={"pattern": r"^[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]*(/[0-9]{1,3})?$"}),
]
# A path that nginx accepts without quotes.
PemPath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9_./+@:,=-]+$")]
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
# It becomes a part of a command line of ssh.
JumpHosts = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.@:/,\[\]+~-]+$")]
NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
TaskName = Annotated[Literal["asr", "emotion", "synthesis"], BeforeValidator(_task)]
# In the order of `Task`, whatever the file's.
Tasks = Annotated[
    list[TaskName],
    AfterValidator(_tasks),
    Field(json_schema_extra={"minItems": 1, "uniqueItems": True}),
]
RuntimeName = Literal["triton", "edge-llm", "remote"]
Origin = Annotated[
    str,
    AfterValidator(parse_origin),
    Field(json_schema_extra={"pattern": ORIGIN_PATTERN}),
]
Secret = Annotated[SecretStr, Field(strict=False)]
Keys = Annotated[
    list[Secret],
    BeforeValidator(_keys),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": rf"^[\s,]*({API_KEY}([\s,]+{API_KEY})*)?[\s,]*$"},
                {
                    "type": "array",
                    "items": {"type": "string", "format": "password", "pattern": f"^{API_KEY}$"},
                },
            ]
        }
    ),
]
