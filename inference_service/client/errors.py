"""Errors of the client; `str(error)` is for its user."""


class ClientError(Exception):
    """The service refused the request or cannot be reached. The text gives the reason."""


class Unavailable(ClientError):
    """No node can answer now. A retry may succeed a little later, on another node."""
