"""The multipart forms of POST /v1/audio/transcriptions and /v1/audio/translations."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from inference_service.errors import BadRequest
from inference_service.http.openai.errors import FieldRefused
from inference_service.http.openai.fields import Fields, says_no
from inference_service.http.openai.names import check_model
from inference_service.http.requests import Source
from inference_service.http.upload import MULTIPART, FormPart, form_parts, format_of_file
from inference_service.request_fields import language
from inference_service.tasks import TranscribeOptions

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
Granularity = Literal["segment", "word"]

#: Fields that would change the answer, and that no model here can honour.
_REFUSED = {
    "known_speaker_names": "this node does not tell speakers apart",
    "known_speaker_references": "this node does not tell speakers apart",
    "diarize": "this node does not tell speakers apart",
    "translate": "send the form to /v1/audio/translations for an English text",
    "task": "the route names the task: /v1/audio/transcriptions or /v1/audio/translations",
}

#: Fields that change nothing in the answer.
_WITHOUT_EFFECT = ("user", "metadata", "safety_identifier")


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """The fields of the form. `options` are those of speech recognition."""

    source: Source
    options: TranscribeOptions
    format: Format
    granularities: frozenset[Granularity]
    stream: bool = False


def read_transcription(kind: str, options: dict[str, str], body: bytes, model: str) -> TranscriptionRequest:
    """The form of a transcription. `kind` and `options` are its media type, `model` is the node's own name.

    Raises BadRequest and its FieldRefused, ModelNotFound, TooLarge.
    """
    file, fields = _parts(kind, options, body)
    _check_model(fields, model)
    format = _format(fields)
    stream = fields.flag("stream")
    if stream and format == "verbose_json":
        raise FieldRefused(
            "stream", f"true goes with response_format json, text, srt or vtt, not with {format}"
        )
    _check_chunking(fields)
    if fields.texts("include", by_comma=True):
        raise FieldRefused(
            "include", "is not available here: log probabilities are not returned", "unsupported_parameter"
        )
    spoken, possible = _languages(fields)
    words = [*fields.texts("keywords"), *fields.texts("hotwords")]
    options_ = TranscribeOptions(
        language=spoken,
        languages=possible,
        word_timestamps=_is_timed(format),
        prompt=fields.text("prompt"),
        temperature=fields.number("temperature", 0, 1) or 0.0,
        hotwords=", ".join(words) or None,
        carry_text=fields.flag("condition_on_previous_text"),
    )
    granularities = _granularities(fields, format)
    _refuse_others(fields)
    return TranscriptionRequest(_source(file, options_.language), options_, format, granularities, stream)


def read_translation(kind: str, options: dict[str, str], body: bytes, model: str) -> TranscriptionRequest:
    """The form of a translation. Takes and raises what `read_transcription` does."""
    file, fields = _parts(kind, options, body)
    _check_model(fields, model)
    format = _format(fields)
    options_ = TranscribeOptions(
        word_timestamps=_is_timed(format),
        prompt=fields.text("prompt"),
        temperature=fields.number("temperature", 0, 1) or 0.0,
        translate=True,
    )
    _refuse_others(fields)
    return TranscriptionRequest(_source(file, None), options_, format, frozenset(["segment"]))


def _parts(kind: str, options: dict[str, str], body: bytes) -> tuple[FormPart, Fields]:
    if kind != MULTIPART:
        raise BadRequest(f"Content-Type: expected {MULTIPART}, got {kind[:80] or 'nothing'}")
    parts = form_parts(options, body)
    files = [part for part in parts if part.name == "file"]
    if len(files) > 1:
        raise FieldRefused("file", "is given twice; send one recording a request")
    if not files:
        raise FieldRefused("file", "is required", "missing_required_parameter")
    return files[0], Fields(part for part in parts if part.name != "file")


def _check_model(fields: Fields, own: str) -> None:
    name = fields.text("model")
    if name is None:
        raise FieldRefused("model", "is required", "missing_required_parameter")
    check_model(name, own)


def _format(fields: Fields) -> Format:
    return cast(Format, fields.choice("response_format", get_args(Format)) or "json")


def _is_timed(format: Format) -> bool:
    """Formats with times need the times of words: segments last up to 30 s."""
    return format in ("srt", "vtt", "verbose_json")


def _languages(fields: Fields) -> tuple[str | None, tuple[str, ...]]:
    """The language, and the possible ones where there are several."""
    spoken = language(fields.text("language"))
    named = [language(each, "languages") for each in fields.texts("languages", by_comma=True)]
    possible = tuple(dict.fromkeys(code for code in named if code))
    if spoken is not None and possible and spoken not in possible:
        raise FieldRefused("languages", f"has not the language {spoken}, which the field language names")
    if spoken is None and len(possible) == 1:
        return possible[0], ()
    return spoken, () if spoken else possible


def _granularities(fields: Fields, format: Format) -> frozenset[Granularity]:
    values = fields.texts("timestamp_granularities", by_comma=True)
    for value in values:
        if value not in get_args(Granularity):
            raise FieldRefused(
                "timestamp_granularities", f"{value[:40]!r} is not known; allowed are segment and word"
            )
    if values and format != "verbose_json":
        raise FieldRefused("timestamp_granularities", "need response_format verbose_json")
    return cast(frozenset[Granularity], frozenset(values or ["segment"]))


def _check_chunking(fields: Fields) -> None:
    """The service always cuts at pauses, which is `auto`."""
    chunking = fields.options("chunking_strategy")
    if isinstance(chunking, dict):
        kind, *more = chunking.get("type"), *(key for key in chunking if key != "type")
        if more:
            raise FieldRefused(
                "chunking_strategy", f"{more[0][:40]} cannot be set here", "unsupported_parameter"
            )
        chunking = kind
    if chunking not in (None, "auto", "server_vad"):
        raise FieldRefused(
            "chunking_strategy", f"{str(chunking)[:40]!r} is not known; allowed are auto and server_vad"
        )


def _refuse_others(fields: Fields) -> None:
    for name, text in fields.unread:
        if name in _WITHOUT_EFFECT:
            continue
        if name in _REFUSED:
            if not says_no(text):
                raise FieldRefused(name, _REFUSED[name], "unsupported_parameter")
        else:
            raise FieldRefused(name[:60], "is not a field of this route", "unknown_parameter")


def _source(file: FormPart, language: str | None) -> Source:
    return Source(
        audio=file.content,
        text=None,
        format=format_of_file(file),
        sample_rate=None,
        channels=None,
        language=language,
        meeting_id="",
    )
