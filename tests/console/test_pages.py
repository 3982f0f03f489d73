"""The pages in a real Chromium: both widths, both schemes, and from no node to fifty."""

from __future__ import annotations

import signal

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.looks import LOOKS, assert_fits_and_is_accessible, opened
from tests.console.conftest import Start


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_the_console_is_finished_and_accessible_with_every_number_of_nodes(
    browser: Browser, console: Start, count: int
) -> None:
    running = console(count)
    for size, scheme in LOOKS:
        with opened(browser, f"{running.url}/console", size, scheme) as page:
            expect(page.locator("#verdict")).to_have_text(
                "all nodes healthy" if count else "no node takes requests", timeout=20_000
            )
            expect(page.locator("#rows tr")).to_have_count(count)
            assert_fits_and_is_accessible(page, size)


def test_the_landing_page_tells_the_health_and_calls(browser: Browser, console: Start) -> None:
    running = console(2)
    running.wait(lambda fleet: all(node["health"] == "healthy" for node in fleet["nodes"]))
    for size, scheme in LOOKS:
        with opened(browser, f"{running.url}/", size, scheme) as page:
            expect(page.locator("#verdict")).to_have_text("healthy, 2 nodes")
            expect(page.locator("#call")).to_contain_text(f"{running.url}/v1/audio/transcriptions")
            page.get_by_role("tab", name="curl").press("ArrowRight")
            expect(page.locator("#call")).to_contain_text(f'base_url="{running.url}/v1"')
            assert_fits_and_is_accessible(page, size)


def test_a_killed_node_turns_red_and_green_again(browser: Browser, console: Start) -> None:
    running = console(2)
    with opened(browser, f"{running.url}/console", "desk", "light") as page:
        state = page.locator("#rows tr").nth(1).locator(".pill")
        expect(state).to_have_text("healthy", timeout=20_000)
        running.nodes["gpu-2"].close()
        expect(state).to_have_text("down", timeout=8_000)
        expect(state).to_have_class("pill bad")
        expect(page.locator("#verdict")).to_have_text("1 of 2 nodes healthy")
        expect(page.locator("#news")).to_have_text("gpu-2 is down")
        running.nodes["gpu-2"].open()
        expect(state).to_have_text("healthy", timeout=8_000)


def test_a_nodes_page_has_its_facts_charts_and_log(browser: Browser, console: Start) -> None:
    running = console(2)
    with opened(browser, f"{running.url}/console", "phone", "dark") as page:
        page.get_by_role("link", name="gpu-2").click(timeout=20_000)
        expect(page.locator("#node-title")).to_have_text("gpu-2")
        expect(page.locator("#facts")).to_contain_text("asr: whisper-base abc123")
        expect(page.locator("#findings")).to_contain_text("nothing wrong with this node")
        expect(page.locator("#facts")).to_contain_text("Last change")
        # A log is text, whatever is in it.
        expect(page.locator("#log")).to_have_text("first line\nsecond <b>line</b>")
        expect(page.locator("#charts canvas").first).to_be_visible(timeout=20_000)
        assert_fits_and_is_accessible(page, "phone")
        running.nodes["gpu-2"].close()
        expect(page.locator("#findings")).to_contain_text("It stopped answering once", timeout=15_000)
        running.nodes["gpu-2"].open()
        page.get_by_role("link", name="All nodes").click()
        expect(page.locator("#rows tr")).to_have_count(2)


def test_a_fleet_with_keys_asks_for_one(browser: Browser, console: Start) -> None:
    running = console(1, keys=("a-key-0123456789",))
    with opened(browser, f"{running.url}/console", "desk", "light") as page:
        page.get_by_label("API key").fill("wrong-key-000")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#key-error")).to_be_visible()
        assert_fits_and_is_accessible(page, "desk")
        page.get_by_label("API key").fill("a-key-0123456789")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#verdict")).to_have_text("all nodes healthy", timeout=20_000)


def test_a_console_that_is_gone_says_so_and_recovers_by_itself(browser: Browser, console: Start) -> None:
    running = console(1)
    with opened(browser, f"{running.url}/console", "desk", "light") as page:
        expect(page.locator("#verdict")).to_have_text("all nodes healthy", timeout=20_000)
        running.process.send_signal(signal.SIGSTOP)
        expect(page.locator("#lost")).to_be_visible(timeout=15_000)
        running.process.send_signal(signal.SIGCONT)
        expect(page.locator("#lost")).to_be_hidden(timeout=15_000)
