"""The limits of a site as the templates need them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.gateway.render import Site

_HALF_OF_A_SMALL_FLEET = 5


def tries(site: Site) -> int:
    """How many nodes that answer 503 a request may come to: more than stop at once or half of a small fleet.

    No more, because each costs a full fleet work.
    """
    serving = sum(not server.drained for server in site.servers)
    return max(2, site.at_once + 1, min(serving // 2 + 1, _HALF_OF_A_SMALL_FLEET))


def too_many(site: Site) -> str:
    """The message of a 429."""
    allowed = []
    if site.rate_limit:
        allowed.append(f"{site.rate_limit.rate}")
    if site.connection_limit:
        allowed.append(f"{site.connection_limit} at the same time")
    of = "API key" if site.api_keys else "address"
    if not allowed:
        return "too many requests"
    return f"too many requests: {' and '.join(allowed)} are allowed for each {of}"
