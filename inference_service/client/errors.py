"""What can go wrong for a client; `str(error)` is for its user."""

from __future__ import annotations


class ClientError(Exception):
    """The service refused, or cannot be reached: the reason, and what to do where that is known."""


class Unavailable(ClientError):
    """No node can answer now; the same may succeed a little later, on another node."""
