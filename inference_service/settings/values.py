"""Value types of the settings: durations, lists and addresses, as people write them."""

import json
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from inference_service.origins import parse_origin

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(value: object) -> object:
    """Return `"30s"`, `"500ms"`, `"2m"` or `"1h"` in seconds; leave numbers to pydantic."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return float(match[1]) * _UNIT_SECONDS[match[2]]
    return value


def split_items(value: object) -> object:
    """Return a list unchanged; split a string: a JSON array, or items with commas between them."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"is not a JSON array: {error.msg}") from None
    return [item.strip() for item in value.split(",") if item.strip()]


def none_if_empty(value: object) -> object:
    """Return None for `""`, which files of the original service write for an unset key."""
    return None if value == "" else value


def http_url(value: str) -> str:
    """Return `value` without a trailing slash. Raises ValueError unless it is an http(s) URL."""
    if not re.fullmatch(r"https?://[^\s/:@]+(:\d{1,5})?(/\S*)?", value):
        raise ValueError(f"expected http(s)://host[:port][/path], got {value!r}")
    return value.rstrip("/")


_HOST_PORT = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[^\s/:@]+):(\d{1,5})")


def host_port(value: str) -> str:
    """Return `value`. Raises ValueError unless it is `host:port`, an IPv6 host in brackets."""
    match = _HOST_PORT.fullmatch(value)
    if not match or not 0 < int(match[1]) < 65536:
        raise ValueError(f"expected host:port, got {value!r}")
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
Names = Annotated[list[str], BeforeValidator(split_items)]
OptionalText = Annotated[str | None, BeforeValidator(none_if_empty)]
OptionalPath = Annotated[Path | None, BeforeValidator(none_if_empty)]
Origins = Annotated[
    list[Annotated[str, AfterValidator(parse_origin)]],
    BeforeValidator(split_items),
]
HostPort = Annotated[str, AfterValidator(host_port)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """A mapping of the settings file. Unknown keys are errors."""

    # Pydantic reserves the prefix `model_`; the key `model_name` of the original service needs it.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, protected_namespaces=())
