"""Errors of the client; `str(error)` is for its user."""


class ClientError(Exception):
    """The service refused the request or cannot be reached. The text gives the reason."""


class Unavailable(ClientError):
    """No node can answer now. A retry may succeed a little later, on another node."""


def refusal(url: str, reason: str, status: int) -> ClientError:
    """The error for an HTTP status of the service at `url`."""
    kind = Unavailable if status in (429, 502, 503, 504) else ClientError
    return kind(f"{url}: {reason} (HTTP {status})")
