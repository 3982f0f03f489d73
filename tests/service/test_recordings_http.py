"""Recordings over HTTP: the ways in which a client says what they are, and what it is answered."""

from __future__ import annotations

import base64
from collections.abc import Callable

import httpx2
import pytest
from openai import BadRequestError, OpenAI

from tests.service.conftest import Service
from tests.service.recordings import by_libsndfile, silent_film, written


def gsm() -> bytes:
    return by_libsndfile("RAW", "GSM610", rate=8000)


def mulaw() -> bytes:
    return by_libsndfile("RAW", "ULAW", rate=8000)


def m4a() -> bytes:
    return written("ipod", "aac")


def milliseconds(response: httpx2.Response) -> int:
    assert response.status_code == 200, response.text
    heard: int = response.json()["data"]["duration_ms"]
    return heard


@pytest.mark.parametrize(
    ("kind", "query", "make"),
    [
        ("audio/mp4", "", m4a),
        ("audio/webm;codecs=opus", "", lambda: written("webm", "libopus", rate=48000)),
        ("video/mp4", "", lambda: written("mp4", "aac", with_video=True)),
        ("audio/aac", "", lambda: written("adts", "aac")),
        ("audio/amr", "", lambda: written("amr", "libopencore_amrnb", rate=8000)),
        ("audio/x-nobody-knows", "", m4a),  # the content tells
        ("audio/GSM", "", gsm),
        ("audio/PCMU", "", mulaw),
        ("audio/PCMU;rate=8000;channels=1", "", mulaw),
        ("audio/basic", "", mulaw),
        ("audio/basic", "", lambda: by_libsndfile("AU", "ULAW", rate=8000)),
        ("application/octet-stream", "?format=gsm", gsm),
        ("application/octet-stream", "?format=mulaw", mulaw),
        ("application/octet-stream", "", m4a),
    ],
)
def test_a_body_is_heard_by_its_media_type_or_its_query(
    client: httpx2.Client, kind: str, query: str, make: Callable[[], bytes]
) -> None:
    response = client.post(f"/asr{query}", content=make(), headers={"content-type": kind})
    assert milliseconds(response) == pytest.approx(11_000, abs=150)


@pytest.mark.parametrize(("format", "make"), [("gsm", gsm), ("ulaw", mulaw), (None, m4a), ("m4a", m4a)])
def test_the_field_format_names_a_recording_in_json(
    client: httpx2.Client, format: str | None, make: Callable[[], bytes]
) -> None:
    request = {"audio_data": base64.b64encode(make()).decode(), "format": format}
    assert milliseconds(client.post("/asr", json=request)) == pytest.approx(11_000, abs=150)


def test_a_pbx_prompt_that_nobody_named_is_refused_as_what_it_is(client: httpx2.Client) -> None:
    for headers, content in (
        ({"content-type": "application/octet-stream"}, gsm()),
        ({"content-type": "audio/wav"}, gsm()),
    ):
        response = client.post("/asr", content=content, headers=headers)
        assert response.status_code == 400
        assert "it looks like headerless GSM 06.10: send it with format=gsm" in response.json()["message"]


def test_openais_clients_name_a_headerless_file_by_its_ending(service: Service) -> None:
    with OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
        for name, content in (("prompt.gsm", gsm()), ("prompt.ulaw", mulaw()), ("memo.m4a", m4a())):
            client.audio.transcriptions.create(file=(name, content), model="whisper-1")
            assert service.runtime.audios[-1].seconds == pytest.approx(11, abs=0.15)
        with pytest.raises(BadRequestError, match="it looks like headerless GSM") as refused:
            client.audio.transcriptions.create(file=("blob", gsm()), model="whisper-1")
        assert refused.value.param == "file"
        with pytest.raises(BadRequestError, match="MP4 has no audio track; it has video only"):
            client.audio.transcriptions.create(file=("film.mp4", silent_film()), model="whisper-1")
