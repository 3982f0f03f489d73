"""Origins of the web pages that may call the API from a browser, as the service and nginx match them.

An origin is what browsers send in the header `Origin`: `https://app.example.com`, with the port unless it is
the scheme's own.
"""

import re
from collections.abc import Iterable

#: Every page of every origin.
ANY = "*"

#: What browsers send for pages without an origin of their own: files on the disk, sandboxed frames.
NULL = "null"

#: What a listed page may send and read: for the service's answers and for those of the gateway's nginx.
ALLOWED_METHODS = "GET, HEAD, POST"
EXPOSED_HEADERS = "X-Request-ID, Retry-After"

#: Seconds for which a browser need not ask again. Chromium keeps an answer for no longer.
PREFLIGHT_SECONDS = 7200

_EXPECTED = (
    "expected scheme://host[:port] such as https://app.example.com, https://*.example.com (every host below "
    'it), http://localhost:* (every port), "*" (every page) or "null" (pages without an origin)'
)
_HOST = r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\]"
_PAGE = rf"([A-Za-z][A-Za-z0-9+.-]*)://((\*\.)?({_HOST}))(:(\*|[0-9]{{1,5}}))?"

#: What `parse_origin` takes, for JSON Schema.
ORIGIN_PATTERN = rf"^(\*|null|{_PAGE})$"

_OWN_PORTS = {"http": "80", "https": "443"}


def parse_origin(text: str) -> str:
    """Return the origin as browsers write it: in lower case, without the scheme's own port.

    Takes `*`, `null` and the wildcards `*.` for hosts and `:*` for ports too. Raises ValueError.
    """
    if text in (ANY, NULL):
        return text
    match = re.fullmatch(_PAGE, text)
    if match is None or (match[7] not in (None, "*") and not 0 < int(match[7]) < 65536):
        raise ValueError(f'{_EXPECTED}, got "{text}"')
    scheme, host, port = match[1].lower(), match[2].lower(), match[7]
    own = port is None or port == _OWN_PORTS.get(scheme)
    return f"{scheme}://{host}" if own else f"{scheme}://{host}:{port}"


def origin_pattern(origin: str) -> str:
    """Return a regular expression for the header's whole value; `origin` comes from `parse_origin`.

    Python and nginx read it alike, and nothing in it ends a quoted word of nginx.
    """
    if origin == ANY:
        return "^.+$"
    pattern = re.sub(r"[.+\[\]]", r"\\\g<0>", origin).replace("://*", "://[a-z0-9_.-]+")
    if pattern.endswith(":*"):
        pattern = f"{pattern.removesuffix(':*')}(:[0-9]+)?"
    return f"^{pattern}$"


class AllowedOrigins:
    """The origins that a site lists, each from `parse_origin`."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = tuple(origins)
        self._patterns = [re.compile(origin_pattern(origin)) for origin in self._origins]

    def __bool__(self) -> bool:
        return bool(self._origins)

    @property
    def any(self) -> bool:
        """Whether every page may call, so that the answer does not depend on the origin."""
        return ANY in self._origins

    def __contains__(self, origin: str) -> bool:
        return any(pattern.fullmatch(origin) for pattern in self._patterns)
