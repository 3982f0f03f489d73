"""Recognises requests that come back to the node that forwarded them, by HTTP's `Via` (RFC 9110, 7.6.3).

A remote node whose endpoint is its own gateway would forward its requests to itself until they time out.
"""

from inference_service.errors import Loop


def passed_on(via: str, node: str) -> str:
    """The `Via` of a request that `node` forwards, after those of `via`."""
    own = f"1.1 {_pseudonym(node)}"
    return f"{via}, {own}" if via else own


def check(via: str, node: str) -> None:
    """Raise Loop if a request with this `Via` has come from `node`."""
    if _pseudonym(node) in via:
        raise Loop(
            "this request has come back to the node that forwarded it: the node's ai.http.endpoint leads to "
            "its own gateway"
        )


def _pseudonym(node: str) -> str:
    return f"ai-inference-{node}"
