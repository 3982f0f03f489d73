"""The playground writes subtitles in the browser; they are those of the server's response formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page

from inference_service.http.openai import subtitles
from inference_service.tasks import Segment, Word
from tests.browser.looks import opened
from tests.service.conftest import Service


@pytest.fixture(scope="module")
def page(browser: Browser, counting: Service) -> Iterator[Page]:
    with opened(browser, f"{counting.url}/demo") as page:
        yield page


def segment(number: int, text: str, start: float, each: float = 0.4, words: bool = True) -> Segment:
    spoken = [
        Word(word, round(start + at * each, 3), round(start + (at + 1) * each, 3), 0.9)
        for at, word in enumerate(text.split())
    ]
    return Segment(number, start, spoken[-1].end, text, -0.25, 0.01, spoken if words else None)


LONG = "a rather well-known and state-of-the-art sentence that does not end before a screen is full of it"
CASES = {
    "two sentences": [segment(0, "Ask not what. Ask <b>you</b> & me!", 0.5), segment(1, "Ask, ask.", 5.25)],
    "one long line": [segment(0, LONG, 3599.7, 0.11)],
    "slow": [segment(0, "one two three four five six", 0.0, 2.0)],
    "no words": [segment(0, f" {LONG}", 1.0, words=False), segment(1, "   ok", 9.0, words=False)],
    "the same word twice": [segment(0, "no no no", 0.0), segment(1, "no yes no", 2.0)],
    "no blanks": [segment(0, "国" * 100 + "。", 1.0)],
    "nothing": [],
}


def verbose(segments: list[Segment]) -> dict[str, Any]:
    """The transcript as the server's verbose_json has it."""
    return {
        "text": " ".join(each.text.strip() for each in segments),
        "segments": msgspec.to_builtins(segments),
        "words": [msgspec.to_builtins(word) for each in segments for word in each.words or ()],
    }


@pytest.mark.parametrize("case", CASES)
def test_subtitles_are_those_of_the_server(page: Page, case: str) -> None:
    segments = CASES[case]
    written = page.evaluate(
        """async (transcript) => {
            const {written} = await import("/demo/formats.js");
            return ["srt", "vtt", "txt", "json"].map((format) => written(transcript, format));
        }""",
        verbose(segments),
    )
    assert written[0] == subtitles.srt(segments)
    assert written[1] == subtitles.vtt(segments)
    assert written[2] == verbose(segments)["text"] + "\n"
    assert json.loads(written[3]) == verbose(segments)


@pytest.mark.parametrize(
    ("name", "message", "remedy"),
    [
        ("NotAllowedError", "Permission denied", "Allow it at the left of the address bar"),
        ("NotFoundError", "Requested device not found", "Plug one in"),
        ("NotReadableError", "Could not start audio source", "close that one"),
        ("TypeError", "Failed to fetch", "Check the network"),
        ("TypeError", "NetworkError when attempting to fetch resource.", "Check the network"),
        ("TypeError", "x is undefined", "Reload the page"),
    ],
)
def test_every_error_of_the_browser_has_its_remedy(page: Page, name: str, message: str, remedy: str) -> None:
    told = page.evaluate(
        """async ([name, message]) => {
            const {told} = await import("/demo/errors.js");
            return told(name === "TypeError" ? new TypeError(message) : new DOMException(message, name));
        }""",
        [name, message],
    )
    assert told[0].endswith(".")
    assert remedy in told[1]


@pytest.mark.parametrize("status", [400, 401, 413, 415, 429, 500, 501, 503, 504])
def test_every_refusal_of_the_fleet_has_its_remedy(page: Page, status: int) -> None:
    told = page.evaluate(
        """async (status) => {
            const {told, Refused} = await import("/demo/errors.js");
            return told(new Refused(status, "the reason"));
        }""",
        status,
    )
    assert told[0] == "The reason."
    assert len(told[1]) > 30
