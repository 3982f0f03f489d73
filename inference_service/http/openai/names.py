"""OpenAI's names for speech recognition. A node answers to them with its own model, so that clients need no
change."""

import re

from inference_service.errors import NotFound

#: For recordings and for real-time sessions. Each may also come with a date, as in `whisper-1-2025-12-15`.
OPENAI_NAMES = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-live-transcribe",
    "gpt-realtime-whisper",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
)

_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}")

#: Models that do what no model here does.
_DIARIZE = re.compile(r".*-diarize(-.*)?")


class ModelNotFound(NotFound):
    """No model of this node has the name."""

    code = "model_not_found"


def is_transcriber(name: str) -> bool:
    """Whether OpenAI's model of this name transcribes and does no more."""
    return _DATE.sub("", name) in OPENAI_NAMES


def check_model(name: str, own: str) -> None:
    """Raise ModelNotFound unless `name` is the node's `own` model or one of OpenAI's names."""
    known = (own, *OPENAI_NAMES)
    if name == own or is_transcriber(name):
        return
    if _DIARIZE.fullmatch(name):
        raise ModelNotFound(f"model: {name[:60]!r} tells speakers apart, which this node cannot do")
    raise ModelNotFound(
        f"model: {name[:60]!r} is unknown; this node has {', '.join(known)}, and these names with a date"
    )
