"""Real-time transcription through OpenAI's own Python client, unchanged except for its base URL."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import SHUT_RDWR
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from openai import OpenAI
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from inference_service.errors import NotReady
from tests.service.conftest import Service
from tests.service.streams import pieces, tone

Serve = Callable[..., Service]

RATE = 24000
MANUAL = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
PREFIX = "conversation.item.input_audio_transcription"


def encoded(audio: bytes) -> str:
    return base64.b64encode(audio).decode()


def silence(seconds: float, rate: int = RATE) -> bytes:
    return bytes(2 * round(seconds * rate))


def syllables(seconds: float) -> bytes:
    """A tone that rises and falls four times a second, as speech does; a steady one is taken for noise."""
    samples = np.frombuffer(tone(seconds, RATE), dtype="<i2")
    envelope = 0.505 - 0.495 * np.cos(2 * np.pi * 4 * np.arange(len(samples)) / RATE)
    return (samples * envelope).astype("<i2").tobytes()


@contextmanager
def session(service: Service, key: str = "none", **options: Any) -> Iterator[Any]:
    """A session after its first event."""
    options = {"extra_query": {"intent": "transcription"}, **options}
    with (
        OpenAI(base_url=f"{service.url}/v1", api_key=key) as client,
        client.realtime.connect(**options) as connection,
    ):
        yield connection


def until(connection: Any, last: str) -> list[Any]:
    """The events up to one of this type."""
    events = []
    while not events or events[-1].type != last:
        events.append(connection.recv())
        assert events[-1].type != "error" or last == "error", events[-1]
    return events


def update(connection: Any, **session: Any) -> Any:
    connection.session.update(session={"type": "transcription", **session})
    return until(connection, "session.updated")[-1].session


def append(connection: Any, audio: bytes) -> None:
    connection.input_audio_buffer.append(audio=encoded(audio))


def types(events: list[Any]) -> list[str]:
    return [event.type for event in events]


# What a session is ------------------------------------------------------------------------------------------


def test_a_session_begins_with_its_configuration(service: Service) -> None:
    with session(service) as connection:
        created = connection.recv()
        updated = update(
            connection,
            audio={
                "input": {
                    "transcription": {
                        "model": "gpt-live-transcribe",
                        "language": "German",
                        "keywords": ["Bonn"],
                    },
                    "turn_detection": {"type": "server_vad", "threshold": 0.7},
                }
            },
        )
    assert created.type == "session.created"
    assert created.session.type == "transcription"
    assert created.session.audio.input.format.rate == RATE
    assert created.session.audio.input.transcription.model == "asr"
    assert created.session.audio.input.turn_detection.silence_duration_ms == 500
    transcription = updated.audio.input.transcription
    assert (transcription.model, transcription.language) == ("gpt-live-transcribe", "de")
    assert transcription.keywords == ["Bonn"]
    assert updated.audio.input.turn_detection.threshold == 0.7
    assert updated.audio.input.turn_detection.prefix_padding_ms == 300


def test_what_the_client_commits_is_an_item_with_a_transcript(service: Service) -> None:
    with session(service) as connection:
        connection.session.update(session=MANUAL)
        until(connection, "session.updated")
        for part in pieces(tone(2.0, RATE), 4800):
            append(connection, part)
        connection.input_audio_buffer.commit()
        events = [event for event in until(connection, f"{PREFIX}.completed") if "delta" not in event.type]

    committed, added, done, completed = events
    assert types(events)[:3] == ["input_audio_buffer.committed", "conversation.item.added",
                                 "conversation.item.done"]  # fmt: skip
    assert {committed.item_id, added.item.id, done.item.id} == {completed.item_id}
    assert added.item.content[0].type == "input_audio"
    assert completed.transcript == "32000 samples at 16000 Hz"
    assert (completed.usage.type, completed.usage.seconds) == ("duration", 2.0)
    assert completed.languages[0].code == "en"


def test_the_text_of_an_item_comes_as_deltas_that_add_up_to_it(service: Service) -> None:
    with session(service) as connection:
        connection.session.update(session=MANUAL)
        append(connection, tone(25.0, RATE))  # more than the session of the service buffers
        connection.input_audio_buffer.commit()
        *before, completed = until(connection, f"{PREFIX}.completed")

    deltas = [event for event in before if event.type == f"{PREFIX}.delta"]
    assert "".join(event.delta for event in deltas) == completed.transcript
    assert len(deltas) >= 3
    assert {(event.item_id, event.content_index) for event in deltas} == {(completed.item_id, 0)}


def test_the_server_finds_the_turns(service: Service) -> None:
    with session(service) as connection:
        for part in pieces(silence(1) + tone(1, RATE) + silence(1) + tone(2, RATE) + silence(1), 2400):
            append(connection, part)
        events = until(connection, f"{PREFIX}.completed") + until(connection, f"{PREFIX}.completed")

    found = {kind: [event for event in events if event.type == kind] for kind in types(events)}
    started = found["input_audio_buffer.speech_started"]
    stopped = found["input_audio_buffer.speech_stopped"]
    committed = found["input_audio_buffer.committed"]
    assert [event.audio_start_ms for event in started] == [
        pytest.approx(700, abs=40), pytest.approx(2700, abs=40)
    ]  # fmt: skip
    assert [event.audio_end_ms for event in stopped] == [
        pytest.approx(2500, abs=60), pytest.approx(5500, abs=60)
    ]  # fmt: skip
    items = [event.item_id for event in committed]
    assert items == [event.item_id for event in started] == [event.item_id for event in stopped]
    assert [event.previous_item_id for event in committed] == [None, items[0]]
    seconds = {event.item_id: event.usage.seconds for event in found[f"{PREFIX}.completed"]}
    assert [seconds[item] for item in items] == [pytest.approx(1.8, abs=0.1), pytest.approx(2.8, abs=0.1)]


@pytest.mark.parametrize(
    ("format", "audio", "samples"),
    [
        ({"type": "audio/pcm", "rate": 24000}, tone(1, 24000), 16000),
        ({"type": "audio/pcm", "rate": 16000}, tone(1, 16000), 16000),
        ({"type": "audio/pcmu"}, bytes(8000), 16000),
        ({"type": "audio/pcma"}, bytes(8000), 16000),
    ],
    ids=str,
)
def test_audio_comes_in_openai_s_formats_cut_at_any_byte(
    service: Service, format: dict[str, Any], audio: bytes, samples: int
) -> None:
    with session(service) as connection:
        update(connection, audio={"input": {"format": format, "turn_detection": None}})
        for part in pieces(audio, 1001):
            append(connection, part)
        connection.input_audio_buffer.commit()
        completed = until(connection, f"{PREFIX}.completed")[-1]
    assert completed.transcript == f"{samples} samples at 16000 Hz"


def test_the_options_of_a_session_are_those_of_recognition(service: Service) -> None:
    with session(service) as connection:
        chosen = {
            "languages": ["de", "French"],
            "prompt": "Bonn",
            "keywords": ["Rhein"],
            "model": "whisper-1",
        }
        update(connection, audio={"input": {"transcription": chosen, "turn_detection": None}})
        append(connection, tone(1, RATE))
        connection.input_audio_buffer.commit()
        until(connection, f"{PREFIX}.completed")
    for options in service.runtime.options:
        assert (options.language, options.languages) == (None, ("de", "fr"))
        assert (options.prompt, options.hotwords) == ("Bonn", "Rhein")


def test_cleared_audio_is_never_transcribed(service: Service) -> None:
    with session(service) as connection:
        connection.session.update(session=MANUAL)
        append(connection, tone(3, RATE))
        connection.input_audio_buffer.clear()
        until(connection, "input_audio_buffer.cleared")
        append(connection, tone(1, RATE))
        connection.input_audio_buffer.commit()
        completed = until(connection, f"{PREFIX}.completed")[-1]
    assert completed.transcript == "16000 samples at 16000 Hz"


def test_the_beta_s_clients_get_the_beta_s_events(service: Service) -> None:
    base = f"ws://127.0.0.1:{service.port}/v1"  # the beta's client takes TLS for granted
    with (
        OpenAI(websocket_base_url=base, api_key="none") as client,
        client.beta.realtime.connect(model="whisper-1") as connection,
    ):
        created: Any = connection.recv()
        connection.transcription_session.update(
            session={
                "input_audio_format": "g711_ulaw",
                "input_audio_transcription": {"model": "whisper-1", "language": "en"},
                "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
            }
        )
        updated = connection.recv()
        connection.input_audio_buffer.append(audio=encoded(bytes(8000)))
        connection.input_audio_buffer.append(audio=encoded(b"\xff" * 8000))
        events = until(connection, f"{PREFIX}.completed")

    assert (created.type, updated.type) == ("transcription_session.created", "transcription_session.updated")
    assert updated.session.input_audio_format == "g711_ulaw"
    assert updated.session.turn_detection.silence_duration_ms == 300
    assert "conversation.item.created" in types(events)


# What goes wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"type": "realtime"}, "session.type", "invalid_value"),
        ({"instructions": "Be brief."}, "session.instructions", "unknown_parameter"),
        ({"include": ["item.input_audio_transcription.logprobs"]}, "session.include",
         "unsupported_parameter"),
        ({"audio": {"input": {"noise_reduction": {"type": "near_field"}}}},
         "session.audio.input.noise_reduction", "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}},
         "session.audio.input.turn_detection.type", "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 7}}}},
         "session.audio.input.turn_detection.threshold", "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5000}}}},
         "session.audio.input.turn_detection.idle_timeout_ms", "unsupported_parameter"),
        ({"audio": {"input": {"format": {"type": "audio/opus"}}}},
         "session.audio.input.format.type", "invalid_value"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 1}}}},
         "session.audio.input.format.rate", "invalid_value"),
        ({"audio": {"input": {"transcription": None}}}, "session.audio.input.transcription", "invalid_value"),
        ({"audio": {"input": {"transcription": {"model": "gpt-5"}}}}, "model", "model_not_found"),
        ({"audio": {"input": {"transcription": {"language": "??"}}}},
         "session.audio.input.transcription.language", "invalid_value"),
    ],
    ids=str,
)  # fmt: skip
def test_an_update_that_cannot_be_is_refused_by_the_name_of_its_field(
    service: Service, changes: dict[str, Any], param: str, code: str
) -> None:
    with session(service) as connection:
        connection.recv()
        connection.send(
            {"type": "session.update", "event_id": "mine", "session": {"type": "transcription", **changes}}
        )
        error = connection.recv().error
        assert (error.param, error.code, error.event_id) == (param, code, "mine")
        assert error.type == "invalid_request_error"
        update(connection)  # the session goes on


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "response.create"}, "'response.create' is not an event of a transcription session"),
        (
            {"type": "input_audio_buffer.commit"},
            "too small to commit: 100 ms of audio are needed, and it has 0",
        ),
        ({"type": "input_audio_buffer.append", "audio": "%"}, "audio: is not base64"),
        ({"type": "input_audio_buffer.append"}, "audio: is required"),
        ({"no": "type"}, "type: is required"),
        ("{", "is not JSON"),
        ('{"type": "x", "more": ' + "[" * 3000, "is not JSON|nested too deeply"),
        (b"\x00\x01", "send audio in base64"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_in_an_event_is_explained_and_the_session_goes_on(
    service: Service, message: Any, reason: str
) -> None:
    with session(service) as connection:
        connection.recv()
        connection._connection.send(json.dumps(message) if isinstance(message, dict) else message)
        error = connection.recv()
        assert error.type == "error"
        assert re.search(reason, error.error.message)
        update(connection)


def test_a_failed_recognition_is_told_of_its_item_and_the_next_one_succeeds(service: Service) -> None:
    service.runtime.error = NotReady("Triton cannot be reached")
    with session(service) as connection:
        connection.session.update(session=MANUAL)
        append(connection, tone(1, RATE))
        connection.input_audio_buffer.commit()
        failed = until(connection, f"{PREFIX}.failed")[-1]
        assert failed.error.message == "Triton cannot be reached"
        assert failed.error.type == "server_error"
        service.runtime.error = None
        append(connection, tone(1, RATE))
        connection.input_audio_buffer.commit()
        assert until(connection, f"{PREFIX}.completed")[-1].item_id != failed.item_id


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        ({"model": "gpt-realtime"}, "model_not_found", "answers in speech"),
        ({"model": "gpt-5"}, "model_not_found", "'gpt-5' is unknown"),
        ({"intent": "conversation"}, "invalid_value", "has transcription sessions"),
    ],
)
def test_a_session_of_another_kind_is_refused_with_the_reason(
    service: Service, query: dict[str, str], code: str, reason: str
) -> None:
    with session(service, extra_query=query) as connection:
        error = connection.recv().error
        assert (error.code, reason in error.message) == (code, True)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv()
        assert closed.value.rcvd is not None
        assert reason in closed.value.rcvd.reason


@pytest.mark.parametrize(
    "query",
    [{}, {"intent": "transcription", "model": "gpt-realtime"}, {"model": "gpt-realtime-whisper-2026-08-01"}],
)
def test_a_transcription_session_is_opened_in_several_ways(service: Service, query: dict[str, str]) -> None:
    with session(service, extra_query=query) as connection:
        assert connection.recv().session.type == "transcription"


def test_a_full_node_takes_no_more_sessions(serve: Serve) -> None:
    service = serve(SERVER__MAX_STREAMS="1")
    with session(service) as first:
        first.recv()
        with session(service) as second:
            assert "the node is full" in second.recv().error.message
            with pytest.raises(ConnectionClosed) as closed:
                second.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


def test_a_silent_client_is_asked_to_leave(serve: Serve) -> None:
    with session(serve(AI__STREAMING__IDLE_TIMEOUT="200ms")) as connection:
        connection.recv()
        assert "no event came for 0.2 s" in connection.recv().error.message


def test_a_client_that_vanishes_leaves_nothing_behind(service: Service) -> None:
    service.runtime.delay = 3600
    with session(service) as connection:
        connection.session.update(session=MANUAL)
        until(connection, "session.updated")
        append(connection, tone(1, RATE))
        connection.input_audio_buffer.commit()
        service.wait_until(lambda: service.runtime.running == 1)
        connection._connection.socket.shutdown(SHUT_RDWR)
    service.wait_until(lambda: service.runtime.cancelled == 1)
    service.wait_until(lambda: service.engine.streams.open == 0)


def test_a_draining_node_answers_what_was_sent_and_says_that_it_restarts(serve: Serve) -> None:
    service = serve(SERVER__SHUTDOWN_GRACE="2s")
    with session(service) as connection:
        connection.session.update(session=MANUAL)
        until(connection, "session.updated")
        append(connection, tone(1, RATE))
        service.wait_until(lambda: service.engine.streams.open == 1)
        service.terminate()
        *_, completed, error = until(connection, "error")
        assert completed.transcript == "16000 samples at 16000 Hz"
        assert "open the session again" in error.error.message
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_INPUT = st.fixed_dictionaries(
    {},
    optional={
        "format": st.fixed_dictionaries(
            {"type": st.sampled_from(["audio/pcm", "audio/pcmu", "audio/pcma", "x"])},
            optional={"rate": st.sampled_from([8000, 16000, 24000, 48000, "24000", -1, None])},
        ),
        "turn_detection": st.none() | st.just({"type": "server_vad", "silence_duration_ms": 30}) | _JSON,
        "transcription": st.just({"language": "de"}) | _JSON,
    },
)
_EVENTS = st.one_of(
    st.builds(
        lambda audio: {"type": "input_audio_buffer.append", "audio": encoded(audio)}, st.binary(max_size=9000)
    ),
    st.sampled_from([{"type": f"input_audio_buffer.{what}"} for what in ("commit", "clear")]),
    st.builds(
        lambda given: {"type": "session.update", "session": {"audio": {"input": given}}},
        _INPUT,
    ),
    st.builds(
        lambda kind, more: {"type": kind, "session": more, "audio": more},
        st.sampled_from(["session.update", "transcription_session.update", "input_audio_buffer.append"]),
        _JSON,
    ),
    _JSON,
)  # fmt: skip


@hypothesis.settings(max_examples=40, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(events=st.lists(_EVENTS, max_size=12))
def test_no_order_of_events_breaks_a_session(service: Service, events: list[Any]) -> None:
    address = f"ws://127.0.0.1:{service.port}/v1/realtime"
    with connect(address) as socket:
        for event in events:
            socket.send(json.dumps(event))
        socket.send(json.dumps({"type": "input_audio_buffer.clear"}))
        socket.send(json.dumps({"type": "session.update", "event_id": "last", "session": {"id": "x"}}))
        socket.send(json.dumps({"type": "the.end"}))
        while True:
            told = json.loads(socket.recv(timeout=20))
            assert told["event_id"]
            if told["type"] == "error":
                assert told["error"]["message"]
                if "'the.end' is not an event" in told["error"]["message"]:
                    break
    service.wait_until(lambda: service.engine.streams.open == 0)


@pytest.mark.parametrize("size", [None, 1001, 4800])
def test_turns_are_the_same_however_the_audio_is_cut(service: Service, size: int | None) -> None:
    """A turn that ends and the next one that begins, in one event or across events and samples."""
    audio = silence(1) + tone(0.4, RATE) + silence(0.6) + tone(0.4, RATE) + silence(0.6) + tone(1, RATE)
    audio += silence(1)
    with session(service) as connection:
        for part in pieces(audio, size or len(audio)):
            append(connection, part)
        events = [event for _ in range(3) for event in until(connection, f"{PREFIX}.completed")]
    completed = {event.item_id: event for event in events if event.type == f"{PREFIX}.completed"}
    order = [event.item_id for event in events if event.type == "input_audio_buffer.speech_started"]
    assert [event.item_id for event in events if event.type == "input_audio_buffer.committed"] == order
    # The second and the third begin in the pause after the one before, which is as long as both need.
    seconds = [completed[item].usage.seconds for item in order]
    assert seconds == [pytest.approx(expected, abs=0.1) for expected in (1.2, 1.0, 1.6)]
    # A byte that is lost or counted twice turns the samples into noise at full scale.
    peaks = [abs(audio.samples).max() for audio in service.runtime.audios]
    assert max(peaks) <= 0.3


def test_minutes_of_audio_in_one_event_are_turns_like_others(service: Service) -> None:
    audio = (silence(1) + syllables(3) + silence(1)) * 10
    with session(service) as connection:
        append(connection, audio)
        found = [until(connection, f"{PREFIX}.completed")[-1] for _ in range(10)]
    assert len({event.item_id for event in found}) == 10
    assert service.runtime.most_running <= 8


# Keys -------------------------------------------------------------------------------------------------------


def test_the_key_is_that_of_the_client(serve: Serve) -> None:
    service = serve(SERVER__API_KEYS="secret")
    with session(service, key="secret") as connection:
        assert connection.recv().type == "session.created"
    with pytest.raises(InvalidStatus) as refused, session(service, key="wrong"):
        pass
    assert refused.value.response.status_code == 401


def test_browsers_send_the_key_as_a_subprotocol(serve: Serve) -> None:
    service = serve(SERVER__API_KEYS="secret")
    address = f"ws://127.0.0.1:{service.port}/v1/realtime?intent=transcription"
    protocols = ["realtime", "openai-insecure-api-key.secret"]
    with connect(address, subprotocols=protocols) as socket:  # type: ignore[arg-type]
        assert socket.subprotocol == "realtime"
        assert json.loads(socket.recv(timeout=10))["type"] == "session.created"
