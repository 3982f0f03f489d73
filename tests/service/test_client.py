"""The command-line client against a running service."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from inference_service.client import AudioFile, ClientError, Recording, Update, ask, transcribe_live
from inference_service.client import __main__ as command_line
from inference_service.client.errors import Unavailable
from inference_service.client.live import StreamOptions
from inference_service.client.over_grpc import over_grpc
from inference_service.client.over_websocket import over_websocket
from inference_service.client.sources import from_file, from_pipe
from inference_service.engine import Engine
from inference_service.errors import Busy
from inference_service.grpc_api import server
from inference_service.model_cards import ModelDescription, ModelRole
from inference_service.settings import Settings
from inference_service.tasks import ModelKind
from tests.ports import free_port
from tests.service.conftest import DoubleRuntime, Service
from tests.service.recordings import by_libsndfile, written
from tests.service.recordings import speech as spoken
from tests.service.streams import tone

SECONDS = 3.0
OPTIONS = StreamOptions()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Three seconds of stereo at 22050 Hz."""
    path = tmp_path / "speech.flac"
    soundfile.write(path, np.zeros((round(22050 * SECONDS), 2)), 22050)
    return path


@pytest.fixture
def grpc_address(settings: Callable[..., Settings]) -> Iterator[str]:
    """`host:port` of a gRPC server in another thread."""
    port = free_port()
    engine = Engine(settings(SERVER__HOST="127.0.0.1", SERVER__GRPC_PORT=str(port)), DoubleRuntime())
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with server.serve(engine):
            started.set()
            await stop.wait()
        await engine.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(5)
    yield f"127.0.0.1:{port}"
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    assert not thread.is_alive()


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object
) -> tuple[int, str, str]:
    """The exit status, the output and the errors of `speech` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["speech", *map(str, words)])
    status = command_line.main()
    output, errors = capsys.readouterr()
    return status, output, errors


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def speech(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`speech("transcribe", file, …)`."""
    return lambda *words: run(capsys, monkeypatch, *words)


def test_a_file_is_sent_whole_and_its_text_printed(speech: Run, service: Service, recording: Path) -> None:
    status, output, errors = speech("transcribe", recording, "--url", service.url, "--language", "de")

    assert (status, output, errors) == (0, "48000 samples at 16000 Hz\n", "")
    assert service.runtime.options[0].language == "de"


def test_json_is_what_the_api_says(speech: Run, service: Service, recording: Path) -> None:
    _, output, _ = speech("transcribe", recording, "--url", service.url, "--json")
    assert json.loads(output)["duration_ms"] == 3000


def test_a_caveat_of_the_node_s_model_is_shown_once_beside_the_text(
    speech: Run, service: Service, recording: Path
) -> None:
    service.runtime.cards = {
        ModelRole.ASR: ModelDescription(name="asr", kind=ModelKind.RULE, caveat="it knows ten words")
    }
    for streamed in ([], ["--realtime", "--partial", "0"]):
        _, output, errors = speech("transcribe", recording, "--url", service.url, *streamed)
        assert "samples at" in output
        assert errors == "speech: caveat of the node's rule model: it knows ten words\n"


#: A file by its name: what it holds, and what the command line must say of it.
FILES: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "memo.m4a": (lambda: written("mp4", "aac"), []),
    "live.webm": (lambda: written("webm", "libopus", rate=48000), []),
    "voice.ogg": (lambda: by_libsndfile("OGG"), []),
    "joined.mp3": (lambda: 2 * by_libsndfile("MP3", samples=spoken(0, 5.5)), []),
    "gsm.wav": (lambda: by_libsndfile("WAV", "GSM610", rate=8000), []),
    "g726.wav": (lambda: written("wav", "adpcm_g726", rate=8000), []),
    "no-suffix": (lambda: written("adts", "aac"), []),
    "wrong-name.wav": (lambda: by_libsndfile("FLAC"), []),
    "call.ulaw": (lambda: by_libsndfile("RAW", "ULAW", rate=8000), []),
    "call.bin": (lambda: by_libsndfile("RAW", "ALAW", rate=8000), ["--input-format", "alaw"]),
    "wide.raw": (lambda: by_libsndfile("RAW", "PCM_16"), ["--rate", "16000"]),
}
WAYS = {"http": [], "grpc": ["--grpc", "{grpc}"], "websocket": ["--partial", "0"]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_every_file_that_the_service_reads_is_sent(
    speech: Run, service: Service, grpc_address: str, tmp_path: Path, name: str, way: str
) -> None:
    content, words = FILES[name]
    path = tmp_path / name
    path.write_bytes(content())
    words = [*words, *(word.format(grpc=grpc_address) for word in WAYS[way])]

    status, output, errors = speech("transcribe", path, "--url", service.url, *words)

    assert (status, errors) == (0, "")
    heard = sum(int(line.split()[0]) for line in output.splitlines())
    assert heard / 16000 == pytest.approx(11.0, abs=0.15)


def test_progress_is_the_part_that_is_sent(service: Service, recording: Path) -> None:
    parts: list[float] = []
    assert ask("asr", service.url, recording, progress=parts.append)["duration_ms"] == 3000
    assert parts == sorted(parts)
    assert parts[-1] == 1.0


def test_a_recording_may_come_through_a_named_pipe(speech: Run, service: Service, recording: Path) -> None:
    pipe = recording.with_name("pipe.flac")
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(recording.read_bytes())).start()
    assert speech("transcribe", pipe, "--url", service.url)[:2] == (0, "48000 samples at 16000 Hz\n")


def test_what_is_wrong_late_in_a_file_is_said_after_the_text_before_it(
    speech: Run, service: Service, tmp_path: Path
) -> None:
    path = tmp_path / "cut.flac"
    whole = by_libsndfile("FLAC")
    path.write_bytes(whole[: len(whole) // 2])
    status, output, errors = speech("transcribe", path, "--url", service.url, "--partial", "0")
    assert status == 1
    assert "samples at 16000 Hz" in output
    assert f"{path}: cannot be read to its end" in errors


def test_a_file_is_streamed_over_grpc(speech: Run, grpc_address: str, recording: Path) -> None:
    status, output, _ = speech("transcribe", recording, "--grpc", grpc_address)
    assert (status, output) == (0, "48000 samples at 16000 Hz\n")


def test_a_file_is_streamed_over_a_websocket_as_fast_as_it_is_spoken(
    speech: Run, service: Service, tmp_path: Path
) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(16000), 16000)

    words = ("transcribe", path, "--url", service.url, "--realtime", "--json", "--partial", "200")
    _, output, _ = speech(*words)

    *partial, final = [json.loads(line) for line in output.splitlines()]
    assert 2 <= len(partial) <= 5
    assert (final["is_final"], final["result_data"]["duration_ms"]) == (True, 1000)


def test_live_audio_comes_on_standard_input(service: Service) -> None:
    command = [sys.executable, "-m", "inference_service.client", "transcribe", "-", "--rate", "16000"]
    done = subprocess.run(
        [*command, "--url", service.url], input=tone(1.0), capture_output=True, timeout=30, check=True
    )
    assert done.stdout.decode() == "16000 samples at 16000 Hz\n"


def test_a_key_is_given_to_every_entrance(serve: Callable[..., Service], recording: Path) -> None:
    service = serve(SERVER__API_KEYS="secret")
    with pytest.raises(ClientError, match=r"API key is needed.* \(HTTP 401\)"):
        ask("asr", service.url, recording)
    with pytest.raises(ClientError, match=r"API key is needed.* \(HTTP 401\)"):
        list(
            transcribe_live(
                from_file(AudioFile(recording), realtime=False), OPTIONS, over_websocket(service.url)
            )
        )
    with_key = StreamOptions(api_key="secret")
    assert ask("asr", service.url, recording, api_key="secret")["text"]
    [update] = transcribe_live(
        from_file(AudioFile(recording), realtime=False), with_key, over_websocket(service.url)
    )
    assert update.is_final


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["missing.wav"], "missing.wav: cannot be read: No such file"),
        (["missing.wav", "--grpc", "127.0.0.1:9"], "missing.wav: cannot be read"),
        (["{folder}"], "cannot be read: Is a directory"),
        (["{folder}", "--grpc", "127.0.0.1:9"], "cannot be read: Is a directory"),
        (["{folder}", "--realtime"], "cannot be read: Is a directory"),
        (["{empty}"], "is empty"),
        (["{empty}", "--grpc", "127.0.0.1:9"], "is empty"),
        (["{empty}", "--realtime"], "is empty"),
        (["{text}"], "its format is not recognised"),
        (["{text}", "--grpc", "{grpc}"], "its format is not recognised"),
        (["{text}", "--realtime"], "its format is not recognised"),
        (["{recording}", "--url", "ftp://example.com"], "ftp://example.com: is not an address"),
        (["{recording}", "--url", "{service}", "--language", "??"], "expected a language tag"),
        (["{recording}", "--url", "{service}", "--realtime", "--partial", "3"], "3 is not allowed"),
        (["{recording}", "--url", "{service}/elsewhere"], "there is no /elsewhere"),
    ],
)
def test_an_error_is_one_line(
    speech: Run, service: Service, grpc_address: str, recording: Path, words: list[str], reason: str
) -> None:
    folder, empty, text = (recording.with_name(name) for name in ("folder", "empty.wav", "notes.txt"))
    folder.mkdir()
    empty.touch()
    text.write_text("these are words and no recording " * 100)
    places = {"recording": recording, "folder": folder, "empty": empty, "text": text}
    places |= {"service": service.url, "grpc": grpc_address}
    given = [word.format(**places) for word in words]
    if "--url" not in given:
        given += ["--url", service.url]
    status, output, errors = speech("transcribe", *given)

    assert (status, output) == (1, "")
    assert errors.startswith("speech: ")
    assert reason in errors
    assert len(errors.splitlines()) == 1


def test_a_grpc_error_is_reported_with_its_reason(grpc_address: str, recording: Path) -> None:
    options = StreamOptions(language="??")
    with pytest.raises(ClientError, match=r"expected a language tag.*\(INVALID_ARGUMENT\)"):
        list(
            transcribe_live(from_file(AudioFile(recording), realtime=False), options, over_grpc(grpc_address))
        )


def test_a_full_node_is_tried_again(service: Service, recording: Path) -> None:
    service.runtime.error = Busy("full")
    threading.Timer(0.3, lambda: setattr(service.runtime, "error", None)).start()
    [update] = transcribe_live(
        from_file(AudioFile(recording), realtime=False), OPTIONS, over_websocket(service.url)
    )
    assert update.result["result_data"]["duration_ms"] == 3000


def test_what_a_node_left_unanswered_is_sent_to_the_next_one() -> None:
    audio = Recording(1000)
    audio.append(bytes(range(250)) * 8)  # a second
    audio.finish()
    sent: list[bytes] = []

    def attempt(recording: Recording, options: StreamOptions) -> Iterator[dict[str, Any]]:
        sent.append(b"".join(recording.chunks(recording.answered)))
        if len(sent) == 1:
            yield result(300)
            yield result(100, is_final=False)
            raise Unavailable("the node stops")
        if len(sent) == 2:
            raise Unavailable("not up yet")
        yield result(700)

    updates = list(transcribe_live(audio, OPTIONS, attempt))

    whole = bytes(range(250)) * 8
    assert sent == [whole, whole[600:], whole[600:]]
    assert [update.is_final for update in updates] == [True, False, True]


def test_a_client_that_gives_up_does_not_keep_reading(tmp_path: Path) -> None:
    (tmp_path / "sound").write_bytes(bytes(10_000_000))
    descriptor = os.open(tmp_path / "sound", os.O_RDONLY)
    audio = from_pipe(descriptor, 1000, 1)

    def attempt(recording: Recording, options: StreamOptions) -> Iterator[dict[str, Any]]:
        yield result(100)
        raise ClientError("refused")

    updates: list[Update] = []
    with pytest.raises(ClientError, match="refused"):
        updates.extend(transcribe_live(audio, OPTIONS, attempt))
    # The client reads a bounded amount ahead, however long the recording.
    assert audio.seconds_read < 200


def result(milliseconds: int, *, is_final: bool = True) -> dict[str, Any]:
    data = json.dumps({"text": "words", "duration_ms": milliseconds})
    return {"result_data": data, "is_final": is_final}
