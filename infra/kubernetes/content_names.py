"""Names that end with the digest of what the object holds: another content is another object.

Pods read settings and configurations at their start. A pod of before that starts anew finds what it had.
"""

import json
import re
from collections.abc import Mapping

from infra.digest import digest, secret_digest

_DIGITS = 10
_ENDING = re.compile(rf"-[0-9a-f]{{{_DIGITS}}}$")


def of_data(base: str, data: Mapping[str, str]) -> str:
    """The name of a ConfigMap with this data."""
    return f"{base}-{digest((), *data.values())[:_DIGITS]}"


def of_secrets(base: str, held: Mapping[str, str]) -> str:
    """The name of a Secret with these values."""
    return f"{base}-{secret_digest(base, json.dumps(held, sort_keys=True))[:_DIGITS]}"


def without(name: str) -> str:
    """The name without the digest; another name as it is."""
    return _ENDING.sub("", name)
