"""The unit manager's line protocol: frames survive every split of the byte stream, payloads every cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.runtimes.edge_llm.connection import Connection, SessionLost
from inference_service.runtimes.edge_llm.frames import (
    MAX_LINE,
    Delta,
    Framing,
    ProtocolError,
    Reply,
    UnitError,
    delta_of,
    exit_frame,
    inference_frames,
    join,
    parse_reply,
    setup_frame,
)

pytestmark = pytest.mark.fast

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def reply(**fields: object) -> bytes:
    return json.dumps({"request_id": "r", "work_id": "llm.1", **fields}, ensure_ascii=False).encode()


def test_a_setup_is_the_frame_that_units_know() -> None:
    assert json.loads(setup_frame("1", "whisper")) == {
        "request_id": "1",
        "work_id": "llm",
        "action": "setup",
        "object": "llm.setup",
        "data": {
            "model": "whisper",
            "response_format": "llm.utf-8.stream",
            "input": "llm.utf-8.stream",
            "enoutput": True,
        },
    }


def test_an_exit_names_the_session() -> None:
    assert json.loads(exit_frame("1", "llm.7")) == {"request_id": "1", "work_id": "llm.7", "action": "exit"}


@given(TEXTS, st.integers(1, 40), st.integers(1, 40))
def test_a_payload_comes_whole_out_of_its_frames(payload: str, single: int, chunk: int) -> None:
    pieces = Framing(single, chunk, 0).cut(payload)
    frames = [json.loads(line) for line in inference_frames("1", "llm.7", pieces)]
    assert "".join(frame["data"]["delta"] for frame in frames) == payload
    assert [frame["data"]["index"] for frame in frames] == list(range(len(frames)))
    assert [frame["data"]["finish"] for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert {(frame["work_id"], frame["action"], frame["object"]) for frame in frames} == {
        ("llm.7", "inference", "llm.utf-8.stream")
    }


@given(TEXTS, st.integers(6, 60), st.integers(6, 60))
def test_no_delta_is_longer_than_the_limits(payload: str, single: int, chunk: int) -> None:
    pieces = Framing(single, chunk, 0).cut(payload)
    limit = single if len(pieces) == 1 else min(single, chunk)
    assert all(len(piece.encode()) <= limit for piece in pieces)


def test_a_payload_within_max_single_delta_len_goes_in_one_frame() -> None:
    framing = Framing(max_single_delta_len=2048, chunk_size=512, delay=0.01)
    assert [len(piece) for piece in framing.cut("a" * 2048)] == [2048]
    assert [len(piece) for piece in framing.cut("a" * 2049)] == [512, 512, 512, 512, 1]


@given(TEXTS)
def test_units_that_count_braces_and_look_for_backslashes_find_the_ends(payload: str) -> None:
    [line] = inference_frames("1", "llm.7", Framing(10_000_000, 512, 0).cut(payload))
    delta = line[line.index(b'"delta":"') + 9 : line.rindex(b'","index"')]
    assert not set(delta) & set(b'{}"')
    assert b"\\\\" not in delta and b'\\"' not in delta


def received(parts: list[bytes], limit: int = MAX_LINE) -> list[Reply]:
    """The replies on a connection that brings these parts and then ends."""

    async def receive() -> list[Reply]:
        reader = asyncio.StreamReader(limit=limit)
        for part in parts:
            reader.feed_data(part)
        reader.feed_eof()
        connection = Connection(reader, Mock())
        replies = []
        with contextlib.suppress(SessionLost):
            while True:
                replies.append(await connection.receive())
        return replies

    return asyncio.run(receive())


@settings(deadline=None)  # an event loop for each example
@given(st.lists(TEXTS, max_size=8), st.data())
def test_replies_do_not_depend_on_how_the_stream_is_split_or_joined(
    texts: list[str], data: st.DataObject
) -> None:
    lines = [reply(data=text) for text in texts]
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert received(parts) == [parse_reply(line) for line in lines]


@given(st.text(min_size=1), st.integers(1, 5), st.randoms(use_true_random=False))
def test_an_answer_cut_inside_characters_is_put_together(text: str, size: int, random: object) -> None:
    whole = text.encode("utf-8", "replace")
    parts = [whole[at : at + size] for at in range(0, len(whole), size)]
    lines = [
        b'{"request_id":"r","data":{"delta":"%s","index":%d,"finish":%s}}'
        % (part.translate(None, b'"\\' + bytes(range(32))), index, b"true" if part is parts[-1] else b"false")
        for index, part in enumerate(parts)
    ]
    deltas = [delta for line in lines if (delta := delta_of(parse_reply(line)))]
    assert join(deltas).encode() == whole.translate(None, b'"\\' + bytes(range(32)))


def test_crlf_and_empty_lines_are_no_frames() -> None:
    assert received([b'\r\n{"request_id":"a"}\r\n\n']) == [Reply("a", "", None, None)]


def test_half_a_line_at_the_end_of_the_connection_is_no_frame() -> None:
    assert received([b'{"request_id":"a"}\n{"request_id"']) == [Reply("a", "", None, None)]


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    with pytest.raises(ProtocolError, match=f"more than {MAX_LINE} bytes"):
        received([b"x" * 50] * 3, limit=100)


@pytest.mark.parametrize("wrap", [lambda value: value, json.dumps], ids=["object", "text"])
def test_data_and_error_come_as_objects_or_as_texts(wrap: object) -> None:
    parsed = parse_reply(reply(data=wrap({"delta": "x"}), error=wrap({"code": -5, "message": "no"})))  # type: ignore[operator]
    assert parsed.data == {"delta": "x"}
    assert parsed.error == UnitError(-5, "no")


@pytest.mark.parametrize(
    "error", [None, "", "None", {"code": 0, "message": ""}, '{"code":0,"message":""}'], ids=repr
)
def test_code_zero_and_the_units_none_are_no_error(error: object) -> None:
    assert parse_reply(reply(error=error)).error is None


def test_a_bare_text_as_error_is_an_error() -> None:
    assert parse_reply(reply(error="it broke")).error == UnitError(-1, "it broke")


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"nonsense", b'{"a":', b'{"error":{"message":"x"}}', b"\xff\xfe", b"[" * 100_000]
)
def test_what_is_not_a_reply_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_reply(line)


@pytest.mark.parametrize(
    "data", [{"delta": 5, "finish": True}, {"delta": "x"}, {"delta": "x", "finish": "yes"}], ids=repr
)
def test_a_malformed_delta_is_a_protocol_error(data: object) -> None:
    with pytest.raises(ProtocolError, match="delta"):
        delta_of(parse_reply(reply(data=data)))


def test_an_answer_without_stream_is_one_finishing_delta() -> None:
    assert delta_of(parse_reply(reply(data="plain"))) == Delta("plain", None, True)
    whole = delta_of(parse_reply(reply(data={"text": "hé"})))
    assert whole is not None and whole.finish and json.loads(whole.text) == {"text": "hé"}
    assert delta_of(parse_reply(reply(data="None"))) is None


@given(st.permutations(list(enumerate("abcdef"))))
def test_numbered_deltas_are_joined_by_index(order: list[tuple[int, str]]) -> None:
    assert join([Delta(text, index, False) for index, text in order]) == "abcdef"


@pytest.mark.parametrize("indices", [(None, None, None), (7, 8, 0), (0, 0, 1), (5, 4, 3)])
def test_indices_that_do_not_number_this_answer_leave_the_order_of_arrival(
    indices: tuple[int | None, ...],
) -> None:
    assert join([Delta(text, index, False) for text, index in zip("abc", indices, strict=True)]) == "abc"


def test_an_answer_that_is_not_utf8_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="UTF-8"):
        join([Delta("\udcff", 0, True)])
