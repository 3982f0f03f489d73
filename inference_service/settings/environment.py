"""Environment variables of the settings: `AI__HTTP__ENDPOINT` sets `ai.http.endpoint`."""

from collections.abc import Mapping
from typing import Any

from inference_service.settings.types import Settings


def overlay(data: dict[str, Any], environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Write the `AI__…` and `SERVER__…` variables of `environ` into `data`, over what it holds.

    Returns the variable's name by the path of its key, for error messages.
    """
    variables = {}
    prefixes = tuple(f"{name.upper()}__" for name in Settings.model_fields)
    for variable in sorted(environ):
        if not variable.upper().startswith(prefixes):
            continue
        path = tuple(variable.lower().split("__"))
        section = data
        for key in path[:-1]:
            inner = section.get(key)
            if not isinstance(inner, dict):
                inner = section[key] = {}
            section = inner
        section[path[-1]] = environ[variable]
        variables[path] = variable
    return variables
