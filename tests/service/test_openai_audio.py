"""OpenAI's own Python client, unchanged except for its base URL."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import soundfile
from openai import OpenAI

from inference_service.audio import Audio
from inference_service.errors import BadRequest, Busy, NotReady
from inference_service.http.openai import subtitles
from inference_service.runtimes.base import Call
from inference_service.tasks import DetailedTranscript, Segment, TranscribeOptions, Transcript, Word
from inference_service.word_times import on_the_sound
from tests.service.conftest import DoubleRuntime, Service

Serve = Callable[..., Service]


def words(text: str, start: float, each: float = 0.4) -> list[Word]:
    """The words of `text`, in order."""
    return [
        Word(word, start + number * each, start + (number + 1) * each, 0.9)
        for number, word in enumerate(text.split())
    ]


def segment(number: int, text: str, start: float) -> Segment:
    spoken = words(text, start)
    return Segment(number, start, spoken[-1].end, text, -0.25, 0.01, spoken)


SEGMENTS = [
    segment(0, "Ask not what your country can do for you.", 0.5),
    segment(1, "Ask what you can do for your <country>.", 5.25),
]
TEXT = " ".join(part.text for part in SEGMENTS)


class Speech(DoubleRuntime):
    """Answers every recording with the same two sentences, with the times of words if requested."""

    def __init__(self) -> None:
        super().__init__()
        self.segments = SEGMENTS
        self.text = TEXT
        self.fails_from: int | None = None  # the first window that Triton is away for

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        self.audios.append(audio)
        self.options.append(options)
        await self._work(call)
        if self.fails_from is not None and len(self.audios) > self.fails_from:
            raise NotReady("Triton cannot be reached")
        transcript = Transcript(self.text, 0.8, options.language or "en", audio.duration_ms)
        return DetailedTranscript(transcript, self.segments)


@pytest.fixture
def service(serve: Serve) -> Service:
    service = serve()
    service.runtime = service.engine.runtime = Speech()
    return service


@pytest.fixture
def client(service: Service) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=20) as client:
        yield client


def recording(seconds: float = 8.5, format: str = "WAV", rate: int = 16000) -> tuple[str, bytes]:
    """A file as the client takes it: name and content."""
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(round(seconds * rate)) / 9) * 0.3, rate, format=format)
    return f"speech.{format.lower()}", file.getvalue()


def test_json_is_the_default(client: OpenAI, service: Service) -> None:
    found = client.audio.transcriptions.create(
        file=recording(), model="whisper-1", language="en", prompt="Kennedy", temperature=0.2
    )

    assert found.text == TEXT
    assert (found.usage.type, found.usage.seconds) == ("duration", 8.5)
    assert [language.code for language in found.languages] == ["en"]
    assert service.runtime.options == [TranscribeOptions("en", False, "Kennedy", 0.2)]
    assert service.runtime.audios[0].seconds == 8.5


def test_hotwords_and_the_text_before_a_window_can_be_asked_for(client: OpenAI, service: Service) -> None:
    client.audio.transcriptions.create(
        file=recording(70),
        model="asr",
        extra_body={"hotwords": "Kennedy", "condition_on_previous_text": "true"},
    )
    first, *rest = service.runtime.options
    assert {options.hotwords for options in (first, *rest)} == {"Kennedy"}
    assert first.prompt is None
    assert rest
    assert all(options.prompt and options.prompt.endswith(TEXT) for options in rest)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_files_of_the_usual_formats_are_read(client: OpenAI, service: Service, format: str) -> None:
    assert client.audio.transcriptions.create(file=recording(format=format), model="asr").text == TEXT
    assert service.runtime.audios[0].seconds == pytest.approx(8.5, abs=0.1)


def test_text_is_plain(client: OpenAI) -> None:
    found = client.audio.transcriptions.create(file=recording(), model="asr", response_format="text")
    assert found == f"{TEXT}\n"


def test_verbose_json_has_segments(client: OpenAI, service: Service) -> None:
    found = client.audio.transcriptions.create(file=recording(), model="asr", response_format="verbose_json")

    assert (found.text, found.language, found.duration) == (TEXT, "english", 8.5)
    assert (found.usage.type, found.usage.seconds) == ("duration", 8.5)
    assert [(part.start, part.end, part.text) for part in found.segments] == [
        (part.start, pytest.approx(part.end), part.text) for part in SEGMENTS
    ]
    assert found.segments[0].avg_logprob == -0.25
    assert found.segments[0].compression_ratio > 0
    assert found.words is None


def test_verbose_json_has_words_on_request(client: OpenAI) -> None:
    found = client.audio.transcriptions.create(
        file=recording(), model="asr", response_format="verbose_json", timestamp_granularities=["word"]
    )

    assert found.segments is None
    assert [word.word for word in found.words] == TEXT.split()
    assert (found.words[0].start, found.words[0].end) == (0.5, 0.9)


def test_words_and_segments_can_be_had_together(client: OpenAI) -> None:
    found = client.audio.transcriptions.create(
        file=recording(),
        model="asr",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert (len(found.segments), len(found.words)) == (2, len(TEXT.split()))


def test_subrip_falls_on_the_words(client: OpenAI) -> None:
    found = client.audio.transcriptions.create(file=recording(), model="asr", response_format="srt")

    assert found == (
        "1\n00:00:00,500 --> 00:00:04,100\nAsk not what your country can do for you.\n\n"
        "2\n00:00:05,250 --> 00:00:08,450\nAsk what you can do for your <country>.\n\n"
    )


def test_webvtt_falls_on_the_words(client: OpenAI) -> None:
    found = client.audio.transcriptions.create(file=recording(), model="asr", response_format="vtt")

    assert found == (
        "WEBVTT\n\n"
        "00:00:00.500 --> 00:00:04.100\nAsk not what your country can do for you.\n\n"
        "00:00:05.250 --> 00:00:08.450\nAsk what you can do for your &lt;country&gt;.\n\n"
    )


def test_a_stream_brings_the_text_window_by_window(client: OpenAI, service: Service) -> None:
    events = list(
        client.audio.transcriptions.create(file=recording(70), model="gpt-4o-mini-transcribe", stream=True)
    )

    *deltas, done = events
    assert [event.type for event in deltas] == ["transcript.text.delta"] * len(deltas)
    assert len(deltas) >= 3
    assert done.type == "transcript.text.done"
    assert (done.usage.type, done.usage.seconds) == ("duration", 70)
    reached = [event.seconds for event in deltas]  # type: ignore[attr-defined]
    assert reached == sorted(reached)
    assert reached[-1] == pytest.approx(70, abs=1)
    assert [language.code for language in done.languages] == ["en"]
    assert "".join(event.delta for event in deltas) == done.text
    assert sum(audio.frames for audio in service.runtime.audios) == 70 * 16000


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_a_stream_ends_with_the_subtitles_that_a_plain_request_has(client: OpenAI, kind: Any) -> None:
    plain = client.audio.transcriptions.create(file=recording(70), model="asr", response_format=kind)
    stream = client.audio.transcriptions.create(
        file=recording(70), model="asr", response_format=kind, stream=True
    )
    *deltas, done = list(stream)
    assert len(deltas) >= 3
    assert done.text == plain


def test_a_stream_that_cannot_begin_has_the_status_of_its_error(client: OpenAI, service: Service) -> None:
    service.runtime.error = NotReady("Triton cannot be reached")
    with pytest.raises(openai.InternalServerError, match="Triton cannot be reached") as refused:
        client.audio.transcriptions.create(file=recording(), model="asr", stream=True)
    assert refused.value.status_code == 503


def test_an_error_inside_a_stream_reaches_the_client(client: OpenAI, service: Service) -> None:
    service.runtime.fails_from = 1  # type: ignore[attr-defined]
    stream = client.audio.transcriptions.create(file=recording(70), model="asr", stream=True)
    assert next(iter(stream)).type == "transcript.text.delta"
    with pytest.raises(openai.APIError, match="Triton cannot be reached"):
        list(stream)


def test_the_models_are_listed_and_found(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[0] == "asr"
    assert "whisper-1" in names
    for name in ("whisper-1", "gpt-transcribe", "gpt-4o-mini-transcribe-2025-12-15"):
        assert client.models.retrieve(name).id == name
    for unknown in ("gpt-4", "openai/whisper-1", "whisper-1-mini"):
        with pytest.raises(openai.NotFoundError, match="this node has asr, whisper-1") as refused:
            client.models.retrieve(unknown)
        assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("fields", "reason", "param"),
    [
        ({"response_format": "diarized_json"}, "'diarized_json' is not known", "response_format"),
        ({"temperature": 3}, "temperature: 3 is not between 0 and 1", "temperature"),
        ({"language": "??"}, "language: expected a language tag", "language"),
        ({"timestamp_granularities": ["word"]}, "need response_format", "timestamp_granularities"),
        ({"include": ["logprobs"]}, "log probabilities are not returned", "include"),
        ({"known_speaker_names": ["agent"]}, "does not tell speakers apart", "known_speaker_names"),
        ({"languages": ["de", "??"]}, "languages: expected a language tag", "languages"),
        ({"language": "en", "languages": ["de", "fr"]}, "has not the language en", "languages"),
        ({"chunking_strategy": {"type": "server_vad", "threshold": 0.9}}, "threshold cannot be set",
         "chunking_strategy"),
        ({"extra_body": {"diarize": True}}, "does not tell speakers apart", "diarize"),
        ({"extra_body": {"translate": "true"}}, "/v1/audio/translations", "translate"),
        ({"extra_body": {"num_beams": 3}}, "num_beams: is not a field of this route", "num_beams"),
        ({"stream": True, "response_format": "verbose_json"}, "stream: true goes with", "stream"),
        ({"file": ("a.wav", b"RIFF")}, "its 4 bytes do not begin as WAV does", "file"),
        ({"file": ("a.m4a", b"\0\0\0\x1cftypM4A ")}, "its index .moov., without which", "file"),
        ({"file": ("a.webm", b"\x1a\x45\xdf\xa3webm")}, "WebM cannot be read: its data is damaged", "file"),
        ({"file": ("a.wav", b"")}, "audio is empty", None),
    ],
)  # fmt: skip
def test_bad_requests_are_explained(
    client: OpenAI, fields: dict[str, object], reason: str, param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError, match=reason) as caught:
        client.audio.transcriptions.create(**{"file": recording(), "model": "asr", **fields})  # type: ignore[call-overload]
    assert (caught.value.type, caught.value.param) == ("invalid_request_error", param)


def test_the_field_is_named_also_when_the_model_refuses_it(client: OpenAI, service: Service) -> None:
    service.runtime.error = BadRequest("asr: language: the model does not know 'de', only en")
    with pytest.raises(openai.BadRequestError, match="only en") as caught:
        client.audio.transcriptions.create(file=recording(), model="asr", language="de")
    assert caught.value.param == "language"


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"data": {"model": "asr"}, "files": {"other": b"x"}}, "file: is required"),
        ({"files": {"file": b"x"}}, "model: is required"),
        ({"data": {"model": ["asr", "asr"]}, "files": {"file": b"x"}}, "model: is given 2 times"),
        ({"files": [("file", b"x"), ("file", b"y")]}, "file: is given twice"),
        ({"json": {"model": "asr"}}, "Content-Type: expected multipart/form-data"),
    ],
)
def test_forms_that_are_not_complete_are_refused(
    service: Service, form: dict[str, object], reason: str
) -> None:
    answer = httpx2.post(f"{service.url}/v1/audio/transcriptions", **form)  # type: ignore[arg-type]
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]


def test_unknown_models_and_routes_are_not_found(client: OpenAI, service: Service) -> None:
    for name, reason in [("whisper-9", "is unknown"), ("gpt-4o-transcribe-diarize", "tells speakers apart")]:
        with pytest.raises(openai.NotFoundError, match=f"'{name}' {reason}") as refused:
            client.audio.transcriptions.create(file=recording(), model=name)
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    answer = httpx2.get(f"{service.url}/v1/nothing")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")
    answer = httpx2.get(f"{service.url}/v1/audio/transcriptions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")


def test_keys_and_a_full_node_are_reported_as_openai_does(serve: Serve) -> None:
    service = serve(SERVER__API_KEYS="secret")
    with OpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0) as wrong:
        with pytest.raises(openai.AuthenticationError, match="not one that is accepted") as refused:
            wrong.models.list()
        assert refused.value.code == "invalid_api_key"
    with OpenAI(base_url=f"{service.url}/v1", api_key="secret", max_retries=0) as right:
        service.runtime.error = Busy("the node is full", retry_after=7)
        with pytest.raises(openai.InternalServerError, match="the node is full") as busy:
            right.audio.transcriptions.create(file=recording(), model="asr")
        assert (busy.value.status_code, busy.value.response.headers["retry-after"]) == (503, "7")


def test_times_are_not_made_up_where_the_runtime_has_none(client: OpenAI, service: Service) -> None:
    service.runtime.segments = []  # type: ignore[attr-defined]
    for format in ("srt", "vtt", "verbose_json"):
        with pytest.raises(openai.InternalServerError, match="gives no times of words") as caught:
            client.audio.transcriptions.create(file=recording(), model="asr", response_format=format)
        assert caught.value.status_code == 501
    service.runtime.text = ""  # type: ignore[attr-defined]
    silent = client.audio.transcriptions.create(file=recording(), model="asr", response_format="vtt")
    assert silent == "WEBVTT\n\n"


def test_words_after_a_pause_begin_with_their_sound_and_not_with_the_pause() -> None:
    speech = np.random.default_rng(3).normal(0, 0.001, 16000 * 4).astype(np.float32)
    for start, end in [(0.5, 1.0), (3.0, 3.5)]:
        speech[int(start * 16000) : int(end * 16000)] *= 100
    spoken = [Word("before", 0.0, 1.4, 0.9), Word("after", 1.4, 3.5, 0.9), Word("unheard", 3.6, 3.9, 0.9)]

    [found] = on_the_sound([Segment(0, 0.0, 4.0, "", -0.1, 0.0, spoken)], speech, 16000)

    assert [(word.start, word.end) for word in found.words or []] == [
        (pytest.approx(0.44), pytest.approx(1.06)),
        (pytest.approx(2.94), 3.5),
        (3.6, 3.9),
    ]
    assert (found.start, found.end) == (pytest.approx(0.44), 3.9)


def test_cues_are_short_enough_to_be_read() -> None:
    long = " ".join(f"word{number}" for number in range(100))
    cues = subtitles.cues([segment(0, long, 10.0)])

    assert " ".join(cue.text for cue in cues) == long
    for cue in cues:
        assert cue.end - cue.start <= 6.0
        assert len(cue.text) <= 84
    for one, other in itertools.pairwise(cues):
        assert one.end <= other.start


def test_a_cue_does_not_stay_through_a_pause() -> None:
    spoken = [*words("before the pause", 0.0), *words("after it", 9.0)]
    cues = subtitles.cues([Segment(0, 0.0, 10.0, "", -0.1, 0.0, spoken)])
    assert [(cue.start, cue.text) for cue in cues] == [(0.0, "before the pause"), (9.0, "after it")]


def test_times_go_beyond_an_hour() -> None:
    late = Segment(0, 3661.0015, 3662.5, "late", -0.1, 0.0, None)
    assert subtitles.srt([late]).splitlines()[1] == "01:01:01,002 --> 01:01:02,500"
