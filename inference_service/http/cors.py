"""Cross-origin requests of browsers: the CORS headers of answers, preflights, and the Origin of WebSockets.

The service decides, because every way to it ends here: the project's gateway, another site's nginx, and a
node called directly. The gateway repeats the list for what no node answers: its own errors, and preflights.
"""

from collections.abc import Iterable

from litestar.types import Scope

from inference_service.errors import Forbidden
from inference_service.http.body import header
from inference_service.origins import (
    ALLOWED_METHODS,
    EXPOSED_HEADERS,
    PREFLIGHT_SECONDS,
    AllowedOrigins,
    parse_origin,
)

Headers = list[tuple[bytes, bytes]]


class Cors:
    """The pages that may call this service: those of its own origin, and those of the `origins` listed."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._allowed = AllowedOrigins(origins)

    def headers(self, scope: Scope) -> Headers:
        """The headers of every answer, errors included; none where no origin is listed."""
        if not self._allowed:
            return []
        # Without it, a cache would give the answer for one origin, or for none, to another.
        fields: Headers = [] if self._allowed.any else [(b"vary", b"Origin")]
        origin = header(scope, b"origin")
        if origin is not None and origin.decode("latin-1") in self._allowed:
            fields.append((b"access-control-allow-origin", b"*" if self._allowed.any else origin))
            fields.append((b"access-control-expose-headers", EXPOSED_HEADERS.encode("ascii")))
        return fields

    def preflight(self, scope: Scope) -> Headers | None:
        """The headers that allow what a preflight asks for; None if the request is not a preflight.

        Raises Forbidden for a page that may not call. Needs no API key: browsers send none with a preflight.
        """
        if scope.get("method") != "OPTIONS" or header(scope, b"access-control-request-method") is None:
            return None
        origin = header(scope, b"origin")
        if origin is None:
            return None
        self._check(origin)
        fields: Headers = [
            (b"access-control-allow-methods", ALLOWED_METHODS.encode("ascii")),
            (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
        ]
        # Clients add headers of their own (`x-stainless-…` of OpenAI's), so any is allowed.
        if asked := header(scope, b"access-control-request-headers"):
            fields.append((b"access-control-allow-headers", asked))
        return fields

    def check_websocket(self, scope: Scope) -> None:
        """Raises Forbidden for the WebSocket of a page that is neither of this origin nor of a listed one.

        CORS does not bind WebSockets: a browser opens one from any page, and lets it read the answers.
        Clients that are no browsers send no Origin.
        """
        origin = header(scope, b"origin")
        if origin is not None and not _is_own(scope, origin.decode("latin-1")):
            self._check(origin)

    def _check(self, origin: bytes) -> None:
        text = origin.decode("latin-1")
        if text not in self._allowed:
            raise Forbidden(
                f"pages of the origin {text[:100]} may not call this service; its operator lists those that "
                "may (cors.origins in the stack file, server.cors_origins in the service's settings)"
            )


def _is_own(scope: Scope, origin: str) -> bool:
    """Whether the page came from the address that the request goes to.

    A proxy that changes `Host` tells the browser's in X-Forwarded-Host. It may also end TLS, so the scheme is
    not compared.
    """
    scheme = origin.partition("://")[0]
    hosts = [header(scope, b"host"), header(scope, b"x-forwarded-host")]
    called = {f"{scheme}://{host.decode('latin-1').partition(',')[0]}" for host in hosts if host}
    try:
        return parse_origin(origin) in {parse_origin(each) for each in called}
    except ValueError:
        return False
