"""The documentation's site in a real browser: it is searched from a folder, and asks nobody."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from infra.paths import PROJECT

SITE = PROJECT / "site"


@pytest.mark.skipif(
    not (SITE / "index.html").is_file(), reason="make docs builds the site that this test opens"
)
def test_the_site_is_searched_from_a_folder_and_asks_nobody(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{SITE.as_uri()}/docs/deploy.html")
    page.get_by_role("button", name="Search").first.click()
    page.keyboard.type("rollout canary")
    page.get_by_role("link", name="A bad canary").wait_for()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
