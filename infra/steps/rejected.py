"""The error for a configuration that the gateway's nginx rejects."""

from __future__ import annotations


class Rejected(Exception):
    """nginx rejects the configuration, and nothing was changed; `str(error)` has nginx's message."""

    def __init__(self, host: str, output: str) -> None:
        super().__init__(
            f"the gateway's nginx ({host}) rejects the configuration; nothing was changed:\n{output.strip()}"
        )
