"""Streams of coded audio: what browsers' recorders and telephone systems send, chunk by chunk."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence

import numpy as np
import psutil
import pytest
from websockets.sync.client import connect

from inference_service import audio_formats
from inference_service.audio.mono import Waveform
from inference_service.errors import BadRequest, ServiceError
from inference_service.streaming.coded import CodedDecoder
from tests.service.conftest import Service
from tests.service.recordings import RATE, by_libsndfile, likeness, silent_film, speech, written
from tests.service.streams import pieces

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}


def chrome() -> bytes:
    """What Chrome's MediaRecorder sends: WebM of unknown length with Opus."""
    return written("webm", "libopus", rate=48000, options={"live": "1"})


def safari() -> bytes:
    """What Safari's MediaRecorder sends: fragmented MP4 with AAC."""
    return written("mp4", "aac", rate=48000, options=FRAGMENTED)


def firefox() -> bytes:
    """What Firefox's MediaRecorder sends: Ogg with Opus."""
    return written("ogg", "libopus", rate=48000, options={"page_duration": "200000"})


RECORDERS = [("audio/webm;codecs=opus", chrome), ("audio/mp4", safari), ("audio/ogg; codecs=opus", firefox)]


def decoded(name: str, chunks: Sequence[bytes]) -> list[Waveform]:
    """What each chunk gives, and at last what the end gives. Raises what is wrong with the stream."""

    async def work() -> list[Waveform]:
        kind = audio_formats.named(name)
        assert kind is not None
        decoder = CodedDecoder(kind, RATE)
        try:
            parts = [[part async for part in decoder.decode(chunk)] for chunk in chunks]
            parts.append([part async for part in decoder.finish()])
            decoder.check_whole()
        finally:
            decoder.close()
        waves = [np.concatenate(part) if part else np.empty(0, np.float32) for part in parts]
        assert decoder.received == pytest.approx(sum(map(len, waves)), abs=2)
        return waves

    return asyncio.run(work())


@pytest.mark.parametrize(("name", "record"), RECORDERS)
@pytest.mark.parametrize("size", [97, 4000, 10**7])
def test_what_a_recorder_sends_is_heard_wherever_its_chunks_are_cut(
    name: str, record: object, size: int
) -> None:
    waves = decoded(name, pieces(record(), size))  # type: ignore[operator]
    whole = np.concatenate(waves)
    assert len(whole) / RATE == pytest.approx(11.0, abs=0.15)
    assert likeness(whole, speech()) > 0.97


@pytest.mark.parametrize(("name", "record"), RECORDERS)
def test_audio_comes_with_its_chunk_and_not_at_the_end(name: str, record: object) -> None:
    data = record()  # type: ignore[operator]
    waves = decoded(name, pieces(data, -(-len(data) // 11)))
    lengths = np.cumsum([len(wave) for wave in waves]) / RATE
    # Half of the bytes are half of the speech, apart from the fragment or page that is not whole.
    assert lengths[5] > 4.0


@pytest.mark.parametrize(("name", "record"), RECORDERS)
def test_a_recorder_that_starts_anew_goes_on_in_the_same_stream(name: str, record: object) -> None:
    data = record()  # type: ignore[operator]
    whole = np.concatenate(decoded(name, [*pieces(data, 5000), *pieces(data, 5000)]))
    assert len(whole) / RATE == pytest.approx(22.0, abs=0.3)
    assert likeness(whole[-5 * RATE :], speech(6.0, 11.0)) > 0.9


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("mp3", lambda: written("mp3", "libmp3lame")),
        ("mp3", lambda: written("mp3", "libmp3lame", options={"id3v2_version": "0"})),
        ("aac", lambda: written("adts", "aac")),
        ("flac", lambda: written("flac", "flac")),
        ("mpegts", lambda: written("mpegts", "aac")),
        ("amr", lambda: written("amr", "libopencore_amrnb", rate=8000)),
        ("gsm", lambda: by_libsndfile("RAW", "GSM610", rate=8000)),
        ("audio/webm", safari),  # the content decides
    ],
)
def test_other_formats_are_streamed_whole(name: str, data: object) -> None:
    whole = np.concatenate(decoded(name, pieces(data(), 800)))  # type: ignore[operator]
    assert len(whole) / RATE == pytest.approx(11.0, abs=0.15)
    assert likeness(whole, speech()) > 0.94


@pytest.mark.parametrize(
    ("name", "chunks", "reason"),
    [
        (
            "webm",
            lambda: pieces(chrome(), 5000)[1:],
            "webm was announced, but the stream does not start with",
        ),
        ("webm", lambda: [b"\x1a\x45\xdf\xa3webm"], "WebM cannot be read: its data is damaged or cut short"),
        ("mp4", lambda: pieces(written("ipod", "aac"), 4000), "only fragmented MP4 can.*Send the whole file"),
        ("mp4", lambda: [silent_film()], "only fragmented MP4 can"),
        ("ogg", lambda: [b"MThd" + bytes(2000)], "it starts as MIDI"),
        ("aac", lambda: [bytes(5000)], "AAC cannot be read"),
    ],
)
def test_what_cannot_be_streamed_is_refused_with_the_reason(name: str, chunks: object, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        decoded(name, chunks())  # type: ignore[operator]


def test_no_process_is_left_of_streams_that_are_given_up() -> None:
    async def work() -> None:
        for name, record in RECORDERS * 3:
            kind = audio_formats.named(name)
            assert kind is not None
            decoder = CodedDecoder(kind, RATE)
            async for _ in decoder.decode(record()[:9000]):
                break  # the client leaves in the middle of a chunk
            decoder.close()

    asyncio.run(work())
    for _ in range(1000):
        if not (left := decoding()):
            break
        threading.Event().wait(0.01)
    assert not left


def decoding() -> list[int]:
    """The processes that decode a recording or a stream of this process."""
    (parent,) = (
        child
        for child in psutil.Process().children()
        if "inference_service.audio.decoder_process" in child.cmdline()
    )
    return [child.pid for child in parent.children()]


def test_damaged_streams_are_audio_or_refused() -> None:
    random = np.random.default_rng(1)
    for name, record in RECORDERS:
        data = record()
        for _ in range(10):
            mutated = bytearray(data)
            for at in random.integers(0, 3000, 10):
                mutated[at] = random.integers(256)
            try:
                assert decoded(name, pieces(bytes(mutated), 3000))
            except ServiceError as error:
                assert str(error)


@pytest.mark.parametrize(("name", "record"), RECORDERS)
def test_a_browsers_recording_is_answered_over_the_websocket(
    service: Service, name: str, record: object
) -> None:
    hello = {"format": name, "tasks": ["asr"], "flush_interval_ms": 0}
    with connect(f"ws://127.0.0.1:{service.port}/api/v1/ai/stream", close_timeout=5) as socket:
        socket.send(json.dumps(hello))
        for chunk in pieces(record(), 2000):  # type: ignore[operator]
            socket.send(chunk)
        socket.send('{"type": "end"}')
        messages = [json.loads(message) for message in socket]
    assert [message["type"] for message in messages] == ["ready", "result", "result", "end"]
    seconds = sum(json.loads(message["result_data"])["duration_ms"] for message in messages[1:-1]) / 1000
    assert seconds == pytest.approx(11.0, abs=0.15)


def test_mu_law_of_a_telephone_is_streamed_at_its_own_rate(service: Service) -> None:
    with connect(f"ws://127.0.0.1:{service.port}/api/v1/ai/stream", close_timeout=5) as socket:
        socket.send(json.dumps({"format": "mulaw"}))
        ready = json.loads(socket.recv())
        for chunk in pieces(by_libsndfile("RAW", "ULAW", speech(0, 5, 8000), 8000), 160):
            socket.send(chunk)
        socket.send('{"type": "end"}')
        result, _ = (json.loads(message) for message in socket)
    assert ready["sample_rate"] == 8000
    assert json.loads(result["result_data"])["duration_ms"] == 5000
