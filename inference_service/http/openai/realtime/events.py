"""The events of a real-time session: those that clients send, and the envelopes of those that they get."""

from __future__ import annotations

import re
import secrets
from typing import Any

import msgspec
import pybase64

from inference_service.errors import BadRequest, ServiceError
from inference_service.http.openai.errors import FieldRefused, error_detail
from inference_service.http.openai.realtime.updates import BetaUpdate, SessionUpdate


class ClientEvent(msgspec.Struct):
    """What every event of a client has."""

    type: str
    event_id: str | None = None


class _Append(msgspec.Struct):
    audio: str


class _Update(msgspec.Struct):
    session: msgspec.Raw


class _Kind(msgspec.Struct):
    """The fields that only one of the two forms of a session has."""

    type: Any = None
    audio: Any = None


class InvalidEvent(BadRequest):
    """A message that is no event. `event_id` is that of the message, where it has one."""

    code = "invalid_value"


def new_id(prefix: str) -> str:
    """A new id of an event, an item or a session."""
    return f"{prefix}_{secrets.token_hex(12)}"


def read_event(message: bytes | str) -> ClientEvent:
    """The event in a message, without its content. Raises InvalidEvent."""
    if isinstance(message, bytes):
        raise InvalidEvent("events are JSON texts; send audio in base64 with input_audio_buffer.append")
    return _decode(message, ClientEvent, "")


def read_audio(message: str) -> bytes:
    """The audio of an `input_audio_buffer.append`. Raises FieldRefused."""
    text: str = _decode(message, _Append, "").audio
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        raise FieldRefused("audio", "is not base64") from None


def read_update(message: str) -> SessionUpdate | BetaUpdate:
    """The session of an update, in the beta's form if it is one. Raises FieldRefused."""
    session = _decode(message, _Update, "").session
    kind = _decode(session, _Kind, "session")
    if kind.type is None and kind.audio is None:
        return _decode(session, BetaUpdate, "session")
    return _decode(session, SessionUpdate, "session")


def failure(error: ServiceError, event_id: str | None = None) -> dict[str, Any]:
    """The content of an `error` event. `event_id` is the client's event that caused it."""
    detail = msgspec.structs.asdict(error_detail(error))
    return {**detail, "event_id": event_id}


def _decode(message: str | msgspec.Raw, kind: type[Any], path: str) -> Any:
    try:
        # Numbers and booleans may come as texts.
        return msgspec.json.decode(message, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), path) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"the message is not JSON: {error}") from None
    except RecursionError:
        raise InvalidEvent("the message is nested too deeply") from None


def _refusal(reason: str, path: str) -> BadRequest:
    """msgspec's reason, such as ``Expected `int`, got `str` - at `$.audio` ``, as that of the field."""
    problem, _, where = reason.replace("`", "").partition(" - at ")
    inner = where.removeprefix("$").lstrip(".")
    code = "invalid_value"
    if missing := re.fullmatch(r"Object missing required field (\w+)", problem):
        inner, problem, code = (
            f"{inner}.{missing[1]}".lstrip("."),
            "is required",
            "missing_required_parameter",
        )
    elif unknown := re.fullmatch(r"Object contains unknown field (.+)", problem):
        inner, problem, code = f"{inner}.{unknown[1]}".lstrip("."), "is not known here", "unknown_parameter"
    field = ".".join(part for part in (path, inner) if part)
    if not field:
        return InvalidEvent(f"the message: {problem[:1].lower()}{problem[1:]}")
    return FieldRefused(field[:200], problem[:1].lower() + problem[1:], code)
