"""Requests in JSON, and their conversion to audio, text and options. Errors name the field."""

import re
from typing import Annotated

import msgspec

from inference_service import audio_formats, budget
from inference_service.audio import Audio, Recording
from inference_service.engine import Engine
from inference_service.errors import BadRequest
from inference_service.http import base64_text
from inference_service.intake import decoded
from inference_service.request_fields import language
from inference_service.tasks import TASK_NAMES, Task

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


async def audio_of(source: Source, engine: Engine, task: Task) -> Audio | None:
    """Decode the source's audio for `task`. Returns None for text. Raises what `decoded` raises."""
    if source.audio is None:
        return None
    recording = Recording(source.audio, source.format, source.sample_rate, source.channels)
    return await decoded(recording, engine, task)


def decode_base64(raw: msgspec.Raw, field: str) -> bytes | None:
    """Decode a JSON string in base64; the request's lease holds the result. Returns None for null, "" and an
    absent field. Raises BadRequest, and Busy where the byte budget has no room."""
    quoted = memoryview(raw)
    if len(quoted) == 0 or quoted == b"null" or quoted == b'""':
        return None
    if quoted[0] != 0x22:
        raise BadRequest(f"{field}: expected a string in base64")
    budget.current().take(len(quoted) * 3 // 4)
    return base64_text.decode(quoted, field)


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
