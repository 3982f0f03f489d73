"""What a process that decodes is asked to do, and how it fails."""

from typing import Literal

import msgspec


class NotRecognised(Exception):
    """No library recognises the recording."""


class Job(msgspec.Struct):
    """What is to be decoded: a whole file, or a stream that comes in pieces.

    `reader` "unknown": nothing is known of the content. `demuxer` is FFmpeg's name, `label` names the format
    in messages. `rate` is the waveform's in Hz, `max_seconds` the longest that it may be.
    """

    reader: Literal["libsndfile", "ffmpeg", "unknown", "stream"]
    demuxer: str | None
    label: str
    rate: int
    max_seconds: float


class Failure(msgspec.Struct):
    """An error on its way to the service: the name of its class, and its text."""

    kind: str
    text: str
