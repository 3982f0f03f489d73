"""The playground in a real Chromium with a microphone, over a service whose runtime is a double."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, Page, expect

from inference_service.errors import NotReady
from tests.browser.conftest import ELSEWHERE
from tests.browser.counting import CAVEATS, Counting
from tests.browser.looks import assert_fits_and_is_accessible, opened
from tests.service.conftest import Service, settings_in


@contextmanager
def playground(
    browser: Browser, node: Service, *look: str, host: str = "127.0.0.1", **options: Any
) -> Iterator[Page]:
    with opened(browser, f"http://{host}:{node.port}/demo", *look, **options) as page:
        expect(page.locator("#state")).to_have_text("ready")
        yield page


def recording(seconds: float, name: str = "tone.wav") -> dict[str, Any]:
    """A recording as a user's file: a tone that begins with a pause."""
    rate = 16000
    samples = np.sin(np.arange(round(seconds * rate)) / 9) * 0.4
    samples[: rate // 4] = 0
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format="WAV", subtype="PCM_16")
    return {"name": name, "mimeType": "audio/wav", "buffer": content.getvalue()}


def recognise(page: Page, file: dict[str, Any] | Path) -> None:
    page.locator("#file").set_input_files(file)  # type: ignore[arg-type]
    expect(page.locator("#state")).to_have_text("done", timeout=20_000)


def test_the_page_is_finished_and_accessible_before_and_after_a_recording(
    browser: Browser, node: Service
) -> None:
    for size, before, after in (("desk", "light", "dark"), ("phone", "dark", "light")):
        with playground(browser, node, size, before) as page:
            assert_fits_and_is_accessible(page, size)
            page.emulate_media(color_scheme=after)  # type: ignore[arg-type]
            recognise(page, recording(3.2, "a-long-name-of-a-recording-that-a-user-has-2026-11-27-16-37.wav"))
            expect(page.locator(".word")).to_have_count(6)
            expect(page.locator("#figures dt").first).to_have_text("Whole recording in")
            assert_fits_and_is_accessible(page, size)


def test_without_https_the_page_says_why_there_is_no_microphone_and_recordings_work(
    browser: Browser, node: Service
) -> None:
    with playground(browser, node, host=ELSEWHERE) as page:
        assert page.evaluate("[isSecureContext, navigator.mediaDevices === undefined]") == [False, True]
        told = page.locator("#no-microphone")
        expect(told).to_contain_text("browsers give a microphone only to HTTPS pages and to localhost")
        expect(told).to_contain_text("gateway.tls")
        expect(told).to_contain_text(f"ssh -L 8080:{ELSEWHERE}:{node.port} {ELSEWHERE}")
        expect(page.locator("#record")).to_be_disabled()
        expect(page.locator("#record")).to_have_attribute("aria-describedby", "no-microphone")
        assert_fits_and_is_accessible(page, "desk")
        recognise(page, recording(1.2))
        expect(page.locator("#final")).to_have_text("word-1. word-2.")


@pytest.mark.parametrize("mode", ["whole", "live"])
def test_emotion_and_synthetic_speech_have_each_their_card_with_its_caveat(
    browser: Browser, node: Service, mode: str
) -> None:
    with playground(browser, node) as page:
        page.locator(f"[value={mode}]").check()
        recognise(page, recording(1.2))
        expect(page.locator("#emotion .found")).to_have_text("Neutral 75 %")
        expect(page.locator("#emotion .bars li")).to_have_count(2)
        expect(page.locator("#synthesis .found")).to_have_text("Human voice 75 %")
        for role, caveat in CAVEATS.items():
            expect(page.locator(f"#{role} .caveat")).to_have_text(caveat)
            expect(page.locator(f"#{role} .pill")).to_have_text("rule")


def test_a_card_that_is_off_is_not_asked(browser: Browser, node: Service) -> None:
    with playground(browser, node) as page:
        page.get_by_role("checkbox", name="Emotion").uncheck()
        recognise(page, recording(1.2))
        expect(page.locator("#emotion")).to_contain_text("Not asked.")
        expect(page.locator("#synthesis .found")).to_be_visible()


@pytest.mark.parametrize("mode", ["whole", "live"])
def test_the_same_recording_can_be_chosen_twice(browser: Browser, node: Service, mode: str) -> None:
    with playground(browser, node) as page:
        page.locator(f"[value={mode}]").check()
        for count in (1, 2):
            recognise(page, recording(1.2))
            expect(page.locator(".word")).to_have_count(2)
            assert sum(options.word_timestamps for options in node.runtime.options) == count
        page.get_by_role("button", name="Recognise again").click()
        expect(page.locator("#state")).to_have_text("done", timeout=20_000)


def test_an_error_is_red_and_says_what_to_do(browser: Browser, node: Service) -> None:
    for scheme, red in (("light", "rgb(179, 38, 30)"), ("dark", "rgb(255, 138, 128)")):
        with playground(browser, node, "phone", scheme) as page:
            node.runtime.error = NotReady("Triton cannot be reached")
            page.locator("#file").set_input_files(recording(1.2))  # type: ignore[arg-type]
            error = page.locator("#error")
            expect(error).to_contain_text("Triton cannot be reached.")
            expect(error).to_contain_text("the console shows the nodes")
            expect(error).to_have_css("color", red)
            expect(page.locator("#state")).to_have_text("failed")
            expect(page.locator("#emotion .card-error")).to_contain_text("Triton cannot be reached")
            assert_fits_and_is_accessible(page, "phone")
            node.runtime.error = None
            recognise(page, recording(1.2))
            expect(error).to_be_hidden()


def test_a_file_that_is_no_recording_is_refused_with_the_remedy(browser: Browser, node: Service) -> None:
    with playground(browser, node) as page:
        page.locator("#file").set_input_files(  # type: ignore[arg-type]
            {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no sound, only words " * 20}
        )
        expect(page.locator("#error")).to_contain_text("ffmpeg -i FILE")
        expect(page.locator("#no-player")).to_be_visible()


def test_a_live_recording_reaches_the_fleet_sample_by_sample(browser: Browser, node: Service) -> None:
    """Resampled twice, as it was once, a recording lost capitals and commas."""
    with playground(browser, node) as page:
        sent: list[str | bytes] = []
        page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)))
        page.locator("[value=live]").check()
        file = recording(2.3)
        recognise(page, file)
    own, _ = soundfile.read(io.BytesIO(file["buffer"]), dtype="int16")
    received = b"".join(data for data in sent if isinstance(data, bytes))
    assert np.array_equal(np.frombuffer(received, np.int16), own)
    assert json.loads(sent[0])["flush_interval_ms"] == 500


def test_what_is_said_into_the_microphone_follows_within_two_seconds(browser: Browser, node: Service) -> None:
    with playground(browser, node) as page:
        page.locator("#record").click()
        expect(page.locator("#state")).to_have_text("listening")
        expect(page.locator("#level")).to_be_visible()
        begin = time.monotonic()
        for seconds in (3, 4, 5):
            page.wait_for_timeout(1000 * max(0.0, begin + seconds - time.monotonic()))
            heard = page.locator("#words").inner_text().count("word-")
            assert heard >= (time.monotonic() - begin - 2) * 2 - 1
        assert_fits_and_is_accessible(page, "desk")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#state")).to_have_text("done", timeout=20_000)
        expect(page.locator("#figures")).to_contain_text("Text follows speech by")
        expect(page.locator("#name")).to_have_text("recording.wav")
        assert page.locator(".word").count() >= 9
    # What was played to the microphone is what the fleet got: not silence.
    assert np.abs(node.runtime.audios[-1].samples).max() > 0.1


def test_words_follow_the_playback_and_lead_to_their_place(browser: Browser, node: Service) -> None:
    with playground(browser, node) as page:
        recognise(page, recording(25.2))
        page.get_by_role("button", name="word-5.", exact=True).click()
        current = page.locator(".word[aria-current=true]")
        # It plays on, a word a second.
        expect(current).to_have_text(re.compile(r"^word-([7-9]|1\d)\.$"), timeout=10_000)
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("button", name="word-2.", exact=True).focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.textContent") == "word-3."
        page.keyboard.press("Home")
        page.keyboard.press("Enter")
        expect(current).to_have_text(re.compile(r"^word-[1-6]\.$"))
        # All words are one stop of the Tab key.
        assert page.locator(".word[tabindex='0']").count() == 1
        page.locator("#wave").focus()
        page.keyboard.press("End")
        expect(page.locator("#clock")).to_have_text("0:25 / 0:25")


def test_the_menu_has_the_languages_of_the_nodes_model(browser: Browser, node: Service) -> None:
    with playground(browser, node) as page:
        options = page.get_by_label("Language").locator("option").all_inner_texts()
        assert options == ["Detect", "English", "French", "German"]
        page.get_by_label("Language").select_option("German")
        recognise(page, recording(1.2))
        expect(page.locator("#figures")).to_contain_text("as you chose")
    assert node.runtime.options[-1].language == "de"


def test_a_dropped_file_is_recognised_and_can_be_stopped(browser: Browser, node: Service) -> None:
    with playground(browser, node) as page:
        node.runtime.hold = True
        data = list(recording(1.2)["buffer"])
        dropped = page.evaluate_handle(
            """(data) => {
                const dropped = new DataTransfer();
                dropped.items.add(new File([new Uint8Array(data)], "dropped.wav", {type: "audio/wav"}));
                return dropped;
            }""",
            data,
        )
        page.locator("#drop").dispatch_event("drop", {"dataTransfer": dropped})
        expect(page.locator("#name")).to_have_text("dropped.wav")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#state")).to_have_text("stopped")
        node.runtime.hold = False
        page.get_by_role("button", name="Recognise again").click()
        expect(page.locator(".word")).to_have_count(2)


def test_downloads_have_the_recordings_name_and_copies_the_shown_text(
    browser: Browser, node: Service
) -> None:
    node.runtime.is_timed = False  # type: ignore[attr-defined]
    with playground(browser, node, permissions=["clipboard-read", "clipboard-write"]) as page:
        recognise(page, recording(1.2, "talk.one.wav"))
        page.get_by_role("button", name="Copy").click()
        expect(page.locator("#news")).to_have_text("The text is in the clipboard.")
        assert page.evaluate("navigator.clipboard.readText()") == "word-1. word-2.\n"
        for tab, ending in (("Text", "txt"), ("JSON", "json")):
            page.get_by_role("tab", name=tab).click()
            with page.expect_download() as download:
                page.get_by_role("link", name="Download").click()
            assert download.value.suggested_filename == f"talk.one.{ending}"
        assert json.loads(download.value.path().read_text())["text"] == "word-1. word-2."
        # A model without times gives no subtitles, and the page says so.
        page.get_by_role("tab", name="SRT").click()
        expect(page.locator("#formatted")).to_contain_text("no subtitles")
        expect(page.locator("#download")).to_be_hidden()


def test_a_fleet_with_keys_asks_for_one_and_streams_with_it(browser: Browser, tmp_path: Path) -> None:
    guarded = Service(settings_in(tmp_path, SERVER__API_KEYS="a-key-0123456789"), Counting())
    guarded.start()
    try:
        with opened(browser, f"{guarded.url}/demo", "phone") as page:
            # A password of the console is no key of the API: nobody typed it here, and the console keeps it.
            page.evaluate("sessionStorage.setItem('fleet-console-key', 'a-password')")
            page.reload()
            expect(page.locator("#key-form")).to_be_visible()
            expect(page.locator("#key-error")).to_be_hidden()
            assert page.evaluate("sessionStorage.getItem('fleet-console-key')") == "a-password"
            page.get_by_label("API key").fill("wrong-key-000")
            page.get_by_role("button", name="Open").click()
            expect(page.locator("#key-error")).to_be_visible()
            assert_fits_and_is_accessible(page, "phone")
            page.get_by_label("API key").fill("a-key-0123456789")
            page.get_by_role("button", name="Open").click()
            expect(page.locator("#state")).to_have_text("ready")
            page.locator("[value=live]").check()
            recognise(page, recording(1.2))
            expect(page.locator("#final")).to_have_text("word-1. word-2.")
    finally:
        guarded.stop()
