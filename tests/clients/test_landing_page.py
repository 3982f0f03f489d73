"""The calls that the landing page shows, as they stand there, against a real node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import browser, spoken  # noqa: F401
from tests.browser.looks import opened
from tests.clients.conftest import LONG, RECORDING, Entrance, wrong_words
from tests.console.conftest import Start, console  # noqa: F401


@pytest.fixture
def calls(browser: Browser, console: Start, node: Entrance) -> dict[str, str]:  # noqa: F811
    """What the page's copy button gives for each language, with the address and the key of the node."""
    running = console(1, keys=(node.key,))
    copied: dict[str, str] = {}
    allowed = ["clipboard-read", "clipboard-write"]
    with opened(browser, f"{running.url}/", permissions=allowed) as page:
        expect(page.locator("#key-note")).to_be_visible()
        for language in ("curl", "Python", "JavaScript"):
            page.get_by_role("tab", name=language).click()
            page.get_by_role("button", name="Copy").click()
            expect(page.get_by_role("button", name="Copied")).to_be_visible()
            shown = page.evaluate("navigator.clipboard.readText()")
            assert shown == page.locator("#call").inner_text()
            assert running.url in shown
            copied[language] = shown.replace(running.url, node.url).replace("YOUR_API_KEY", node.key)
            expect(page.get_by_role("button", name="Copy", exact=True)).to_be_visible()
    return copied


def test_the_calls_of_the_landing_page_work_as_they_stand_there(
    calls: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    shutil.copy(RECORDING, tmp_path / "recording.flac")

    def run(language: str, *command: str) -> str:
        done = subprocess.run(
            command,
            input=calls[language],
            cwd=tmp_path,
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=LONG,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert wrong_words(run("Python", sys.executable, "-")) <= 0.1
    assert wrong_words(json.loads(run("curl", "sh"))["text"]) <= 0.1
    client: Path = request.getfixturevalue("javascript")
    # Modules are looked for beside the program.
    (tmp_path / "node_modules").symlink_to(client / "node_modules")
    assert wrong_words(run("JavaScript", "node", "--input-type=module", "-")) <= 0.1
