"""Decodes a client's bytes to `Audio`. 16-bit WAV and PCM stay a view of the bytes."""

import asyncio
import io
from collections.abc import Callable
from functools import partial

import numpy as np
import soundfile
from numpy.typing import NDArray

from inference_service.audio import mixdown, wav
from inference_service.audio.limits import check_rate_and_channels
from inference_service.audio.waveform import Audio
from inference_service.errors import BadRequest, TooLarge

#: Names of raw little-endian 16-bit samples. Only these need `sample_rate` and `channels` from the client.
PCM_FORMATS = frozenset({"pcm", "pcm16", "pcm_s16le", "s16le", "raw"})

#: Names of formats with a header. The decoder follows the header, not the name.
CONTAINER_FORMATS = frozenset(
    {"wav", "wave", "flac", "ogg", "oga", "opus", "vorbis", "mp3", "mpeg", "aiff", "au", "caf", "w64", "rf64"}
)

#: Upper bound on what compressed audio may decode to, in frames (256 MiB as mono float32): ten minutes of
#: silence at 384 kHz are a few kilobytes of FLAC.
MAX_DECODED_FRAMES = 1 << 26

#: Below this many bytes any uncompressed conversion takes well under a millisecond.
_FAST_BYTES = 64 * 1024

_BLOCK_FRAMES = 1 << 16

Buffer = bytes | bytearray | memoryview


def decode_audio(
    data: Buffer, *, format: str, sample_rate: int = 16000, channels: int = 1, max_seconds: float
) -> Audio:
    """Decode what a client sent.

    `format` is one of `PCM_FORMATS` or `CONTAINER_FORMATS`, in any case. `sample_rate` (Hz) and `channels`
    describe raw PCM and are ignored for formats with a header. 16-bit WAV and PCM are returned as a view
    of `data`, which must not change while the result is in use.

    Raises BadRequest for an unknown format, an invalid rate or channel count, an invalid, truncated or empty
    file, and samples that are not finite; TooLarge for audio over `max_seconds`.
    """
    name = format.strip().lower()
    if name not in PCM_FORMATS and name not in CONTAINER_FORMATS:
        raise BadRequest(
            f'format: "{format[:40]}" is not known; allowed are '
            f"{', '.join(sorted(PCM_FORMATS))} and {', '.join(sorted(CONTAINER_FORMATS))}"
        )
    if not len(data):
        raise BadRequest("audio is empty: 0 bytes")
    # PCM samples do not begin with RIFF and WAVE by chance: decode a WAV that is called pcm as WAV.
    if wav.is_wav(data):
        layout = wav.read_header(data)
        if layout is None:
            raise BadRequest(f"audio: WAV is truncated: its {len(data)} bytes end before the samples")
        if layout.is_plain:
            samples = wav.sample_bytes(data, layout)
            _check_length(len(samples) // layout.block, layout.sample_rate, max_seconds)
            return _finished(wav.samples(samples, layout), layout.sample_rate)
        return _decode_with_libsndfile(data, name, max_seconds)
    if name in PCM_FORMATS:
        return _decode_pcm(data, sample_rate, channels, max_seconds)
    return _decode_with_libsndfile(data, name, max_seconds)


def decodes_slowly(data: Buffer, *, format: str) -> bool:
    """Return whether `decode_audio` would block an event loop, so that it belongs in a thread."""
    if wav.is_wav(data):
        return not wav.is_16_bit(data) and len(data) > _FAST_BYTES
    return format.strip().lower() not in PCM_FORMATS


async def decode_without_blocking(
    data: Buffer, *, format: str, sample_rate: int, channels: int, max_seconds: float
) -> Audio:
    """`decode_audio`, in a thread where it would block the event loop."""
    decode = partial(
        decode_audio,
        data,
        format=format,
        sample_rate=sample_rate,
        channels=channels,
        max_seconds=max_seconds,
    )
    return await asyncio.to_thread(decode) if decodes_slowly(data, format=format) else decode()


def _decode_pcm(data: Buffer, sample_rate: int, channels: int, max_seconds: float) -> Audio:
    check_rate_and_channels(sample_rate, channels, where="")
    frame_bytes = 2 * channels
    if len(data) % frame_bytes:
        raise BadRequest(
            f"audio: {len(data)} bytes of PCM are not a whole number of {frame_bytes}-byte frames "
            f"(16-bit samples, channels: {channels})"
        )
    _check_length(len(data) // frame_bytes, sample_rate, max_seconds)
    samples = np.frombuffer(data, dtype="<i2")
    return _finished(samples.reshape(-1, channels) if channels > 1 else samples, sample_rate)


class _File(io.BytesIO):
    """A file in memory that ignores a seek to before its start, which libsndfile does for invalid headers.

    An exception cannot pass through libsndfile, and would be printed to the log.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek to `offset` and return the position."""
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _decode_with_libsndfile(data: Buffer, name: str, max_seconds: float) -> Audio:
    try:
        with soundfile.SoundFile(_File(data)) as file:
            check_rate_and_channels(file.samplerate, file.channels, where=f"{file.format} header: ")
            limit = min(MAX_DECODED_FRAMES, int(max_seconds * file.samplerate))
            # A stream of unknown length reports a huge length or 0. Reading it is bounded instead.
            length = file.frames if 0 < file.frames < 1 << 40 else None
            if length is not None:
                _check_length(length, file.samplerate, max_seconds)
            samples = _read_mono(file, limit, max_seconds)
            if length is not None and file.format == "FLAC" and len(samples) < length:
                raise BadRequest(
                    f"audio: FLAC is truncated: {length} frames declared, {len(samples)} are there"
                )
            return _finished(samples, file.samplerate)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        hint = "; for raw 16-bit samples set format to pcm" if name in {"wav", "wave"} else ""
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        if _is_video_container(data):
            reason, hint = "MP4, M4A and WebM are not supported; convert it to FLAC, MP3 or Ogg", ""
        raise BadRequest(f"audio: cannot be read as {name}: {reason}{hint}") from error


def _is_video_container(data: Buffer) -> bool:
    """Return whether this is MP4 or WebM, which libsndfile does not read."""
    return bytes(data[4:8]) == b"ftyp" or bytes(data[:4]) == b"\x1a\x45\xdf\xa3"


def _read_mono(file: soundfile.SoundFile, limit: int, max_seconds: float) -> NDArray[np.float32]:
    """Mix the file's channels into one, block by block: many channels need no more memory than one."""
    if file.channels == 1:
        return _read_blocks(file, lambda block: block[:, 0].copy(), limit, max_seconds)
    energies = np.zeros(file.channels)

    def average(block: NDArray[np.float32]) -> NDArray[np.float32]:
        energies[:] += np.einsum("fc,fc->c", block, block)
        return block.mean(axis=1, dtype=np.float32)

    mono = _read_blocks(file, average, limit, max_seconds)
    if not mixdown.cancel(mixdown.energy(mono), energies.tolist()):
        return mono
    kept = mixdown.loudest(energies.tolist())
    file.seek(0)  # rare enough to decode twice
    return _read_blocks(file, lambda block: block[:, kept].copy(), limit, max_seconds)


def _read_blocks(
    file: soundfile.SoundFile,
    one_channel: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    limit: int,
    max_seconds: float,
) -> NDArray[np.float32]:
    """Read the file to its end, with `one_channel` making each block [frames, channels] mono [frames]."""
    blocks: list[NDArray[np.float32]] = []
    total = 0
    while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
        total += len(block)
        if total > limit:
            _check_length(total, file.samplerate, max_seconds)
            raise TooLarge(
                f"audio decodes to more than {MAX_DECODED_FRAMES} samples a channel, the most allowed"
            )
        blocks.append(one_channel(block))
    return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.float32)


def _finished(
    samples: NDArray[np.int16] | NDArray[np.int32] | NDArray[np.float32], sample_rate: int
) -> Audio:
    if not samples.shape[0]:
        raise BadRequest("audio has no samples")
    if samples.dtype == np.float32:
        low, high = float(samples.min()), float(samples.max())  # both are NaN if a sample is
        if not (np.isfinite(low) and np.isfinite(high)):
            raise BadRequest("audio has samples that are not finite numbers (NaN or infinity)")
        if low < -1.0 or high > 1.0:
            # Clip beyond full scale, as players do: 1e38 would overflow in the resampler.
            samples = np.clip(samples, np.float32(-1.0), np.float32(1.0)).astype(np.float32, copy=False)
    return Audio(samples, sample_rate)


def _check_length(frames: int, sample_rate: int, max_seconds: float) -> None:
    seconds = frames / sample_rate
    if seconds > max_seconds:
        raise TooLarge(f"audio is {seconds:.1f} s long; at most {max_seconds:g} s are allowed")
