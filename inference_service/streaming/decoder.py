"""Turns a stream's bytes, cut anywhere, into one continuous waveform: WAV and audio without a header."""

from collections.abc import AsyncIterator

from inference_service import audio_formats as formats
from inference_service.audio import SPEECH_RATE, headerless, wav
from inference_service.audio.mono import Mono, Waveform
from inference_service.errors import BadRequest
from inference_service.streaming.format import WAV, StreamFormat

#: Hz, the rate of speech models. Streams are converted to it when they arrive.
STREAM_RATE = SPEECH_RATE

#: Bytes; no recorder writes more before a WAV's samples.
_MAX_WAV_HEADER = 64 * 1024

#: Seconds of audio that are decoded at once, so that a big chunk does not block the event loop.
_SLICE_SECONDS = 1.0


class Decoder:
    """Decodes the bytes of one `StreamFormat` into float32 mono in [-1, 1] at `STREAM_RATE`.

    A chunk may end inside a sample: the sample's first bytes wait for the rest.
    """

    def __init__(self, format: StreamFormat) -> None:
        self._is_wav = format.kind is WAV
        self._held = b""  # the start of a frame or of a WAV header, which the next chunk completes
        self._left: int | None = None  # bytes of samples until the WAV ends; None: until the stream ends
        self._layout: wav.Layout | None = None
        self._mono = Mono(STREAM_RATE)
        self._frames = 0
        if isinstance(format.kind, formats.Headerless):
            self._layout = headerless.layout(format.kind, format.rate, format.channels)

    @property
    def received(self) -> int:
        """The number of samples at `STREAM_RATE` for the input so far, with those still in the resampler."""
        if self._layout is None:
            return 0
        return -(-self._frames * STREAM_RATE // self._layout.sample_rate)

    async def decode(self, data: bytes) -> AsyncIterator[Waveform]:
        """Yield the waveform of `data`, a second at a time. Raises BadRequest for an unreadable WAV."""
        if self._is_wav:
            data = self._without_header(data)
        layout = self._layout
        if layout is None:
            return
        if self._left is not None:
            data, after = data[: self._left], data[self._left :]
            self._left -= len(data)
            _check_not_audio(after)
        frame = layout.block
        if self._held:
            data = self._held + data
        whole = len(data) - len(data) % frame
        self._held = data[whole:]
        step = max(1, int(_SLICE_SECONDS * layout.sample_rate)) * frame
        for start in range(0, whole, step):
            part = memoryview(data)[start : min(start + step, whole)]
            self._frames += len(part) // frame
            yield self._mono.add(wav.samples(part, layout), layout.sample_rate)

    async def finish(self) -> AsyncIterator[Waveform]:
        """Yield the rest of the waveform, from the resampler. Nothing may be decoded afterwards."""
        yield self._mono.finish()

    def close(self) -> None:
        """There is nothing to release."""

    def check_whole(self) -> None:
        """Raises BadRequest if the bytes so far end inside a sample or a WAV header."""
        if self._layout is None:
            if self._held:
                raise BadRequest(f"audio: WAV header is cut short after {len(self._held)} bytes")
        elif self._held and not self._is_wav:  # a stopped recorder leaves a WAV with half a frame
            frame = self._layout.block
            bits = 8 * self._layout.width
            raise BadRequest(
                f"audio: the PCM ends in the middle of a frame: {len(self._held)} of its {frame} bytes came"
                f" ({bits}-bit samples, channels: {self._layout.channels})"
            )

    def _without_header(self, data: bytes) -> bytes:
        """The bytes of `data` that are samples. Reads the header if it has not been read, and skips the same
        header at the start of a later chunk, because some clients send every chunk as a WAV of its own."""
        if self._layout is not None:
            if self._held or not wav.is_wav(data):
                return data
            layout = _read_header(data)
            if layout is None:
                raise BadRequest(
                    f"audio: a WAV header inside the stream is cut short after {len(data)} bytes"
                )
            if layout != self._layout:
                raise BadRequest(
                    "audio: a second WAV with another rate, channel count or sample type in one stream; "
                    "end the stream (is_final) before it"
                )
        else:
            data, self._held = self._held + data, b""
            if not wav.is_wav(data) and len(data) >= 12:
                raise BadRequest("format: wav was announced, but the stream does not start with a WAV header")
            layout = _read_header(data)
            if layout is None:
                if len(data) > _MAX_WAV_HEADER:
                    raise BadRequest(f"audio: no samples in the first {_MAX_WAV_HEADER} bytes of the WAV")
                self._held = data
                return b""
            self._layout = layout
        self._left = None if layout.is_open_ended else layout.size
        return data[layout.offset :]


def _read_header(data: bytes) -> wav.Layout | None:
    """The layout of a WAV; None if its header is not complete. Raises BadRequest if it cannot be streamed."""
    layout = wav.read_header(data)
    if layout is not None and not layout.is_plain:
        raise BadRequest("audio: this WAV is compressed and cannot be streamed; send PCM samples")
    return layout


def _check_not_audio(after: bytes) -> None:
    """Other RIFF chunks may follow a WAV's samples. More samples than the header declares would be lost, so
    they are refused."""
    name = after[:4].lstrip(b"\0")  # an odd length is padded
    if not all(0x20 <= byte < 0x7F for byte in name):
        raise BadRequest("audio: the WAV goes on after the samples that its header declares")
