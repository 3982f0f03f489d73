"""The console beside a stack's gateways."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, WithJsonSchema

from infra.stack.section import Section
from infra.stack.values import API_KEY, Memory


def _password(value: object) -> object:
    given = value.get_secret_value() if isinstance(value, SecretStr) else value
    # The message must not show the password.
    if not isinstance(given, str) or not re.fullmatch(API_KEY, given):
        raise ValueError("expected 8 to 256 letters, digits or any of . _ ~ + / = -")
    return value


Password = Annotated[
    SecretStr,
    Field(strict=False),
    BeforeValidator(_password),
    WithJsonSchema({"type": "string", "format": "password", "pattern": f"^{API_KEY}$"}),
]


class Console(Section):
    """The landing page at `/` and the console at `/console` of each gateway: a small process that watches the
    nodes."""

    enabled: bool | None = None
    """Whether it runs. Default: true where the service is built from this project; false for the service of
    another image, which may have no console, and for an existing nginx, which cannot have one."""
    password: Password | None = None
    """Opens the console in place of the API keys. Default: one of `apiKeys`; without keys everybody sees
    it."""
    memory: Memory = "100m"
    """container: its container's memory limit."""
