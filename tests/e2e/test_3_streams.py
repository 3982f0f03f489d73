"""Every node is replaced while every kind of request runs at once: short and long HTTP requests, answers
that come as events, and live streams over gRPC and over WebSockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2
import pytest

from inference_service.client.errors import ClientError
from inference_service.client.live import Attempt, StreamOptions, transcribe_live
from inference_service.client.over_grpc import over_grpc
from inference_service.client.over_websocket import over_websocket
from inference_service.client.recording import Recording
from tests.e2e.deployment import API_KEY, Site
from tests.e2e.lab.load import load
from tests.e2e.lab.speech import RATE, tone

#: A second of sound, as a stream sends it.
SECOND = tone(1.0)[44:]


@dataclass
class Talk:
    """A stream in real time that follows the next node when its node stops. `answered` is in milliseconds."""

    attempt: Attempt
    recording: Recording = field(default_factory=lambda: Recording(RATE))
    answered: int = 0
    retries: list[str] = field(default_factory=list)
    failure: ClientError | None = None

    def listen(self) -> None:
        try:
            options = StreamOptions(api_key=API_KEY)
            for update in transcribe_live(self.recording, options, self.attempt, self.retries.append):
                if update.is_final:
                    self.answered += update.result["result_data"]["duration_ms"]
        except ClientError as error:  # the test reports it
            self.failure = error


@contextmanager
def talking(talks: list[Talk]) -> Iterator[None]:
    """Sends sound in real time during the block, then waits for the last results."""
    over = threading.Event()

    def speak(talk: Talk) -> None:
        while not over.is_set():
            talk.recording.append(SECOND)
            time.sleep(1.0)
        talk.recording.finish()

    threads = [
        threading.Thread(target=work) for talk in talks for work in (talk.listen, lambda t=talk: speak(t))
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(120)


def events(site: Site) -> httpx2.Request:
    """A transcription whose answer comes as events."""
    return httpx2.Request(
        "POST",
        f"{site.url}/v1/audio/transcriptions",
        files={"file": ("tone.wav", tone(2.0), "audio/wav")},
        data={"model": "whisper-1", "stream": "true"},
        headers={"Authorization": f"Bearer {API_KEY}"},
    )


def ended(answer: httpx2.Response) -> str | None:
    if answer.status_code == 200 and "transcript.text.done" in answer.text:
        return None
    return f"{answer.status_code} {answer.text[-300:]}"


@pytest.mark.parametrize(
    "parts", [("triton", "service"), pytest.param(("triton",), marks=pytest.mark.long)], ids=" and ".join
)
def test_a_roll_under_every_kind_of_request_at_once_loses_nothing(site: Site, parts: Sequence[str]) -> None:
    site.mark(str(time.time_ns()), parts)
    talks = [
        Talk(over_grpc(f"{site.gateway.address}:9080")),
        Talk(over_grpc(f"{site.gateway.address}:9080")),
        Talk(over_websocket(site.url)),
        Talk(over_websocket(site.url)),
    ]
    with (
        talking(talks),
        load(site.request, rate=10) as short,
        load(lambda: site.request("asr"), rate=0.3) as long,
        load(lambda: events(site), rate=0.3, check=ended) as answers,
    ):
        applied = site.up().check()
    for seen in (short, long, answers):
        print(seen.summary())
        assert len(seen.outcomes) >= 10
        assert not seen.failures, seen.summary()
    for talk in talks:
        sent = talk.recording.seconds_read * 1000
        print(f"{sent:.0f} ms sent, {talk.answered} answered, went on {len(talk.retries)} times")
        assert talk.failure is None
        assert talk.answered == pytest.approx(sent, abs=50)
    assert any(talk.retries for talk in talks), (
        "every node was replaced, so streams had to go on with the other"
    )
    for node in (each["name"] for each in site.config["nodes"]):
        order = [applied.deleted.index(f"{node}-{part}") for part in ("service", "triton")]
        assert order == sorted(order), f"{node}'s Triton ended while its service still worked"
