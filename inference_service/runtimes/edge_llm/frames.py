"""The unit manager's line protocol as pure functions: requests to bytes, bytes to replies and answers.

A frame is one JSON object on a line of its own, `{request_id, work_id, action: setup|inference|exit, object,
data}`; replies carry `error` instead of `action`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from inference_service.errors import RuntimeFailed

#: Longest line accepted from a peer, and longest answer made of lines, in bytes: a peer with broken framing
#: must not fill the memory.
MAX_LINE: Final = 4 * 1024 * 1024
MAX_ANSWER: Final = 16 * 1024 * 1024

#: Longest delta sent, in bytes, whatever the settings: the unit manager drops a line over 8 MiB.
MAX_DELTA: Final = 4 * 1024 * 1024

#: The encoding of a text in a frame. In addition to JSON's escapes, braces and backslashes become \\uXXXX:
#: units do not parse JSON. They find the end of `data` by counting braces, and the end of a string by the
#: backslash before a quote.
_ESCAPES: Final = {code: f"\\u{code:04x}" for code in (*range(0x20), 0x7F, *map(ord, '"\\{}'))}
_ESCAPE_LENGTH: Final = 6


class ProtocolError(RuntimeFailed):
    """The peer sent something that is not a frame of this protocol. The connection cannot be used any
    more."""


@dataclass(frozen=True, slots=True)
class UnitError:
    """`error` of a reply; `code` is not 0."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One frame from the unit manager. `data` is an object, a string, or None if there is none."""

    request_id: str
    work_id: str
    error: UnitError | None
    data: dict[str, Any] | str | None


@dataclass(frozen=True, slots=True)
class Delta:
    """A part of an answer. `index` is None if the unit does not number the parts."""

    text: str
    index: int | None
    finish: bool


@dataclass(frozen=True, slots=True)
class Framing:
    """The longest delta, in bytes of the frame, and the spacing of frames.

    A payload of up to `max_single_delta_len` goes in one frame. A longer one is cut into pieces of
    `chunk_size`, `delay` seconds apart.
    """

    max_single_delta_len: int
    chunk_size: int
    delay: float

    def cut(self, payload: str) -> list[str]:
        """`payload` in pieces, each ready to stand between the quotes of a frame; one empty piece for ''.

        Never cuts inside a character or an escape, so a limit below `_ESCAPE_LENGTH` counts as that.
        """
        escaped = payload.translate(_ESCAPES).encode()
        single = min(self.max_single_delta_len, MAX_DELTA)
        if len(escaped) <= single:
            return [escaped.decode()]
        limit = max(_ESCAPE_LENGTH, min(self.chunk_size, single))
        pieces = []
        start = 0
        while start < len(escaped):
            end = start + limit
            while end < len(escaped) and escaped[end] & 0xC0 == 0x80:  # not the first byte of a character
                end -= 1
            if (escape := escaped.rfind(b"\\", end - _ESCAPE_LENGTH + 1, end)) >= 0:
                end = escape
            pieces.append(escaped[start:end].decode())
            start = end
        return pieces


def action_frame(request_id: str, work_id: str, action: str, **rest: object) -> bytes:
    """A request; `rest` are the fields `object` and `data`, which some actions need."""
    frame = {"request_id": request_id, "work_id": work_id, "action": action, **rest}
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def setup_frame(request_id: str, model: str) -> bytes:
    """The request that opens a session with `model`; the reply's `work_id` is the session's."""
    stream = "llm.utf-8.stream"
    data = {"model": model, "response_format": stream, "input": stream, "enoutput": True}
    return action_frame(request_id, "llm", "setup", object="llm.setup", data=data)


def exit_frame(request_id: str, work_id: str) -> bytes:
    """The request that ends a session; units need not answer it."""
    return action_frame(request_id, work_id, "exit")


def inference_frames(request_id: str, work_id: str, pieces: list[str]) -> Iterator[bytes]:
    """One frame for each piece from `Framing.cut`, with rising `index` and `finish` true on the last."""
    for index, piece in enumerate(pieces):
        yield inference_frame(request_id, work_id, piece, index, finish=index == len(pieces) - 1)


def inference_frame(request_id: str, work_id: str, piece: str, index: int, *, finish: bool) -> bytes:
    """One frame of a request; `piece` is escaped already."""
    return (
        f'{{"request_id":"{request_id}","work_id":{json.dumps(work_id)},"action":"inference",'
        f'"object":"llm.utf-8.stream","data":{{"delta":"{piece}","index":{index},'
        f'"finish":{"true" if finish else "false"}}}}}\n'
    ).encode()


def parse_reply(line: bytes) -> Reply:
    """One line as a reply. Raises ProtocolError for an invalid one.

    Keeps bytes that are not UTF-8 by themselves (as surrogate escapes): units cut their answers even inside a
    character, and `join` puts the halves together again.
    """
    frame = _loads(line.decode("utf-8", "surrogateescape"))
    if not isinstance(frame, dict):
        excerpt = line[:120].decode("utf-8", "replace")
        raise ProtocolError(f"the unit manager sent a line that is not a JSON object: {excerpt!r}")
    data = frame.get("data")
    return Reply(
        request_id=_text(frame.get("request_id")),
        work_id=_text(frame.get("work_id")),
        error=_error_of(frame.get("error")),
        data=_data_of(data) if isinstance(data, dict | str) else None,
    )


def _loads(text: str) -> Any:
    """The JSON value in `text`, None if there is none. NaN and Infinity are not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _data_of(data: dict[str, Any] | str) -> dict[str, Any] | str | None:
    """`data` as an object, also from a string that holds one. `"None"` is the units' null."""
    if isinstance(data, dict):
        return data
    if data in ("", "None"):
        return None
    held = _loads(data)
    return held if isinstance(held, dict) else data


def _error_of(error: object) -> UnitError | None:
    """`error` as an object, also from a string that holds one, or from plain text. None if there was no
    error."""
    if isinstance(error, str):
        if error in ("", "None"):
            return None
        held = _loads(error)
        error = held if isinstance(held, dict) else {"code": -1, "message": error}
    if error is None:
        return None
    if not isinstance(error, dict) or type(error.get("code")) is not int:
        raise ProtocolError(f"the unit manager sent an error without a code: {error!r:.200}")
    code: int = error["code"]
    if code == 0:
        return None
    return UnitError(code, _text(error.get("message")) or "no message")


def delta_of(reply: Reply) -> Delta | None:
    """The part of an answer in a reply to an inference; None for a bare acknowledgement.

    A unit that does not stream sends its whole answer as `data`, which is one finishing delta. Raises
    ProtocolError for any other `data`.
    """
    data = reply.data
    if data is None:
        return None
    if isinstance(data, str):
        return Delta(data, None, finish=True)
    if "delta" not in data and "finish" not in data:
        return Delta(json.dumps(data, ensure_ascii=False), None, finish=True)
    text, index, finish = data.get("delta", ""), data.get("index"), data.get("finish")
    if not isinstance(text, str) or not isinstance(finish, bool):
        raise ProtocolError(f"the unit sent an answer without a text `delta` and a `finish`: {data!r:.200}")
    return Delta(text, index if type(index) is int else None, finish)


def join(deltas: list[Delta]) -> str:
    """The answer: the texts of the deltas by rising index.

    If the indices are not 0, 1, 2 … each once, they do not number this answer (some units count over all
    their sessions). Then the order of arrival counts, which the bus keeps.
    """
    if {delta.index for delta in deltas} == set(range(len(deltas))):
        deltas = sorted(deltas, key=lambda delta: delta.index or 0)
    joined = "".join(delta.text for delta in deltas)
    try:
        return joined.encode("utf-8", "surrogateescape").decode()
    except UnicodeError:
        raise ProtocolError("the unit's answer is not UTF-8") from None
