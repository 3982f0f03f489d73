"""The recording that the doctor sends to nodes and to the gateway."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import pytest

from infra.doctor.checks import service
from infra.doctor.findings import Outcome, Status
from infra.doctor.web import Answer, HttpServer

pytestmark = pytest.mark.fast


class SlowServer:
    """A service that takes as many seconds for each transcript as `delays` says, one after the other."""

    def __init__(self, *delays: float, text: str = "ask not") -> None:
        self.delays = list(delays)
        self.text = text

    async def request(self, *_arguments: object, **_options: object) -> Answer:
        await asyncio.sleep(self.delays.pop(0))
        return Answer(200, json.dumps({"data": {"text": self.text}}).encode())


def transcribe(server: SlowServer) -> Outcome:
    return asyncio.run(service.transcribe(cast(HttpServer, server), None))


@pytest.fixture(autouse=True)
def _short_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SPOKEN_SECONDS", 0.05)
    monkeypatch.setattr(service, "spoken", lambda: b"fLaC")


def test_an_answer_that_was_slow_once_is_no_finding() -> None:
    server = SlowServer(0.2, 0)
    assert transcribe(server).status is Status.OK
    assert not server.delays, "the doctor did not ask again"


def test_an_answer_that_is_slow_twice_is_a_warning_with_its_time() -> None:
    outcome = transcribe(SlowServer(0.2, 0.2))
    assert outcome.status is Status.WARNING
    assert "more than twice as long as it was spoken" in outcome.seen


def test_an_answer_without_a_word_is_a_warning() -> None:
    outcome = transcribe(SlowServer(0, text=""))
    assert outcome.status is Status.WARNING
    assert "no word in a recording of speech" in outcome.seen
    assert "check ai.models.asr and the model's language" in outcome.remedy


def test_a_quick_answer_is_measured_once() -> None:
    server = SlowServer(0, 0)
    assert transcribe(server).status is Status.OK
    assert len(server.delays) == 1
