"""Audio that is not in JSON: as the whole body, or as a file in a multipart form."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import multipart  # type: ignore[import-untyped]
import numpy as np

from inference_service import audio_formats, budget
from inference_service.audio import headerless
from inference_service.audio.sniff import sniff
from inference_service.errors import BadRequest, TooLarge, UnsupportedMedia
from inference_service.http.requests import Source, whole_text
from inference_service.request_fields import language
from inference_service.tasks import Task

JSON_TYPES = ("application/json", "text/json")
MULTIPART = "multipart/form-data"
AUDIO_TYPES = audio_formats.MEDIA_TYPES

#: Limits of a form. Each of OpenAI's `keywords[]` is a part; a field is a text, a word or a number.
_MAX_PARTS = 1024
_MAX_FIELD_BYTES = 64 * 1024

#: Bytes of a form that are parsed at once.
_PIECE = 256 * 1024


def media_type(header: bytes | None) -> tuple[str, dict[str, str]]:
    """Return the type in lower case and the parameters of a Content-Type header; ("", {}) for None."""
    if header is None:
        return "", {}
    name, options = multipart.parse_options_header(header.decode("latin-1"))
    return name.strip().lower(), {key.lower(): value for key, value in options.items()}


def source_of_body(kind: str, options: dict[str, str], query: bytes, body: bytes, task: Task) -> Source:
    """Return the source of a request whose body is the audio.

    `kind` and `options` are its media type. The query may have format, sample_rate, channels, language and
    meeting_id. Raises UnsupportedMedia for a type that is not audio, BadRequest.
    """
    fields = _fields_of_query(query)
    named = audio_formats.of_media_type(kind)
    # The content decides what other audio is; where it does not, the type is one that is not read.
    if named is None and not (kind.startswith(("audio/", "video/")) and sniff(body) is not None):
        raise UnsupportedMedia(
            f"Content-Type {kind[:80]} is not supported; send application/json, {MULTIPART}, or the "
            f"audio itself as one of {', '.join(AUDIO_TYPES)}"
        )
    if isinstance(named, audio_formats.Headerless):
        # RFC 2586 and 4856: rate and channels are parameters of the type.
        fields = {"sample_rate": options.get("rate", ""), "channels": options.get("channels", ""), **fields}
    if kind == "application/octet-stream" and not fields.get("format"):
        headerless.check_is_pcm(memoryview(body))
    # RFC 2586: the samples of L16 are big-endian.
    big_endian = kind == "audio/l16" and options.get("endianness", "big-endian") != "little-endian"
    if big_endian and sniff(body) is None:
        body = _swapped(body)
    return _source(body, fields.get("format") or (named.name if named else None), fields, task)


def source_of_form(options: dict[str, str], query: bytes, body: bytes, task: Task) -> Source:
    """Return the source of a form: one file (any field name), and text fields. Raises BadRequest."""
    fields = _fields_of_query(query)
    audio: bytes | None = None
    named: str | None = None
    for part in form_parts(options, body):
        if part.filename is None and part.name != "file":
            fields[part.name] = part.text()
            continue
        if audio is not None:
            raise BadRequest("the form has more than one file; send one recording a request")
        audio = part.content
        named = format_of_file(part)
    if audio is None and not (task is Task.EMOTION and fields.get("text")):
        raise BadRequest("file: is required: the recording as a file of the form")
    return _source(audio, fields.get("format") or named, fields, task)


@dataclass(frozen=True, slots=True)
class FormPart:
    """One part of a multipart form; `filename` is None for a plain field, `kind` is its media type or ""."""

    name: str
    filename: str | None
    kind: str
    content: bytes

    def text(self) -> str:
        """Return the content of a plain field. Raises TooLarge, or BadRequest if it is not UTF-8."""
        if len(self.content) > _MAX_FIELD_BYTES:
            raise TooLarge(f"{self.name[:40]}: a field has at most {_MAX_FIELD_BYTES} bytes")
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRequest(f"{self.name[:40]}: is not UTF-8 text; send audio as a file") from None


def format_of_file(part: FormPart) -> str | None:
    """Return the name of the file's format by its media type or its own name, None if neither tells."""
    # application/octet-stream is what clients send for files whose type they do not know.
    by_type = None if part.kind == "application/octet-stream" else audio_formats.of_media_type(part.kind)
    named = by_type or audio_formats.of_file_name(part.filename or "")
    return named.name if named else None


def _source(audio: bytes | None, format: str | None, fields: dict[str, str], task: Task) -> Source:
    return Source(
        audio=audio,
        text=fields.get("text") if audio is None and task is Task.EMOTION else None,
        format=format,
        sample_rate=whole_text(fields.get("sample_rate"), "sample_rate"),
        channels=whole_text(fields.get("channels"), "channels"),
        language=language(fields.get("language")),
        meeting_id=fields.get("meeting_id", ""),
    )


def _fields_of_query(query: bytes) -> dict[str, str]:
    if not query:
        return {}
    try:
        return dict(
            parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=64, errors="strict")
        )
    except (UnicodeDecodeError, ValueError) as error:
        raise BadRequest(f"the query cannot be read: {error}") from None


def _swapped(body: bytes) -> bytes:
    budget.current().take(2 * len(body))
    if len(body) % 2:
        raise BadRequest(f"audio: {len(body)} bytes are not a whole number of 16-bit samples")
    return np.frombuffer(body, dtype=">i2").astype("<i2").tobytes()


def _events(parser: Any, body: bytes) -> Iterator[Any]:
    """The parser's events, in pieces of the body: each holds the interpreter's lock for less than 1 ms."""
    for start in range(0, len(body), _PIECE):
        yield from parser.parse(body[start : start + _PIECE])


def form_parts(options: dict[str, str], body: bytes) -> list[FormPart]:
    """Parse a multipart form; `options` are its media type's parameters. The request's lease holds the parts.

    Raises BadRequest, and Busy where the byte budget has no room.
    """
    boundary = options.get("boundary", "")
    if not boundary:
        raise BadRequest(f"{MULTIPART} without a boundary in Content-Type")
    budget.current().take(len(body))
    parts: list[FormPart] = []
    try:
        with multipart.PushMultipartParser(
            boundary, content_length=len(body), max_segment_count=_MAX_PARTS
        ) as parser:
            segment: multipart.MultipartSegment | None = None
            content: list[bytes] = []
            for event in _events(parser, body):
                if isinstance(event, multipart.MultipartSegment):
                    segment, content = event, []
                elif event:
                    content.append(bytes(event))
                elif segment is not None:
                    kind = (segment.content_type or "").lower()
                    parts.append(FormPart(segment.name, segment.filename, kind, b"".join(content)))
    except multipart.MultipartError as error:
        raise BadRequest(f"the form cannot be read: {error.args[0]}") from None
    return parts
