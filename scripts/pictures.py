"""`python -m scripts.pictures URL FOLDER`: pictures of a fleet's pages, light and dark, wide and narrow.

Run it against a real stack that has had some requests, so that the console has figures to show.
`docs/pictures/` has six of them; `--documents` writes these alone.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from infra.paths import PACKAGE

RECORDING = PACKAGE / "recordings" / "inaugural-1961.flac"
SIZES = {"wide": (1280, 860), "narrow": (390, 844)}

#: Those of docs/pictures: page, size and scheme.
DOCUMENTS = {
    ("landing", "wide", "light"),
    ("console", "wide", "light"),
    ("console", "wide", "dark"),
    ("playground", "wide", "light"),
    ("playground", "wide", "dark"),
    ("api", "wide", "light"),
}

#: The most that a picture of the documents may have.
_MOST_BYTES = 150_000

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def _landing(page: Page) -> None:
    expect(page.locator("#verdict")).to_contain_text("healthy", timeout=20_000)


def _console(page: Page) -> None:
    expect(page.locator("#charts canvas").first).to_be_visible(timeout=20_000)
    page.wait_for_timeout(5000)  # the charts are drawn every four seconds


def _playground(page: Page) -> None:
    expect(page.locator("#state")).to_have_text("ready", timeout=20_000)
    page.locator("#file").set_input_files(RECORDING)
    expect(page.locator("#state")).to_have_text("done", timeout=60_000)
    page.locator(".word").nth(10).click()
    expect(page.locator(".word[aria-current=true]")).to_be_visible()
    page.get_by_role("button", name="Pause").click()


def _api(page: Page) -> None:
    page.get_by_text("Transcribe a recording").first.wait_for()


#: Each page's path, and what is done before its picture.
PAGES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "landing": ("/", _landing),
    "console": ("/console", _console),
    "playground": ("/demo", _playground),
    "api": ("/api/v1/ai/docs#?route=post-/v1/audio/transcriptions", _api),
}


def take(browser: Browser, url: str, folder: Path, name: str, size: str, scheme: str) -> Path:
    """Take one picture; returns its file."""
    width, height = SIZES[size]
    path, prepare = PAGES[name]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(f"{url}{path}")
    prepare(page)
    file = folder / f"{name}-{scheme}{'' if size == 'wide' else '-narrow'}.png"
    page.screenshot(path=file, full_page=size == "narrow")
    context.close()
    return file


def main() -> int:
    """Take the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.pictures", description=__doc__)
    parser.add_argument("url", help="the gateway's address, as `make up` prints it")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--documents", action="store_true", help="only those of docs/pictures")
    arguments = parser.parse_args()
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        print("no Chromium is installed (Debian: apt install chromium)", file=sys.stderr)
        return 1
    arguments.folder.mkdir(parents=True, exist_ok=True)
    large = False
    # Chromium's sandbox refuses to run as root.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=sandbox)
        for name in PAGES:
            for size in SIZES:
                for scheme in ("light", "dark"):
                    if arguments.documents and (name, size, scheme) not in DOCUMENTS:
                        continue
                    file = take(browser, arguments.url.rstrip("/"), arguments.folder, name, size, scheme)
                    bytes_ = file.stat().st_size
                    print(f"{file}  {bytes_ / 1000:.0f} kB")
                    large |= bytes_ > _MOST_BYTES and (name, size, scheme) in DOCUMENTS
        browser.close()
    if large:
        print(f"a picture of the documents has more than {_MOST_BYTES // 1000} kB", file=sys.stderr)
    return int(large)


if __name__ == "__main__":
    sys.exit(main())
