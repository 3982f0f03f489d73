"""A configuration that the gateway's nginx does not take."""

from __future__ import annotations


class Rejected(Exception):
    """nginx does not take the configuration, and nothing was changed; `str(error)` has its own words."""

    def __init__(self, host: str, output: str) -> None:
        super().__init__(
            f"the gateway's nginx ({host}) does not take the configuration; nothing was changed:\n"
            f"{output.strip()}"
        )
