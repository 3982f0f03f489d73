"""Large JSON and base64: read as small ones are, in pieces that do not stop the event loop."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable

import msgspec
import pytest

from inference_service.errors import BadRequest
from inference_service.http import base64_text
from inference_service.http.json_body import JsonBody
from inference_service.http.requests import AnalyzeRequest, AudioRequest, BatchRequest, SetupRequest

pytestmark = pytest.mark.fast

#: Around the sizes of the pieces, so that something is cut at each border.
SIZES = [0, 1, 2, 3, 98_302, 98_303, 98_304, 98_305, 98_306, 300_001]

FORMS: dict[str, Callable[[bytes], str]] = {
    "plain": lambda data: base64.b64encode(data).decode(),
    "without padding": lambda data: base64.b64encode(data).decode().rstrip("="),
    "URL-safe": lambda data: base64.urlsafe_b64encode(data).decode(),
    "URL-safe without padding": lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="),
    "wrapped as MIME": lambda data: base64.encodebytes(data).decode().replace("\n", "\r\n"),
    "as a data URL": lambda data: f"data:audio/wav;base64,{base64.b64encode(data).decode()}",
    "with a space after each": lambda data: " ".join(base64.b64encode(data).decode()),
}


def quoted(text: str, *, escape_slashes: bool = False) -> memoryview:
    encoded = json.dumps(text)
    return memoryview((encoded.replace("/", "\\/") if escape_slashes else encoded).encode())


@pytest.mark.parametrize("escape_slashes", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_base64_is_read_at_every_length(form: str, escape_slashes: bool) -> None:
    for size in SIZES:
        data = random.Random(size).randbytes(size)
        text = quoted(FORMS[form](data), escape_slashes=escape_slashes)
        assert (base64_text.decode(text, "audio_data") or b"") == data, size


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A" * 200_001, "200001 characters cannot be whole bytes"),
        ("A" * 200_000 + "?", "unexpected character '?'"),
        ("A" * 200_000 + "é" + "A" * 200_003, "unexpected character 'é'"),
        ("A" * 200_000 + "=" + "A" * 200_000, "unexpected character '='"),
        ("AB==" + "A" * 200_000, "unexpected character '='"),
        ("-" * 200_000 + "+" * 200_000, "'+' or '/' beside '-' or '_'"),
    ],
)
def test_what_is_not_base64_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BadRequest) as refused:
        base64_text.decode(quoted(text), "audio_data")
    assert "audio_data: is not base64: " in str(refused.value)
    assert reason in str(refused.value)


def body(value: object, *, bom: bool = False) -> JsonBody:
    return JsonBody((b"\xef\xbb\xbf" if bom else b"") + json.dumps(value).encode())


@pytest.mark.parametrize("bom", [False, True])
def test_long_strings_come_back_in_their_fields(bom: bool) -> None:
    text = 'a "quoted" \\ text, ünï' * 10_000
    request = body({"text": text, "audio_data": "A" * 100_000, "language": "en"}, bom=bom).decode(
        AudioRequest
    )
    assert request.text == text
    assert bytes(memoryview(request.audio_data)) == b'"' + b"A" * 100_000 + b'"'
    assert request.language == "en"

    asked = body({"input_data": "B" * 70_000, "params": {"text": "c" * 2000, "rate": 5}}).decode(
        AnalyzeRequest
    )
    assert bytes(memoryview(asked.input_data)) == b'"' + b"B" * 70_000 + b'"'
    assert asked.params == {"text": "c" * 2000, "rate": 5}


def test_each_task_of_a_large_batch_has_its_own_audio() -> None:
    audio = [chr(65 + at) * (50_000 + at) for at in range(5)]
    tasks = [{"task_id": at, "data": {"audio_data": text}} for at, text in enumerate(audio)]
    whole = body({"tasks": tasks})
    found = [
        bytes(memoryview(whole.decode(AudioRequest, bytes(task.data)).audio_data))
        for task in whole.decode(BatchRequest).tasks
    ]
    assert found == [f'"{text}"'.encode() for text in audio]


def test_a_string_that_looks_like_the_place_of_another_gives_nothing_away() -> None:
    texts = ["\0string 0", "\0string 7", "x" * 70_000]
    request = body({"text": texts[1], "format": texts[0], "audio_data": texts[2]}).decode(AudioRequest)
    assert request.text == texts[1]  # there is no string of this number
    assert request.format == texts[2]  # its own


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"audio_data": "' + b"A" * 100_000, "is not JSON"),
        (b'{"audio_data": "' + b"A" * 100_000 + b'"', "is not JSON"),
        (b'{"audio_data": "' + b"A" * 100_000 + b'"]', "is not JSON"),
        (b'{"x": [' + b"1," * 5_000_000 + b"1]}", "4000000 bytes besides its long strings"),
        (b'{"x": [' + b'"",' * 200_000 + b'""]}', "quotation marks"),
        (b'{"x": "' + b'\\"' * 200_000 + b'"}', "quotation marks"),
        (b'{"x": "' + b"\\\\" * 200_000 + b'"}', None),
        (b'{"tasks": [' + b"{}," * 200_000 + b"{}]}", "objects and quotation marks"),
        (b'{"x": ' + b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe" + '{"x": 1}'.encode("utf-16-le"), "UTF-16"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else "",
)
def test_bodies_that_would_stop_the_node_are_refused(content: bytes, reason: str | None) -> None:
    if reason is None:
        assert JsonBody(content).decode(SetupRequest) == SetupRequest()
        return
    with pytest.raises(BadRequest, match=reason):
        JsonBody(content).decode(SetupRequest)


def test_a_field_of_the_wrong_type_is_named_in_large_bodies_too() -> None:
    with pytest.raises(BadRequest, match=r"sample_rate: expected int \| float \| str \| null, got array"):
        body({"audio_data": "A" * 100_000, "sample_rate": []}).decode(AudioRequest)


def test_a_text_of_megabytes_is_refused_by_its_field() -> None:
    with pytest.raises(BadRequest, match="text: is 2000002 bytes long; at most 1000000 are allowed"):
        body({"text": "x" * 2_000_000}).decode(AudioRequest)


def test_raw_fields_keep_what_is_no_string() -> None:
    request = body({"audio_data": 5, "text": "x" * 70_000}).decode(AudioRequest)
    assert msgspec.json.decode(request.audio_data) == 5
