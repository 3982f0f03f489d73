"""Errors of the client; `str(error)` is for its user."""


class ClientError(Exception):
    """The recording cannot be read, or the service refused it. The text gives the reason."""


class Unavailable(ClientError):
    """No node can answer now. A retry may succeed a little later, on another node."""


class Unreachable(Unavailable):
    """Nothing answers at the address."""


def refusal(url: str, reason: str, status: int) -> ClientError:
    """The error for an HTTP status of the service at `url`."""
    kind = Unavailable if status in (429, 502, 503, 504) else ClientError
    return kind(f"{url}: {reason} (HTTP {status})")
