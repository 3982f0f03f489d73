"""The values that the command line's options take; each raises typer.BadParameter with what is allowed."""

import re
from enum import StrEnum

import typer

from inference_service import audio_formats


class Task(StrEnum):
    """What is asked of a recording."""

    ASR = "asr"
    EMOTION = "emotion"
    SYNTHESIS = "synthesis"


class Format(StrEnum):
    """How a result is written."""

    TXT = "txt"
    SRT = "srt"
    VTT = "vtt"
    JSON = "json"


def host_port(text: str) -> str:
    """HOST:PORT."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+):([0-9]{1,5})", text)
    if match is None or not 0 < int(match[2]) < 65536:
        raise typer.BadParameter(f"expected HOST:PORT, got {text!r}")
    return text


def key(text: str) -> str:
    """The key without the line break that files end with. An error does not show it."""
    if not re.fullmatch(r"[!-~]*", text.strip()):
        raise typer.BadParameter("expected letters, digits and signs of ASCII, without blanks")
    return text.strip()


def language(text: str) -> str:
    """A code or a name."""
    if not text.isascii():
        raise typer.BadParameter(f"expected a language such as en or german, got {text!r}")
    return text


def count(text: str | int) -> int:
    """A whole number; Typer gives defaults as they are."""
    if not re.fullmatch(r"[0-9]{1,9}", str(text)):
        raise typer.BadParameter(f"expected a whole number, got {text!r}")
    return int(text)


def positive(text: str | int) -> int:
    """A whole number that is not 0."""
    if not count(text):
        raise typer.BadParameter("expected more than 0")
    return int(text)


def written_format(text: str) -> Format:
    """The format of results."""
    if text in tuple(Format):
        return Format(text)
    if audio_formats.named(text) is not None:
        raise typer.BadParameter(
            f"{text} is a format of recordings: --input-format {text}; expected {', '.join(Format)}"
        )
    raise typer.BadParameter(f"expected one of {', '.join(Format)}; got {text!r}")


def input_format(text: str) -> str:
    """The format of audio without a header."""
    if audio_formats.named(text) is None:
        raise typer.BadParameter(f"expected one of {audio_formats.names()}; got {text!r}")
    return text
