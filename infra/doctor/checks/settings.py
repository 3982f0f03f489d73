"""What a settings file has that the stack does not declare, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


def keys(text: str) -> dict[str, Any]:
    """The keys that the text of a settings file has; none when it is no YAML, as the service says."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}


def setting_differences(declared: Mapping[str, Any], in_use: Mapping[str, Any], path: str = "") -> list[str]:
    """The keys by which two settings files differ; values that may be secret are not shown."""
    said = []
    for key in sorted(declared.keys() | in_use.keys()):
        at = f"{path}.{key}" if path else key
        mine, theirs = declared.get(key), in_use.get(key)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            said += setting_differences(mine, theirs, at)
        elif mine != theirs:
            shown = (
                "" if any(word in at for word in ("key", "token")) else f": {theirs!r}, declared is {mine!r}"
            )
            said.append(f"its settings differ in {at}{shown}")
    return said
