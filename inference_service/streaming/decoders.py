"""The decoder of a stream, by its format."""

from collections.abc import AsyncIterator
from typing import Protocol

from inference_service import audio_formats as formats
from inference_service.audio.mono import Waveform
from inference_service.streaming.coded import CodedDecoder
from inference_service.streaming.decoder import STREAM_RATE, Decoder
from inference_service.streaming.format import WAV, StreamFormat

#: Formats without a header that FFmpeg decodes.
_CODED = (formats.GSM, formats.G722, formats.G729)


class StreamDecoder(Protocol):
    """Decodes the bytes of one stream into float32 mono in [-1, 1] at `STREAM_RATE`."""

    @property
    def received(self) -> int:
        """The number of samples at `STREAM_RATE` for the input so far, with those still in the resampler."""

    def decode(self, data: bytes) -> AsyncIterator[Waveform]:
        """Yield the waveform of the next bytes, at most a second at a time. Raises BadRequest, Busy."""

    def finish(self) -> AsyncIterator[Waveform]:
        """Yield the rest of the waveform. Nothing may be decoded afterwards."""

    def check_whole(self) -> None:
        """Raise BadRequest if the stream ended where no recording ends. Called after `finish`."""

    def close(self) -> None:
        """Release what the decoder holds, wherever it is."""


def decoder_of(format: StreamFormat) -> StreamDecoder:
    """Return a new decoder for a stream of this format."""
    is_plain = format.kind is WAV or (
        isinstance(format.kind, formats.Headerless) and format.kind not in _CODED
    )
    return Decoder(format) if is_plain else CodedDecoder(format.kind, STREAM_RATE)
