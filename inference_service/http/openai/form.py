"""The multipart form of POST /v1/audio/transcriptions."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from inference_service.errors import BadRequest, NotFound
from inference_service.http.requests import Source
from inference_service.http.upload import MULTIPART, FormPart, form_parts, format_of_file
from inference_service.request_fields import language
from inference_service.tasks import TranscribeOptions

#: OpenAI's names for speech recognition. This node's model answers to them, so that clients need no change.
OPENAI_NAMES = ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
Granularity = Literal["segment", "word"]


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """The fields of the form."""

    source: Source
    prompt: str | None
    temperature: float
    format: Format
    granularities: frozenset[Granularity]
    stream: bool
    hotwords: str | None = None
    carry_text: bool = False

    @property
    def options(self) -> TranscribeOptions:
        """The options of speech recognition. Formats with times ask for words: segments last up to 30 s."""
        timed = self.format in ("srt", "vtt", "verbose_json")
        return TranscribeOptions(
            self.source.language,
            timed,
            self.prompt,
            self.temperature,
            carry_text=self.carry_text,
            hotwords=self.hotwords,
        )


def read_form(
    kind: str, options: dict[str, str], body: bytes, models: tuple[str, ...]
) -> TranscriptionRequest:
    if kind != MULTIPART:
        raise BadRequest(f"Content-Type: expected {MULTIPART}, got {kind[:80] or 'nothing'}")
    file: FormPart | None = None
    fields: dict[str, list[str]] = {}
    for part in form_parts(options, body):
        if part.name == "file":
            if file is not None:
                raise BadRequest("file: is given twice; send one recording a request")
            file = part
        else:
            fields.setdefault(part.name.removesuffix("[]"), []).append(part.text())
    if file is None:
        raise BadRequest("file: is required")
    name = _one(fields, "model")
    if name is None:
        raise BadRequest("model: is required")
    if name not in models:
        raise NotFound(no_model(name, models))
    if fields.get("include"):
        raise BadRequest("include: is not available here: log probabilities are not returned")
    format = cast(Format, _choice(fields, "response_format", get_args(Format)) or "json")
    stream = _choice(fields, "stream", ("true", "false")) == "true"
    if stream and format not in ("json", "text"):
        raise BadRequest(f"stream: true goes with response_format json or text, not with {format}")
    return TranscriptionRequest(
        source=Source(
            audio=file.content,
            text=None,
            format=format_of_file(file),
            sample_rate=16000,
            channels=1,
            language=language(_one(fields, "language")),
            meeting_id="",
        ),
        prompt=_one(fields, "prompt") or None,
        temperature=_temperature(_one(fields, "temperature")),
        format=format,
        granularities=_granularities(fields.get("timestamp_granularities", []), format),
        stream=stream,
        hotwords=_one(fields, "hotwords") or None,
        carry_text=_choice(fields, "condition_on_previous_text", ("true", "false")) == "true",
    )


def _one(fields: dict[str, list[str]], name: str) -> str | None:
    values = fields.get(name, [])
    if len(values) > 1:
        raise BadRequest(f"{name}: is given {len(values)} times")
    return values[0] if values else None


def _choice(fields: dict[str, list[str]], name: str, allowed: tuple[str, ...]) -> str | None:
    value = _one(fields, name)
    if value is None or value.lower() in allowed:
        return value.lower() if value else value
    raise BadRequest(f"{name}: {value[:40]!r} is not known; allowed are {', '.join(allowed)}")


def _temperature(text: str | None) -> float:
    if not text:
        return 0.0
    try:
        value = float(text)
    except ValueError:
        raise BadRequest(f"temperature: expected a number, got {text[:40]!r}") from None
    if not 0 <= value <= 1:
        raise BadRequest(f"temperature: {value:g} is not between 0 and 1")
    return value


def _granularities(values: list[str], format: Format) -> frozenset[Granularity]:
    for value in values:
        if value not in get_args(Granularity):
            raise BadRequest(
                f"timestamp_granularities: {value[:40]!r} is not known; allowed are segment and word"
            )
    if values and format != "verbose_json":
        raise BadRequest("timestamp_granularities: need response_format verbose_json")
    return cast(frozenset[Granularity], frozenset(values or ["segment"]))


def no_model(name: str, models: tuple[str, ...]) -> str:
    return f"model: {name[:60]!r} is unknown; this node has {', '.join(models)}"
