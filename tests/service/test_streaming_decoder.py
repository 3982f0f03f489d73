"""A stream's bytes, cut anywhere, become one continuous waveform."""

from __future__ import annotations

import asyncio
import io
import wave

import numpy as np
import pytest
import soundfile
import soxr

from inference_service.audio_formats import PCM
from inference_service.errors import BadRequest
from inference_service.streaming.chunk import Chunk
from inference_service.streaming.decoders import decoder_of
from inference_service.streaming.format import WAV, StreamFormat
from tests.service.streams import pieces, tone

pytestmark = pytest.mark.fast

SPEECHLIKE = (np.random.default_rng(7).normal(0, 3000, 48000)).astype("<i2").tobytes()


def decoded(format: StreamFormat, parts: list[bytes]) -> np.ndarray:
    async def collect() -> np.ndarray:
        decoder = decoder_of(format)
        waves = [wave for part in parts async for wave in decoder.decode(part)]
        waves += [wave async for wave in decoder.finish()]
        decoder.check_whole()
        return np.concatenate(waves)

    return asyncio.run(collect())


def wav(samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("size", [1, 3, 7, 640, 9601, 200_000])
def test_the_waveform_does_not_depend_on_where_chunks_are_cut(size: int) -> None:
    format = StreamFormat(sample_rate=48000)
    whole = soxr.resample(np.frombuffer(SPEECHLIKE, "<i2") / np.float32(32768), 48000, 16000, quality="HQ")

    streamed = decoded(format, pieces(SPEECHLIKE[:24000] if size == 1 else SPEECHLIKE, size))

    length = min(len(whole), len(streamed))
    assert abs(len(streamed) - (4000 if size == 1 else len(whole))) <= 1
    # At the very end the resampler's window has silence in place of the missing samples.
    np.testing.assert_allclose(streamed[: length - 200], whole[: length - 200], atol=2e-4)


def test_audio_at_the_models_rate_is_passed_on_sample_for_sample() -> None:
    samples = np.frombuffer(SPEECHLIKE, "<i2")

    np.testing.assert_array_equal(
        decoded(StreamFormat(sample_rate=16000), pieces(SPEECHLIKE, 333)), samples / np.float32(32768)
    )


def test_channels_are_averaged() -> None:
    left = np.full(1600, 1000, "<i2")
    interleaved = np.stack([left, -3 * left], axis=1).tobytes()

    mono = decoded(StreamFormat(sample_rate=16000, channels=2), pieces(interleaved, 5))
    np.testing.assert_array_equal(mono, np.full(1600, -1000 / 32768, np.float32))


def test_pcm_that_ends_in_the_middle_of_a_sample_is_refused_at_its_end() -> None:
    with pytest.raises(BadRequest, match="ends in the middle of a frame: 1 of its 2 bytes"):
        decoded(StreamFormat(), [SPEECHLIKE[:-1]])


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
)
@pytest.mark.parametrize("size", [1, 1000, 10**6])
def test_a_wav_is_decoded_as_its_header_says(subtype: str, size: int) -> None:
    samples = np.sin(np.arange(3000) / 9).astype(np.float32) * 0.5
    file = wav(np.stack([samples, samples], axis=1), 16000, subtype)

    streamed = decoded(StreamFormat(kind=WAV, sample_rate=48000), pieces(file, size))

    np.testing.assert_allclose(streamed, samples, atol=0.02)


def test_chunks_that_are_wavs_of_their_own_make_one_stream() -> None:
    samples = np.frombuffer(SPEECHLIKE, "<i2")

    streamed = decoded(StreamFormat(kind=WAV), [wav(part, 16000) for part in np.split(samples, 8)])

    np.testing.assert_array_equal(streamed, samples / np.float32(32768))


def test_a_wav_of_another_rate_in_the_same_stream_is_refused() -> None:
    samples = np.zeros(1600, np.int16)
    with pytest.raises(BadRequest, match="second WAV with another rate"):
        decoded(StreamFormat(kind=WAV), [wav(samples, 16000), wav(samples, 8000)])


def test_what_recorders_write_after_the_samples_is_not_audio() -> None:
    samples = np.arange(100, dtype=np.int16)
    file = wav(samples, 16000) + b"LIST\x04\x00\x00\x00INFO"

    assert len(decoded(StreamFormat(kind=WAV), pieces(file, 50))) == 100


def test_samples_beyond_the_declared_length_are_an_error_and_not_lost() -> None:
    file = wav(np.arange(100, dtype=np.int16), 16000)
    with pytest.raises(BadRequest, match="goes on after the samples"):
        decoded(StreamFormat(kind=WAV), [file, b"\x01\x80\x02\x80"])


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_whose_writer_did_not_know_its_length_goes_on_to_the_streams_end(size: int) -> None:
    file = bytearray(wav(np.arange(1000, dtype=np.int16), 16000))
    file[40:44] = size.to_bytes(4, "little")

    assert len(decoded(StreamFormat(kind=WAV), pieces(bytes(file), 77))) == 1000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"RIFF\x00\x00", "cut short after 6 bytes"),
        (b"not a wav file at all", "does not start with a WAV header"),
        (wav(np.zeros(10, np.int16), 16000, "MS_ADPCM"), "compressed and cannot be streamed"),
        (b"RIFF\x00\x00\x00\x00WAVE" + b"JUNK\xff\xff\xff\x00" + bytes(70_000), "no samples in the first"),
        (b"RIFF\x00\x00\x00\x00WAVEdata\x00\x00\x00\x00", "data chunk before its fmt chunk"),
        (wav(np.full(4, np.nan, np.float32), 16000, "FLOAT"), "not finite"),
    ],
    # The file's own bytes hold the time at which it was written.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wav_that_cannot_be_streamed_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        decoded(StreamFormat(kind=WAV), [data])


def test_the_wave_modules_files_are_read() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(tone(0.5, 8000))

    assert len(decoded(StreamFormat(kind=WAV), pieces(file.getvalue(), 999))) == 8000


def test_the_format_holds_until_a_chunk_says_otherwise() -> None:
    format = StreamFormat().changed_by(
        Chunk(sample_rate=8000, tasks=("emotion", "asr", "speech_recognition"))
    )

    assert (format.rate, format.channels, format.kind) == (8000, 1, PCM)
    assert format.tasks == ("emotion_detection", "speech_recognition")
    assert format.changed_by(Chunk(data=b"xy")) is format
    assert format.changed_by(Chunk(channels=2)).rate == 8000
    assert StreamFormat().rate == 48000


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (Chunk(format="caf"), 'format: "caf" cannot be streamed; allowed are wav, flac'),
        (Chunk(sample_rate=7), "sample_rate: 7 is not allowed"),
        (Chunk(sample_rate=-48000), "sample_rate: -48000 is not allowed"),
        (Chunk(sample_rate=2_000_000_000), "sample_rate: 2000000000 is not allowed"),
        (Chunk(channels=1000), "channels: 1000 is not allowed"),
        (Chunk(tasks=("asr", "karaoke")), 'tasks: "karaoke" is not a task; allowed are'),
        (Chunk(tasks=("",)), 'tasks: "" is not a task'),
    ],
)
def test_a_format_that_makes_no_sense_names_its_field(chunk: Chunk, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        StreamFormat().changed_by(chunk)
