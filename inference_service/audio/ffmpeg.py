"""Decodes with FFmpeg's libraries (PyAV): every format that neither numpy nor libsndfile reads wholly.

PyAV must be imported in processes of `decoder_process` only: a damaged recording can crash it.
"""

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import av
import av.audio.resampler
import av.filter.graph
import av.subtitles.stream  # PyAV imports it with the first stream of any kind
import numpy as np
from numpy.typing import NDArray

from inference_service.audio.allowed import DECODER_LIST, DECODERS, DEMUXER_LIST, HEADERLESS
from inference_service.audio.limits import MAX_CHANNELS
from inference_service.audio.mono import Block
from inference_service.errors import BadRequest

#: What PyAV raises beside FFmpeg's errors for files that make no sense.
_OTHER_ERRORS = (ValueError, OverflowError, LookupError, MemoryError)

#: Seconds of audio that are handed on at once. Frames have a few milliseconds.
_BLOCK_SECONDS = 1.0

#: The share of a recording's packets that may be damaged. A file that was cut has one, and joined MP3s have
#: one at each border; more is a damaged file, whose text would have holes.
_MAX_DAMAGED = 0.05
_DAMAGED_AT_BORDERS = 3

#: Bytes that FFmpeg reads at once, and reads before it must know the streams.
_READ_BYTES = 32 * 1024
_PROBED_BYTES = 2_000_000

_READ_BY_NUMPY = frozenset({"dbl", "dblp", "flt", "fltp", "s16", "s16p", "s32", "s32p", "u8", "u8p"})

#: Full scale and offset of FFmpeg's sample types that are not float32 or int16.
_TO_FLOAT: dict[str, tuple[float, float]] = {
    "u1": (1 / 128, -1.0),
    "i4": (1 / 2147483648, 0.0),
}


def blocks(data: memoryview, *, demuxer: str | None, label: str) -> Iterator[Block]:
    """Yield the first audio track of a recording in blocks of about a second.

    `demuxer` None: FFmpeg recognises the format. `label` names it in messages. Raises BadRequest with what is
    wrong with it.
    """
    with errors_of(label), opened(io.BytesIO(data), demuxer) as container:
        track = Track(container, label)
        yield from batched(track.frames())
        track.check_whole()


def blocks_of_unknown(data: memoryview, refusal: Exception) -> Iterator[Block]:
    """Yield a recording that FFmpeg alone recognises.

    Raises `refusal` if it does not, or takes it for a format without a header, and what `blocks` raises.
    """
    with ExitStack() as stack:
        try:
            container = stack.enter_context(opened(io.BytesIO(data), None))
        except (av.error.FFmpegError, *_OTHER_ERRORS):
            raise refusal from None
        if container.format.name in HEADERLESS:
            raise refusal
        label = container.format.long_name
        with errors_of(label):
            track = Track(container, label)
            yield from batched(track.frames())
            track.check_whole()


@contextmanager
def opened(source: Any, demuxer: str | None, options: dict[str, str] | None = None) -> Iterator[Any]:
    """Open a container that FFmpeg reads from `source`, with the demuxers and decoders of `allowed`."""
    limits = {
        "format_whitelist": DEMUXER_LIST,
        "codec_whitelist": DECODER_LIST,
        # Files that name other files or addresses do not get them.
        "protocol_whitelist": "none",
        "probesize": str(_PROBED_BYTES),
        "max_streams": "64",
        "max_probe_packets": "500",
        **(options or {}),
    }
    with av.open(
        source,
        "r",
        format=demuxer.partition(",")[0] if demuxer else None,
        options=limits,
        metadata_errors="ignore",
        buffer_size=_READ_BYTES,
    ) as container:
        yield container


class Track:
    """The first audio track of an open container."""

    def __init__(self, container: Any, label: str) -> None:
        """`label` names the container in messages. Raises BadRequest if it has no audio that is read here."""
        self._container = container
        self._label = label
        self._stream = _audio_stream(container, label)
        self._seconds = 0.0
        self._packets = self._damaged = 0

    def frames(self) -> Iterator[Block]:
        """Yield the decoded frames. Raises BadRequest if too much of it is damaged."""
        for packet in self._demuxed():
            self._packets += 1
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                # The empty packet at the end has no audio that could be lost.
                self._damaged += packet.size > 0
                continue
            for frame in frames:
                if frame.samples:
                    self._seconds += frame.samples / frame.sample_rate
                    yield samples_of(frame), frame.sample_rate
        if self._damaged > max(_DAMAGED_AT_BORDERS, _MAX_DAMAGED * self._packets) or not self._seconds:
            raise self._is_damaged()

    def _demuxed(self) -> Iterator[Any]:
        try:
            yield from self._container.demux(self._stream)
        except av.error.FFmpegError as error:
            if not self._seconds:
                raise
            raise BadRequest(
                f"audio: {self._label} is damaged or cut short after {self._seconds:.2f} s: {_reason(error)}"
            ) from error

    def check_whole(self) -> None:
        """Raise BadRequest if the container declares more audio than was decoded."""
        declared = _declared_seconds(self._container, self._stream)
        if declared is not None and self._seconds < declared - _tolerance(declared):
            raise BadRequest(
                f"audio: {self._label} is cut short: {declared:.2f} s are declared, "
                f"{self._seconds:.2f} s are there"
            )

    def _is_damaged(self) -> BadRequest:
        if self._packets <= 1 and not self._damaged:
            return BadRequest(f"audio: {self._label} has no samples")
        return BadRequest(
            f"audio: {self._label} is damaged: {self._damaged} of its {self._packets} packets cannot be "
            "decoded"
        )


def _audio_stream(container: Any, label: str) -> Any:
    streams = container.streams.audio
    if not streams:
        kinds = sorted({stream.type for stream in container.streams if stream.type})
        has = f"it has {' and '.join(kinds)} only" if kinds else "it has no track at all"
        raise BadRequest(f"audio: {label} has no audio track; {has}")
    stream = streams[0]
    context = stream.codec_context
    if context is None or context.name not in DECODERS:
        coding = context.name if context is not None else "a coding that is unknown or encrypted"
        raise BadRequest(f"audio: {label} with {coding} is not supported; convert it to FLAC, MP3 or Opus")
    context.thread_count = 1
    return stream


def _declared_seconds(container: Any, stream: Any) -> float | None:
    """The length of the track that its container declares, None where it declares none or FFmpeg estimates it
    from the size of the file."""
    declares = {"flac", "mov,mp4,m4a,3gp,3g2,mj2", "tta", "wv", "ape", "tak", "mpc8"}
    if container.format.name not in declares or not stream.duration or stream.duration < 0:
        return None
    return float(stream.duration * stream.time_base)


def _tolerance(declared: float) -> float:
    """Seconds that may be missing: encoders round to whole frames, and players skip the first ones."""
    return 0.25 + 0.01 * declared


def samples_of(frame: Any) -> NDArray[np.float32] | NDArray[np.int16]:
    """Return the samples [frames, channels] of a decoded frame, int16 or float32."""
    channels = frame.layout.nb_channels
    if channels > MAX_CHANNELS:
        raise BadRequest(f"audio: channels: {channels} is not allowed; 1 to {MAX_CHANNELS} are")
    # PyAV looks for the end of the list of planes, which has none from eight channels on.
    if frame.format.name not in _READ_BY_NUMPY or (frame.format.is_planar and channels >= 8):
        (frame,) = av.AudioResampler("flt", frame.layout, frame.sample_rate).resample(frame)
    array = frame.to_ndarray()
    samples = array.T if frame.format.is_planar else array.reshape(-1, channels)
    kind = samples.dtype.str[1:]
    if kind in _TO_FLOAT:
        scale, offset = _TO_FLOAT[kind]
        return np.asarray(samples * scale + offset, dtype=np.float32)
    return samples if kind in ("i2", "f4") else samples.astype(np.float32)


def batched(frames: Iterator[Block]) -> Iterator[Block]:
    """Join frames of one rate and number of channels into blocks of about a second."""
    held: list[Any] = []
    length = rate = 0
    for samples, frame_rate in frames:
        if held and (
            frame_rate != rate
            or samples.shape[1] != held[0].shape[1]
            or samples.dtype != held[0].dtype
            or length >= _BLOCK_SECONDS * rate
        ):
            yield np.concatenate(held), rate
            held, length = [], 0
        rate = frame_rate
        held.append(samples)
        length += len(samples)
    if held:
        yield np.concatenate(held), rate


@contextmanager
def errors_of(label: str) -> Iterator[None]:
    """Turn FFmpeg's errors into BadRequest."""
    try:
        yield
    except (av.error.FFmpegError, *_OTHER_ERRORS) as error:
        raise BadRequest(f"audio: {label} cannot be read: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    reason = str(getattr(error, "strerror", None) or error)
    if reason.startswith("Invalid data"):
        return "its data is damaged or cut short"
    return reason[:1].lower() + reason[1:]
