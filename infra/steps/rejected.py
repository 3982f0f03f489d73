"""What the gateway's nginx says about a configuration that it does not take."""

from __future__ import annotations

from typing import Any


class Rejected(Exception):
    """nginx does not take the configuration, and nothing was changed; `str(error)` has its own words."""

    def __init__(self, declared: dict[str, Any], said: str) -> None:
        where = declared["connection"]["host"]
        super().__init__(
            f"the gateway's nginx ({where}) does not take the configuration; nothing was changed:\n"
            f"{said.strip()}"
        )
