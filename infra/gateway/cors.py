"""What nginx's configuration says of pages of other origins."""

from typing import Any

from inference_service.origins import (
    ALLOWED_METHODS,
    ANY,
    EXPOSED_HEADERS,
    PREFLIGHT_SECONDS,
    origin_pattern,
)


def cors_values(origins: tuple[str, ...]) -> dict[str, Any] | None:
    """What the templates need to let pages of `origins` read nginx's own answers."""
    if not origins:
        return None
    return {
        "any": ANY in origins,
        "patterns": [origin_pattern(origin) for origin in origins],
        "methods": ALLOWED_METHODS,
        "exposed": EXPOSED_HEADERS,
        "seconds": PREFLIGHT_SECONDS,
    }
