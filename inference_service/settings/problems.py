"""Errors of the settings: one line each, beginning with the path of the key."""

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from inference_service.settings.types import Settings

# Values under these keys are secrets: no message quotes them.
_SECRET_KEYS = ("token", "api_keys", "tls.key")


class SettingsError(Exception):
    """The settings are invalid. `problems` has one line for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def from_validation(error: ValidationError, variables: Mapping[tuple[str, ...], str]) -> SettingsError:
    """Return pydantic's errors as a SettingsError; `variables` maps keys' paths to environment variables."""
    return SettingsError(sorted(_problem(item, variables) for item in error.errors()))


def _problem(error: Any, variables: Mapping[tuple[str, ...], str]) -> str:
    """Return one line for one error: the key's path, what is wrong, what is allowed."""
    steps = tuple(str(step) for step in error["loc"])
    path = ".".join(steps)
    origin = next((f" (from {name})" for at, name in variables.items() if steps[: len(at)] == at), "")
    if error["type"] == "extra_forbidden":
        allowed = sorted(_keys_of_section(steps[:-1]))
        near = difflib.get_close_matches(steps[-1], allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{path}: unknown key{origin}; {hint}allowed here: {', '.join(allowed)}"
    reason = error["msg"].removeprefix("Value error, ")
    if error["type"] != "value_error":
        reason = reason[:1].lower() + reason[1:]
        if not any(secret in path for secret in _SECRET_KEYS) and error["type"] != "missing":
            reason += f", got {error['input']!r}"
    return f"{path}{origin}: {reason}" if path else reason


def _keys_of_section(path: tuple[str, ...]) -> list[str]:
    """Return the keys that the section at `path` allows."""
    section: type[BaseModel] = Settings
    for key in path:
        field = section.model_fields.get(key)
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return []
        section = inner
    return list(section.model_fields)
