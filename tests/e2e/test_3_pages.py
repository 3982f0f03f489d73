"""The pages that a browser opens at the gateway: landing page, console, playground and API page."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import RECORDING, browser, spoken  # noqa: F401
from tests.browser.looks import assert_fits_and_is_accessible, opened
from tests.browser.test_api_page import INFO, execute
from tests.e2e.deployment import API_KEY, Site
from tests.e2e.lab.host import Host, wait_until
from tests.e2e.test_9_documents import WORDS
from tests.ports import free_port

pytestmark = pytest.mark.long

#: The laboratory's nodes share two cores.
_ANSWER = 90_000


@contextmanager
def page_at(browser: Browser, url: str, *look: str) -> Iterator[Page]:  # noqa: F811
    """A page behind API keys, which a user has opened with one."""
    with opened(browser, url, *look) as page:
        page.get_by_label("API key").fill(API_KEY)
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#key-form")).to_be_hidden(timeout=20_000)
        yield page


def test_the_console_shows_the_nodes_with_live_figures_and_their_logs(
    site: Site,
    browser: Browser,  # noqa: F811
) -> None:
    with opened(browser, f"{site.url}/") as page:
        expect(page.locator("#verdict")).to_have_text("healthy, 2 nodes", timeout=20_000)
        expect(page.locator("#call")).to_contain_text("YOUR_API_KEY")
        assert_fits_and_is_accessible(page, "desk")
        page.get_by_role("link", name="Console").first.click()
        expect(page.get_by_label("API key")).to_be_visible(timeout=20_000)
    with opened(browser, f"{site.url}/console") as page:
        page.get_by_label("API key").fill("wrong-key-0123456")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#key-error")).to_be_visible(timeout=20_000)
        expect(page.locator("#fleet")).to_be_hidden()
    for size, scheme in (("desk", "light"), ("phone", "dark")):
        with page_at(browser, f"{site.url}/console", size, scheme) as page:
            expect(page.locator("#verdict")).to_have_text("all nodes healthy", timeout=20_000)
            rows = page.locator("#rows tr")
            expect(rows).to_have_count(2)
            for _ in range(10):
                site.ask()
            for name in ("gpu-1", "gpu-2"):
                row = rows.filter(has_text=name)
                expect(row).to_contain_text(re.compile(r"\d ms"), timeout=30_000)
            assert_fits_and_is_accessible(page, size)
            page.get_by_role("link", name="gpu-2").click()
            expect(page.locator("#facts")).to_contain_text("asr: asr ", timeout=20_000)
            # The log tail is that of the service: it names the requests that came just now.
            expect(page.locator("#log")).to_contain_text("/api/v1/ai/emotion", timeout=20_000)
            expect(page.locator("#charts canvas").first).to_be_visible(timeout=20_000)
            assert_fits_and_is_accessible(page, size)


def test_an_open_console_page_turns_red_within_five_seconds_and_green_again(
    site: Site,
    browser: Browser,  # noqa: F811
) -> None:
    host = site.fleet.hosts["gpu-1"]
    with page_at(browser, f"{site.url}/console") as page:
        state = page.locator("#rows tr").filter(has_text="gpu-1").locator(".pill")
        expect(state).to_have_text("healthy", timeout=20_000)
        host.docker("kill", "e2e-gpu-1-service")
        begun = time.monotonic()
        expect(state).to_have_text("down", timeout=20_000)
        red = time.monotonic() - begun
        expect(page.locator("#verdict")).to_have_text("1 of 2 nodes healthy")
        expect(page.locator("#news")).to_have_text("gpu-1 is down")
        host.docker("start", "e2e-gpu-1-service")
        wait_until("the node is healthy", lambda: site.healthy(host), 60)
        begun = time.monotonic()
        expect(state).to_have_text("healthy", timeout=20_000)
        green = time.monotonic() - begun
        print(f"red after {red:.1f} s, green after {green:.1f} s")
        assert red < 5 and green < 5


def test_an_open_page_says_that_the_console_is_away_and_goes_on_when_it_returns(
    site: Site,
    browser: Browser,  # noqa: F811
) -> None:
    with page_at(browser, f"{site.url}/console") as page:
        expect(page.locator("#verdict")).to_have_text("all nodes healthy", timeout=20_000)
        site.gateway.docker("kill", "e2e-console")
        expect(page.locator("#lost")).to_contain_text("The console does not answer", timeout=10_000)
        assert_fits_and_is_accessible(page, "desk")
        site.gateway.docker("start", "e2e-console")
        expect(page.locator("#lost")).to_be_hidden(timeout=30_000)
        expect(page.locator("#verdict")).to_have_text("all nodes healthy", timeout=20_000)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def tunnel(site: Site, host: Host, told: str) -> Iterator[str]:
    """The command that the playground prints, with the operator's keys and a free port. Returns the URL."""
    command = re.search(r"ssh -L 8080:(\S+) (\S+?),", told)
    assert command is not None and command[2] == host.address, told
    port = free_port()
    ssh = ["ssh", "-F", str(site.fleet.operator.config), "-N", "-o", "ExitOnForwardFailure=yes"]
    running = subprocess.Popen([*ssh, "-L", f"{port}:{command[1]}", f"root@{command[2]}"])
    try:
        url = f"http://localhost:{port}"
        wait_until("the tunnel is there", lambda: listens(port), 30)
        site.ask(url=url)
        yield url
    finally:
        running.terminate()
        running.wait(10)


def test_the_playground_hears_a_recording_and_by_the_tunnel_that_it_prints_the_microphone(
    site: Site,
    browser: Browser,  # noqa: F811
) -> None:
    for size, scheme, mode in (("phone", "dark", "whole"), ("desk", "light", "live")):
        with page_at(browser, f"{site.url}/demo", size, scheme) as page:
            expect(page.locator("#state")).to_have_text("ready", timeout=20_000)
            told = page.locator("#no-microphone").inner_text()
            page.locator(f"[value={mode}]").check()
            page.locator("#file").set_input_files(RECORDING)
            expect(page.locator("#state")).to_have_text("done", timeout=_ANSWER)
            expect(page.locator("#final")).to_contain_text(WORDS)
            expect(page.locator("#emotion .found")).to_be_visible()
            expect(page.locator("#synthesis .found")).to_be_visible()
            assert page.locator(".word").count() > 10
            print(mode, page.locator("#figures").inner_text().replace("\n", " "))
            assert_fits_and_is_accessible(page, size)
    with tunnel(site, site.gateway, told) as url, page_at(browser, f"{url}/demo") as page:
        expect(page.locator("#state")).to_have_text("ready", timeout=20_000)
        expect(page.locator("#no-microphone")).to_be_hidden()
        page.locator("#record").click()
        expect(page.locator("#state")).to_have_text("listening", timeout=20_000)
        expect(page.locator("#words")).to_contain_text(re.compile(r"\w"), timeout=_ANSWER)
        page.wait_for_timeout(8_000)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#state")).to_have_text("done", timeout=_ANSWER)
        expect(page.locator("#final")).to_contain_text(re.compile("your country", re.IGNORECASE))
        expect(page.locator("#figures")).to_contain_text("Text follows speech by")
        print("microphone", page.locator("#figures").inner_text().replace("\n", " "))


def test_the_api_page_tries_a_route_through_the_gateway(
    site: Site,
    browser: Browser,  # noqa: F811
) -> None:
    with opened(browser, f"{site.url}/api/v1/ai/docs{INFO}") as page:
        page.evaluate(f"sessionStorage.setItem('fleet-console-key', '{API_KEY}')")
        page.reload()
        assert execute(page) == f"Bearer {API_KEY}"
