"""The API page in a real Chromium: both widths, both schemes, and "Try it out" behind a gateway with keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from infra.gateway.render import Site
from tests.browser.looks import LOOKS, assert_fits_and_is_accessible, opened
from tests.gateway import nginx
from tests.gateway.service_node import service_nodes
from tests.ports import free_port
from tests.service.conftest import Service

KEY = "a-key-0123456789"
INFO = "#?route=get-/api/v1/ai/info"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real gateway with an API key, over one node."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    with service_nodes(1, folder, SERVER__API_KEYS=KEY) as [node]:
        site = Site((node.upstream,), http=free_port(), grpc=free_port(), api_keys=(KEY,), rate_limit=None)
        with nginx.running(site, folder):
            yield f"http://127.0.0.1:{site.http}"


def test_the_page_is_accessible_and_fits(browser: Browser, node: Service) -> None:
    for size, scheme in LOOKS:
        with opened(browser, f"{node.url}/docs", size, scheme) as page:
            expect(page.get_by_text("AI inference service").first).to_be_visible()
            expect(page.get_by_text("Transcribe a recording").first).to_be_visible()
            assert_fits_and_is_accessible(page, size)


@pytest.mark.parametrize("route", ["post-/v1/audio/transcriptions", "post-/api/v1/ai/emotion"])
def test_a_route_with_its_form_is_accessible(browser: Browser, node: Service, route: str) -> None:
    with opened(browser, f"{node.url}/docs#?route={route}", "desk", "dark") as page:
        expect(page.get_by_role("button", name="Execute").first).to_be_visible()
        assert_fits_and_is_accessible(page, "desk")
    with opened(browser, f"{node.url}/docs#?route={route}", "phone") as page:
        expect(page.locator(".request-form-table, .m-table").first).to_be_visible()
        wide = page.locator("td:visible").evaluate_all(
            "(cells) => cells.filter((cell) => cell.getBoundingClientRect().right > innerWidth).length"
        )
        assert wide == 0


def execute(page: Page) -> str:
    """Presses the button of the shown route, and returns the Authorization that was sent; it must be 200."""
    with page.expect_response("**/api/v1/ai/info") as waited:
        page.get_by_role("button", name="Execute").first.click()
    assert waited.value.status == 200
    expect(page.get_by_text("OK (200)").first).to_be_visible()
    return waited.value.request.header_value("Authorization") or ""


def test_try_it_out_sends_the_key_to_the_gateway(browser: Browser, gateway: str) -> None:
    with opened(browser, f"{gateway}/api/v1/ai/docs{INFO}") as page:
        with page.expect_response("**/api/v1/ai/info") as refused:
            page.get_by_role("button", name="Execute").first.click()
        assert refused.value.status == 401
        # The console and the playground keep a key here.
        page.evaluate(f"sessionStorage.setItem('fleet-console-key', '{KEY}')")
        page.reload()
        assert execute(page) == f"Bearer {KEY}"
        # What the gateway does not pass on is not offered.
        expect(page.get_by_text("What this node offers").first).to_be_visible()
        expect(page.get_by_text("Prometheus metrics of the node")).to_have_count(0)


def test_try_it_out_keeps_the_path_that_another_proxy_has_before_the_gateway(
    browser: Browser, gateway: str
) -> None:
    def proxy(route: Route) -> None:
        route.continue_(url=route.request.url.replace("/speech/", "/"))

    context = browser.new_context()
    try:
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.route(f"{gateway}/speech/**", proxy)
        page.add_init_script(f"sessionStorage.setItem('fleet-console-key', '{KEY}')")
        page.goto(f"{gateway}/speech/api/v1/ai/docs{INFO}")
        execute(page)
        assert all(url.startswith((f"{gateway}/speech/", "data:", "blob:")) for url in asked), asked
    finally:
        context.close()
