"""What all pages of the fleet share: the stylesheet, the mark, small modules, and the headers of pages."""

from importlib.resources.abc import Traversable
from pathlib import Path

#: Files that every part with pages serves beside its own.
SHARED = Path(__file__).parent / "shared"

#: What a page may load: files of the same server only, so nothing leaves the fleet.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    # An updated node must not be used through the page of its former version.
    "Cache-Control": "no-cache",
}

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def assets(own: Traversable) -> dict[str, tuple[Traversable, str]]:
    """The files that a page loads, from the folder of its own and from the shared one: name -> file, media
    type."""
    return {
        file.name: (file, _TYPES[end])
        for folder in (own, SHARED)
        for file in folder.iterdir()
        if (end := file.name.rpartition(".")[2]) in _TYPES
    }
