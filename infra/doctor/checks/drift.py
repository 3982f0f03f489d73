"""The differences between the settings that a service uses and those that the stack declares."""

from collections.abc import Mapping
from typing import Any


def setting_differences(declared: Mapping[str, Any], in_use: Mapping[str, Any], path: str = "") -> list[str]:
    """A line for each key that differs. Values that may be secret are not shown."""
    differences = []
    for key in sorted(declared.keys() | in_use.keys()):
        at = f"{path}.{key}" if path else key
        wanted, actual = declared.get(key), in_use.get(key)
        if isinstance(wanted, dict) and isinstance(actual, dict):
            differences += setting_differences(wanted, actual, at)
        elif wanted != actual:
            secret = any(word in at for word in ("key", "token"))
            values = "" if secret else f": {actual!r}, declared is {wanted!r}"
            differences.append(f"its settings differ in {at}{values}")
    return differences
