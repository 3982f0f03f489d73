"""How a page is looked at: both widths, both schemes, axe-core, and nothing that comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
LOOKS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]


@contextmanager
def opened(
    browser: Browser, url: str, size: str = "desk", scheme: str = "light", **options: Any
) -> Iterator[Page]:
    """A page; at its end, no request has left its origin and no error was thrown."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
        **options,
    )
    page = context.new_page()
    own = (f"http://{urlsplit(url).netloc}/", f"ws://{urlsplit(url).netloc}/", "data:", "blob:")
    foreign: list[str] = []
    faults: list[str] = []
    page.on("request", lambda asked: None if asked.url.startswith(own) else foreign.append(asked.url))
    page.on("websocket", lambda asked: None if asked.url.startswith(own) else foreign.append(asked.url))
    page.on("pageerror", lambda error: faults.append(f"{error}\n{error.stack}"))
    try:
        page.goto(url)
        yield page
    finally:
        context.close()
    assert foreign == []
    assert not faults, "\n".join(faults)


def assert_fits_and_is_accessible(page: Page, size: str) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
