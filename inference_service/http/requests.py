"""Requests in JSON, and their conversion to audio, text and options. Errors name the field."""

import codecs
import re
from typing import Annotated, TypeVar

import msgspec
import pybase64

from inference_service import audio_formats
from inference_service.audio import Audio, Limits, Recording, decode_beside_the_loop
from inference_service.errors import BadRequest
from inference_service.request_fields import language
from inference_service.settings import Settings
from inference_service.tasks import TASK_NAMES, Task

_T = TypeVar("_T")

#: An id in the original service's clients is a number or a string.
Id = int | str

#: The largest sample rate or channel count that a request may name.
MAX_COUNT = 2**31 - 1

# `Meta` of the fields below is for the API's description alone; the functions below check them.
_TaskName = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(TASK_NAMES)})]
# Text, because pages and scripts pass on what a form field holds.
_Count = Annotated[
    int | float | str,
    msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": MAX_COUNT, "pattern": "^[0-9]{1,9}$"}),
]
_TEXT = {"type": "string"}


class AudioRequest(msgspec.Struct):
    """`/asr`, `/emotion`, `/synthesis`, and the `data` of a `/batch` task."""

    # Raw: the text between the quotes is decoded straight from the request's bytes.
    audio_data: Annotated[
        msgspec.Raw, msgspec.Meta(description="The recording in base64", extra_json_schema=_TEXT)
    ] = msgspec.field(default_factory=msgspec.Raw)
    format: Annotated[str | None, msgspec.Meta(description=audio_formats.FIELD)] = None
    sample_rate: Annotated[_Count | None, msgspec.Meta(description=audio_formats.RATE_FIELD)] = None
    channels: Annotated[_Count | None, msgspec.Meta(description=audio_formats.CHANNELS_FIELD)] = None
    language: Annotated[str | None, msgspec.Meta(description="The language spoken; default: detected")] = None
    meeting_id: Id | None = None
    text: Annotated[str | None, msgspec.Meta(description="For /emotion, instead of audio_data")] = None


class SetupRequest(msgspec.Struct):
    """`/setup`."""

    meeting_id: Id | None = None
    models: list[_TaskName] | None = None


class AnalyzeRequest(msgspec.Struct):
    """`/analyze`."""

    task_type: _TaskName | None = None
    input_data: Annotated[
        msgspec.Raw,
        msgspec.Meta(
            description="Audio in base64; for emotion without params.format, text in base64",
            extra_json_schema=_TEXT,
        ),
    ] = msgspec.field(default_factory=msgspec.Raw)
    params: Annotated[
        dict[str, str | int | float | None] | None,
        msgspec.Meta(description="format (default pcm), sample_rate, channels, language, text"),
    ] = None
    meeting_id: Id | None = None
    user_id: Id | None = None


class BatchTask(msgspec.Struct):
    """One task of `/batch`. `data` is decoded separately, so a mistake in it fails this task only."""

    task_id: Id | None = None
    type: _TaskName | None = None
    data: Annotated[
        msgspec.Raw, msgspec.Meta(extra_json_schema={"$ref": "#/components/schemas/AudioRequest"})
    ] = msgspec.field(default_factory=msgspec.Raw)


class BatchRequest(msgspec.Struct):
    """`/batch`."""

    tasks: list[BatchTask]


class Source(msgspec.Struct):
    """The input of an inference, from JSON, a raw body or a form: encoded audio, or text."""

    audio: bytes | bytearray | memoryview | None
    text: str | None
    format: str | None
    sample_rate: int | None
    channels: int | None
    language: str | None
    meeting_id: str


_decoders = {
    kind: msgspec.json.Decoder(kind) for kind in (AudioRequest, SetupRequest, AnalyzeRequest, BatchRequest)
}


#: Editors and shells on Windows write it before a text in UTF-8.
_BYTE_ORDER_MARK = codecs.BOM_UTF8


def decode_json(body: bytes | memoryview, kind: type[_T], where: str = "") -> _T:
    """Decode `body` as a `kind`. Raises BadRequest with the field's path, which begins with `where`."""
    if body[:3] == _BYTE_ORDER_MARK:
        body = memoryview(body)[3:]
    try:
        return _decoders[kind].decode(body)  # type: ignore[index,return-value]
    except msgspec.ValidationError as error:
        raise BadRequest(_plain_reason(str(error), where)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if body[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise BadRequest(f"{where or 'the body'} is UTF-16; send JSON in UTF-8") from None
        raise BadRequest(f"{where or 'the body'} is not JSON: {error}") from None
    except RecursionError:
        raise BadRequest(f"{where or 'the body'} is nested too deeply") from None


def _plain_reason(reason: str, where: str) -> str:
    """Rewrite msgspec's ``Expected `int`, got `str` - at `$.a.b` `` as `a.b: expected int, got str`."""
    problem, _, path = reason.replace("`", "").partition(" - at ")
    field = path.removeprefix("$").lstrip(".")
    if missing := re.fullmatch(r"Object missing required field (\w+)", problem):
        field = f"{field}.{missing[1]}".lstrip(".")
        problem = "is required"
    field = ".".join(part for part in (where, field) if part)
    problem = problem[:1].lower() + problem[1:]
    return f"{field}: {problem}" if field else f"the body: {problem}"


def source_of(request: AudioRequest, task: Task, where: str = "") -> Source:
    """Return the source of a JSON request: its audio, or for emotion without audio its text.

    Raises BadRequest with the field, whose path begins with `where`.
    """
    prefix = f"{where}." if where else ""
    audio = decode_base64(request.audio_data, f"{prefix}audio_data")
    text = request.text if task is Task.EMOTION and audio is None and request.text else None
    if audio is None and text is None:
        raise BadRequest(f"{prefix}audio_data: is required" + (" (or text)" if task is Task.EMOTION else ""))
    return Source(
        audio=audio,
        text=text,
        format=request.format or None,
        sample_rate=whole(request.sample_rate, f"{prefix}sample_rate"),
        channels=whole(request.channels, f"{prefix}channels"),
        language=language(request.language, f"{prefix}language"),
        meeting_id=id_text(request.meeting_id),
    )


async def audio_of(source: Source, settings: Settings) -> Audio | None:
    """Decode the source's audio. Returns None for text.

    Raises BadRequest, TooLarge and RuntimeTimeout.
    """
    if source.audio is None:
        return None
    recording = Recording(source.audio, source.format, source.sample_rate, source.channels)
    return await decode_beside_the_loop(recording, audio_limits(settings))


def audio_limits(settings: Settings) -> Limits:
    """Return the bounds of decoding one request's audio."""
    return Limits(settings.ai.request.max_audio_seconds, settings.ai.models.sample_rate)


def decode_base64(raw: msgspec.Raw, field: str) -> bytes | None:
    """Decode a JSON string in base64. Returns None for null, "" and an absent field.

    Accepts the variants that clients send: without padding, URL-safe, in wrapped lines, as a data: URL.
    Raises BadRequest.
    """
    quoted = memoryview(raw)
    if len(quoted) == 0 or quoted == b"null" or quoted == b'""':
        return None
    if quoted[0] != 0x22:
        raise BadRequest(f"{field}: expected a string in base64")
    try:
        return pybase64.b64decode(quoted[1:-1], validate=True)
    except ValueError:
        return _decode_unusual_base64(msgspec.json.decode(raw, type=str), field)


_URL_SAFE, _STANDARD = frozenset("-_"), frozenset("+/")
_TO_STANDARD = str.maketrans("-_", "+/")
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,")


def _decode_unusual_base64(text: str, field: str) -> bytes | None:
    if prefix := _DATA_URL.match(text):
        text = text[prefix.end() :]
    compact = "".join(text.split()).rstrip("=")
    if not compact:
        return None
    if len(compact) % 4 == 1:
        raise BadRequest(f"{field}: is not base64: {len(compact)} characters cannot be whole bytes")
    if not _URL_SAFE.isdisjoint(compact) and _STANDARD.isdisjoint(compact):
        compact = compact.translate(_TO_STANDARD)
    try:
        return pybase64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except ValueError:
        wrong = re.search(r"[^A-Za-z0-9+/]", compact)
        reason = (
            f"unexpected character {wrong[0]!r}"
            if wrong
            else "trailing bits in the last character (truncated?)"
        )
        raise BadRequest(f"{field}: is not base64: {reason}") from None


def whole(value: float | str | None, field: str) -> int | None:
    """Return a count or a rate as an int, None for None.

    Raises BadRequest unless it is a whole number from 0 to MAX_COUNT.
    """
    if isinstance(value, str):
        return whole_text(value, field)
    if value is None:
        return None
    if isinstance(value, float) and not value.is_integer():
        raise BadRequest(f"{field}: expected a whole number, got {value:g}")
    if not 0 <= value <= MAX_COUNT:
        raise BadRequest(f"{field}: expected a number between 0 and {MAX_COUNT}")
    return int(value)


def whole_text(text: str | None, field: str) -> int | None:
    """Like `whole`, for numbers that arrive as text: in a query, a form or `params`."""
    if text is None or text == "":
        return None
    if not re.fullmatch(r"[0-9]{1,10}", text.strip()):
        raise BadRequest(f"{field}: expected a whole number, got {text[:40]!r}")
    return whole(int(text), field)


def id_text(value: Id | None) -> str:
    """Return the id of a meeting or a user as text, "" for None."""
    return "" if value is None else str(value)


def task_named(name: str | None, field: str) -> Task:
    """Return the task by its long or short name. Raises BadRequest."""
    if name is None or name == "":
        raise BadRequest(f"{field}: is required: one of {', '.join(TASK_NAMES)}")
    task = TASK_NAMES.get(name)
    if task is None:
        raise BadRequest(f"{field}: {name[:40]!r} is not a task; allowed are {', '.join(TASK_NAMES)}")
    return task
