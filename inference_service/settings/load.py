"""Reads the settings from a YAML file and the environment, and reports all mistakes at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from inference_service.settings import compatibility, environment
from inference_service.settings.problems import SettingsError, from_validation
from inference_service.settings.types import Settings

#: The environment variable that has the text of the settings file, for containers whose root is read-only.
TEXT_VARIABLE = "AI_CONFIG_TEXT"


def load(path: Path | None, environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Read the settings from the YAML file at `path` and from `environ`, which wins.

    Without a path, the variable AI_CONFIG_TEXT has the content of the file; without both, defaults hold.
    Returns the settings and the warnings: one line for each key of the file that has no effect.
    Raises SettingsError with every mistake in both.
    """
    text = environ.get(TEXT_VARIABLE, "")
    return check(_read_yaml(path) if path else _mapping(text, TEXT_VARIABLE), environ)


def check(data: dict[str, Any], environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Validate the settings in `data`, which is modified, and in `environ`; otherwise like `load`."""
    warnings = compatibility.adopt(data)
    variables = environment.overlay(data, environ)
    try:
        return Settings.model_validate(data), warnings
    except ValidationError as error:
        raise from_validation(error, variables) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        return _mapping(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path}: is not UTF-8 text"]) from None


def _mapping(text: str, source: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError([f"{source}: is not YAML: {' '.join(str(error).split())}"]) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SettingsError([f"{source}: expected keys (ai, server), got {type(data).__name__}"])
    # An empty section (`ai:` with everything under it commented out) means its defaults.
    return _without_empty_sections(data)


def _without_empty_sections(data: dict[Any, Any]) -> dict[str, Any]:
    return {
        str(key): _without_empty_sections(value) if isinstance(value, dict) else value
        for key, value in data.items()
        if value is not None
    }
