"""The formats that `decode_audio` reads, and its errors for the others."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference_service import audio
from inference_service.audio import Audio, Limits, Recording
from inference_service.audio.decode import view
from inference_service.errors import BadRequest, ServiceError, TooLarge

pytestmark = pytest.mark.fast

RATE = 16000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)


def wav(
    data: bytes,
    *,
    tag: int = 1,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    size: int | None = None,
    block: int | None = None,
    before: bytes = b"",
) -> bytes:
    block = channels * bits // 8 if block is None else block
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * block % 2**32, block, bits)
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + before
    chunks += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def pcm16(samples: NDArray[np.float32]) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def decode(data: bytes, format: str | None = "wav", max_seconds: float = 60, **described: int) -> Audio:
    return audio.decode(Recording(data, format, **described), Limits(max_seconds))


def written(samples: NDArray[np.float32], format: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(
    ("format", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 0.01),
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_32", 1e-6),
        ("WAV", "FLOAT", 1e-6),
        ("WAV", "DOUBLE", 1e-6),
        ("WAV", "ALAW", 0.02),
        ("WAV", "ULAW", 0.02),
        ("WAV", "IMA_ADPCM", 0.02),
        ("WAVEX", "PCM_16", 1e-4),
        ("WAVEX", "PCM_24", 1e-6),
        ("FLAC", "PCM_16", 1e-4),
        ("FLAC", "PCM_24", 1e-6),
        ("AIFF", "PCM_16", 1e-4),
        ("OGG", "VORBIS", 0.05),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_keeps_the_waveform(format: str, subtype: str, tolerance: float, channels: int) -> None:
    samples = TONE if channels == 1 else np.stack([TONE, 0.5 * TONE], axis=1)
    expected = TONE if channels == 1 else 0.75 * TONE
    audio = decode(written(samples, format, subtype), "wav" if format == "WAVEX" else format)
    assert audio.sample_rate == RATE
    assert np.sqrt(np.mean(np.square(audio.waveform(RATE)[:RATE] - expected))) < tolerance


@pytest.mark.parametrize("format", ["OGG", "MP3"])
def test_lossy_compression_keeps_length_and_loudness(format: str) -> None:
    subtype = {"OGG": "OPUS", "MP3": "MPEG_LAYER_III"}[format]
    audio = decode(written(TONE, format, subtype), format)
    assert abs(audio.seconds - 1) < 0.15
    assert 0.2 < np.sqrt(np.mean(np.square(audio.waveform(RATE)))) < 0.45


@pytest.mark.parametrize("tag", ["ALAW", "ULAW"])
def test_every_g711_code_is_decoded(tag: str) -> None:
    data = wav(bytes(range(256)), tag={"ALAW": 6, "ULAW": 7}[tag], bits=8)
    reference, _ = soundfile.read(
        io.BytesIO(bytes(range(256))), dtype="int16", samplerate=RATE, channels=1, format="RAW", subtype=tag
    )
    assert np.array_equal(decode(data).waveform(RATE) * 32768, reference)


def test_16_bit_audio_is_a_view_of_the_request() -> None:
    body = wav(pcm16(TONE))
    assert np.shares_memory(decode(body).samples, np.frombuffer(body, np.uint8))
    raw = pcm16(TONE)
    assert np.shares_memory(decode(raw, "pcm").samples, np.frombuffer(raw, np.uint8))


def test_pcm_is_described_by_the_request() -> None:
    audio = decode(pcm16(np.stack([TONE, 0.5 * TONE], axis=1)), "PCM", sample_rate=8000, channels=2)
    assert (audio.frames, audio.sample_rate, audio.duration_ms) == (2 * RATE, RATE, 2000)
    assert np.abs(audio.waveform(8000)[200:-200] - 0.75 * TONE[200:-200]).max() < 0.01


#: The two places that mix channels: over a view of the request, and block by block from libsndfile.
MIXED = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16")]


@pytest.mark.parametrize(("format", "subtype"), [*MIXED, ("OGG", "VORBIS")])
@pytest.mark.parametrize("right", [-1.0, -0.8])
def test_channels_in_opposite_phase_do_not_cancel_to_silence(format: str, subtype: str, right: float) -> None:
    audio = decode(written(np.stack([TONE, right * TONE], axis=1), format, subtype), format)
    heard = audio.waveform(RATE)[:RATE]
    assert abs(np.corrcoef(heard, TONE)[0, 1]) > 0.99
    assert np.sqrt(np.mean(np.square(heard))) == pytest.approx(np.sqrt(np.mean(np.square(TONE))), rel=0.02)


@pytest.mark.parametrize(("format", "subtype"), MIXED)
@pytest.mark.parametrize("channels", [2, 3, 8])
def test_unrelated_channels_are_averaged(format: str, subtype: str, channels: int) -> None:
    noise = np.random.default_rng(channels).uniform(-0.5, 0.5, (RATE, channels)).astype(np.float32)
    audio = decode(written(noise, format, subtype), format)
    assert np.allclose(audio.waveform(RATE), noise.mean(axis=1), atol=1e-3)


def test_a_wav_of_nothing_but_chunks_is_refused_at_once() -> None:
    with pytest.raises(BadRequest, match="more than 1000 chunks"):
        decode(wav(b"", before=b"junk\0\0\0\0" * 1000))


def test_channels_without_sound_are_silence() -> None:
    audio = decode(written(np.zeros((RATE, 2), np.float32), "WAV"))
    assert not audio.waveform(RATE).any()


def test_a_header_beats_what_the_request_says() -> None:
    audio = decode(wav(pcm16(TONE), rate=8000), "wav", sample_rate=44100, channels=2)
    assert audio.seconds == 2.0


def test_a_wav_called_pcm_is_read_as_wav() -> None:
    assert decode(wav(pcm16(TONE), rate=48000), "pcm").seconds == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_resampling_keeps_a_tone_and_its_length(rate: int) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    out = decode(wav(pcm16(tone), rate=rate)).waveform(RATE)
    assert abs(len(out) - RATE) <= 1
    middle = slice(2000, 14000)
    assert np.abs(out[middle] - TONE[middle]).max() < 0.01


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF - 36])
def test_streaming_sizes_mean_to_the_end(size: int) -> None:
    assert decode(wav(pcm16(TONE), size=size)).frames == RATE


def test_an_incomplete_last_frame_is_dropped() -> None:
    assert decode(wav(pcm16(TONE) + b"\x01")).frames == RATE
    assert decode(wav(pcm16(TONE)[:-1], size=2 * RATE)).frames == RATE - 1


def test_other_chunks_are_skipped() -> None:
    before = b"LIST" + struct.pack("<I", 5) + b"INFOx\0" + b"junk" + struct.pack("<I", 0)
    assert decode(wav(pcm16(TONE), before=before) + b"id3 \x04\0\0\0abcd").frames == RATE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"RIFF", "sent as wav, but its 4 bytes do not begin as WAV does"),
        (b"RIFF\0\0\0\0WAVE", "truncated: its 12 bytes end before the samples"),
        (wav(b"")[:30], "truncated"),
        (wav(b"")[:40], "truncated: its 40 bytes end before the samples"),
        (wav(b""), "no samples"),
        (wav(pcm16(TONE))[:-1000], "truncated: 32000 bytes of samples declared, 31000 are there"),
        (wav(pcm16(TONE), rate=0), "sample_rate: 0 is not allowed"),
        (wav(pcm16(TONE), rate=4_000_000_000), "1000 to 384000"),
        (wav(pcm16(TONE), channels=0, block=2), "channels: 0"),
        (wav(pcm16(TONE), channels=65535, block=2), "channels: 65535"),
        (wav(pcm16(TONE), bits=12, block=3), "contradicts itself"),
        (wav(pcm16(TONE), bits=64, block=8), "64-bit PCM samples; allowed are 8, 16, 24, 32"),
        (wav(pcm16(TONE), block=0), "contradicts itself"),
        (wav(pcm16(TONE), tag=0xFFFE), "without a known sub-format"),
        (wav(np.array([0.1, np.nan], "<f4").tobytes(), tag=3, bits=32), "not finite"),
        (wav(np.array([0.1, np.inf], "<f8").tobytes(), tag=3, bits=64), "not finite"),
        (b"\0" * 1000, "it does not begin as WAV does.*without a header and its format: pcm"),
        (b"<html>" * 100, "it looks like text, not audio"),
    ],
)
def test_bad_files_are_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        decode(data)


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (b"\0\0\0", {}, "3 bytes of PCM are not a whole number of 2-byte frames"),
        (b"\0" * 6, {"channels": 2}, "4-byte frames"),
        (b"\0\0", {"sample_rate": 0}, "sample_rate: 0"),
        (b"\0\0", {"sample_rate": -5}, "sample_rate: -5"),
        (b"\0\0", {"channels": 1000}, "channels: 1000 is not allowed; 1 to 64 are"),
    ],
)
def test_bad_pcm_is_refused_with_the_reason(data: bytes, options: dict[str, int], reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        decode(data, "pcm", **options)


def test_an_unknown_format_is_named_with_those_allowed() -> None:
    with pytest.raises(BadRequest, match=r'format: "qoa" is not known; allowed are wav, .*pcm'):
        decode(b"x", "qoa")


def test_too_long_audio_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge, match=r"1\.0 s long; at most 0\.5 s"):
        decode(pcm16(TONE), "pcm", max_seconds=0.5)
    with pytest.raises(TooLarge, match=r"at most 0\.5 s"):
        decode(written(TONE, "FLAC"), "flac", max_seconds=0.5)


def test_a_decompression_bomb_is_bounded() -> None:
    silence = written(np.zeros(192_000 * 30, np.float32), "FLAC", rate=192_000)
    assert len(silence) < 500_000
    with pytest.raises(TooLarge):
        decode(silence, "flac", max_seconds=10)


def test_a_truncated_flac_is_refused() -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    with pytest.raises(BadRequest, match=r"FLAC is cut short: 1\.00 s are declared, 0\.\d\d s are there"):
        decode(written(noise, "FLAC")[:10_000], "flac")


def test_samples_beyond_full_scale_are_clipped() -> None:
    loud = wav(np.array([0.5, 3e38, -2.0], "<f4").tobytes(), tag=3, bits=32)
    assert decode(loud).waveform(RATE).tolist() == [0.5, 1.0, -1.0]


@pytest.mark.parametrize(
    ("recording", "is_view"),
    [
        (Recording(wav(pcm16(TONE))), True),
        (Recording(pcm16(TONE), "pcm"), True),
        (Recording(pcm16(TONE), "pcm", 8000), False),
        (Recording(pcm16(TONE), "pcm", channels=2), False),
        (Recording(wav(pcm16(TONE), rate=8000)), False),
        (Recording(wav(pcm16(TONE)) * 2), False),
        (Recording(written(TONE, "FLAC")), False),
    ],
)
def test_only_what_needs_no_conversion_is_read_in_the_event_loop(recording: Recording, is_view: bool) -> None:
    assert (view(recording, Limits(60)) is not None) == is_view


@given(st.binary(max_size=200), st.sampled_from(["wav", "pcm", "flac", "mp3", "ogg"]))
def test_any_bytes_are_audio_or_refused(data: bytes, format: str) -> None:
    try:
        assert decode(data, format).frames > 0
    except ServiceError as error:
        assert str(error)


@given(st.data())
def test_a_damaged_header_is_audio_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(wav(pcm16(TONE[:100])))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, 43))] = data.draw(st.integers(0, 255))
    try:
        audio = decode(bytes(damaged))
        assert np.isfinite(audio.waveform(audio.sample_rate)).all()
    except ServiceError as error:
        assert str(error)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_header_that_leads_before_the_file_leaves_no_traceback() -> None:
    broken = written(TONE, "AIFF", "PCM_16").replace(b"SSND", b"\0SND")
    with pytest.raises(BadRequest, match="AIFF"):
        decode(broken, "aiff")


def test_numbers_that_are_none_are_refused_without_a_warning() -> None:
    signalling = struct.pack("<Q", 0x7FF0000000000001)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadRequest, match="finite"):
            decode(wav(signalling * 100, tag=3, bits=64))
