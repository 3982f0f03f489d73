"""Every recording is heard whole, or refused with what is wrong with it."""

from __future__ import annotations

import asyncio
import signal
import struct
import threading
from collections.abc import Callable

import numpy as np
import psutil
import pytest

from inference_service import audio_formats
from inference_service.audio import Audio, Limits, Recording, decode, decode_beside_the_loop, isolated
from inference_service.audio.jobs import Job
from inference_service.audio.mono import Waveform
from inference_service.errors import BadRequest, Busy, ServiceError, TooLarge
from tests.service.recordings import RATE, by_libsndfile, likeness, silent_film, speech, written

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}


def heard(data: bytes, format: str | None = None, **described: int) -> Waveform:
    return decode(Recording(data, format, **described), Limits(60)).waveform(RATE)


def check_speech(waveform: Waveform, start: float = 0.0, end: float = 11.0, *, alike: float = 0.97) -> None:
    """The waveform is the recording from `start` to `end`, apart from what codecs do to it."""
    assert len(waveform) / RATE == pytest.approx(end - start, abs=0.15)
    assert likeness(waveform, speech(start, end)) > alike


#: Container, codec and sample rate, by FFmpeg's names.
FORMATS = [
    *(("wav", codec, RATE) for codec in ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le")),
    *(("wav", codec, RATE) for codec in ("pcm_f64le", "pcm_alaw", "pcm_mulaw", "adpcm_ms", "adpcm_ima_wav")),
    *(("wav", codec, RATE) for codec in ("libmp3lame", "mp2", "wmav2", "adpcm_yamaha", "g722")),
    ("wav", "g726", 8000),
    ("wav", "g723_1", 8000),
    *(("aiff", codec, RATE) for codec in ("pcm_s16be", "pcm_s24be", "pcm_alaw", "adpcm_ima_qt")),
    *(("au", codec, RATE) for codec in ("pcm_s16be", "pcm_mulaw", "pcm_f32be")),
    *(("caf", codec, RATE) for codec in ("pcm_s16le", "alac", "flac", "pcm_alaw")),
    *(("w64", codec, RATE) for codec in ("pcm_s16le", "pcm_f32le")),
    *(("ogg", codec, RATE) for codec in ("libopus", "flac")),
    ("opus", "libopus", 48000),
    ("flac", "flac", 44100),
    *(("mp3", "libmp3lame", rate) for rate in (8000, RATE, 44100)),
    ("mp2", "mp2", RATE),
    ("adts", "aac", RATE),
    ("latm", "aac", RATE),
    *((container, "aac", 44100) for container in ("mp4", "mov", "ipod", "3gp", "3g2", "matroska", "mpegts")),
    *(("mp4", codec, rate) for codec, rate in (("alac", RATE), ("ac3", 48000), ("libopus", 48000))),
    *(("mov", codec, RATE) for codec in ("pcm_s16le", "pcm_mulaw", "adpcm_ima_qt")),
    ("3gp", "libopencore_amrnb", 8000),
    ("amr", "libopencore_amrnb", 8000),
    *(("matroska", codec, RATE) for codec in ("libopus", "flac", "libmp3lame", "pcm_s16le")),
    ("webm", "libopus", 48000),
    *(("asf", codec, 44100) for codec in ("wmav1", "wmav2", "libmp3lame")),
    *((container, container, 48000) for container in ("ac3", "eac3")),
    *(("avi", codec, RATE) for codec in ("libmp3lame", "pcm_s16le", "adpcm_ms")),
    *(("flv", codec, 22050) for codec in ("aac", "libmp3lame", "adpcm_swf")),
    *(("mpegts", codec, 48000) for codec in ("libmp3lame", "mp2", "libopus")),
    ("mpeg", "mp2", 44100),
    ("wv", "wavpack", RATE),
    ("tta", "tta", RATE),
    ("voc", "pcm_u8", 8000),
    ("nut", "mp2", RATE),
]


@pytest.mark.parametrize(("container", "codec", "rate"), FORMATS)
def test_every_container_and_codec_is_heard_without_its_name(container: str, codec: str, rate: int) -> None:
    alike = 0.94 if codec in ("pcm_u8", "g723_1", "g726", "libopencore_amrnb", "adpcm_swf") else 0.97
    check_speech(heard(written(container, codec, rate=rate)), alike=alike)


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        ("WAV", "GSM610"),
        ("WAV", "IMA_ADPCM"),
        ("WAVEX", "PCM_24"),
        ("RF64", "PCM_16"),
        ("OGG", "VORBIS"),
        ("SVX", "PCM_16"),
        ("NIST", "PCM_16"),
        ("PAF", "PCM_16"),
        ("PVF", "PCM_16"),
        ("IRCAM", "PCM_16"),
        ("HTK", "PCM_16"),
    ],
)
def test_what_libsndfile_writes_is_heard_without_its_name(format: str, subtype: str) -> None:
    check_speech(heard(by_libsndfile(format, subtype)))


def test_a_name_does_not_make_another_recording_of_it() -> None:
    for name in (None, "wav", "pcm", "mp3", "audio/webm;codecs=opus"):
        check_speech(heard(written("ipod", "aac"), name))


# Nothing is lost


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp3", "libmp3lame", {}),
        ("mp3", "libmp3lame", {"write_xing": "0", "id3v2_version": "0"}),
        ("ogg", "libopus", {}),
        ("ogg", "flac", {}),
        ("flac", "flac", {}),
        ("wav", "pcm_s16le", {}),
        ("wav", "adpcm_ms", {}),
        ("adts", "aac", {}),
        ("webm", "libopus", {}),
        ("ipod", "aac", {}),
        ("mp4", "aac", FRAGMENTED),
        ("asf", "wmav2", {}),
        ("aiff", "pcm_s16be", {}),
        ("au", "pcm_s16be", {}),
        ("caf", "pcm_s16le", {}),
        ("ac3", "ac3", {}),
    ],
)
def test_recordings_joined_end_to_end_are_all_heard(
    container: str, codec: str, options: dict[str, str]
) -> None:
    rate = 48000 if codec in ("libopus", "ac3") else RATE
    halves = [speech(0.0, 5.5, rate), speech(5.5, 11.0, rate)]
    joined = b"".join(written(container, codec, half, rate=rate, options=options) for half in halves)
    waveform = heard(joined)
    # Each half has its codec's delay, so the second one is compared alone.
    assert len(waveform) / RATE == pytest.approx(11.0, abs=0.3)
    assert likeness(waveform[: 5 * RATE], speech(0.0, 5.0)) > 0.97
    assert likeness(waveform[-5 * RATE :], speech(6.0, 11.0)) > 0.9


@pytest.mark.parametrize(("format", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("WAV", "PCM_16")])
def test_joined_recordings_may_differ_in_rate_and_channels(format: str, subtype: str) -> None:
    first = by_libsndfile(format, subtype, np.stack([speech(0, 5.5, 44100)] * 2, axis=1), 44100)
    second = by_libsndfile(format, subtype, speech(5.5, 11.0))
    check_speech(heard(first + second))


def test_a_flac_whose_writer_did_not_know_its_length_is_heard_to_its_end() -> None:
    flac = bytearray(by_libsndfile("FLAC", "PCM_16"))
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)  # the number of samples in STREAMINFO
    flac[26:42] = bytes(16)  # the checksum
    check_speech(heard(bytes(flac)))


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp3", "libmp3lame", {}),
        ("ogg", "libopus", {}),
        ("adts", "aac", {}),
        ("webm", "libopus", {}),
        ("mp4", "aac", FRAGMENTED),
        ("asf", "wmav2", {}),
        ("avi", "pcm_s16le", {}),
        ("mpegts", "aac", {}),
        ("aiff", "pcm_s16be", {}),
        ("amr", "libopencore_amrnb", {}),
    ],
)
def test_of_a_file_that_was_cut_all_that_is_there_is_heard(
    container: str, codec: str, options: dict[str, str]
) -> None:
    rate = {"libopus": 48000, "libopencore_amrnb": 8000}.get(codec, RATE)
    data = written(container, codec, rate=rate, options=options)
    waveform = heard(data[: len(data) * 6 // 10])
    # Containers hold a second or so in one piece, which is lost if it is not whole.
    assert 5.0 < len(waveform) / RATE < 7.5
    assert likeness(waveform, speech(0, len(waveform) / RATE)) > 0.94


def index_first(mp4: bytes) -> bytes:
    """The file with its index before its audio, whose places in the index are then wrong."""
    at = mp4.index(b"mdat") - 4
    index = mp4.index(b"moov") - 4
    return mp4[:at] + mp4[index:] + mp4[at:index]


@pytest.mark.parametrize(
    ("make", "missing"),
    [
        (lambda: written("wav", "pcm_s16le"), r"\d+ bytes of samples declared, \d+ are there"),
        (lambda: written("wav", "adpcm_ms"), r"\d+ bytes of samples declared, \d+ are there"),
        (lambda: written("flac", "flac"), r"11\.00 s are declared, \d\.\d\d s are there"),
        (lambda: written("tta", "tta"), r"11\.00 s are declared, \d\.\d\d s are there"),
        (lambda: written("ipod", "aac"), r"its index \(moov\), without which the audio cannot be found, is"),
        (lambda: index_first(written("ipod", "aac")), r"MP4 is cut short: \d+ bytes are missing"),
    ],
)
def test_a_file_that_declares_more_than_there_is_says_what_is_missing(
    make: Callable[[], bytes], missing: str
) -> None:
    data = make()
    with pytest.raises(BadRequest, match=missing):
        heard(data[: len(data) * 6 // 10])


def test_samples_beyond_the_size_that_a_wav_declares_are_not_lost_silently() -> None:
    wav = bytearray(by_libsndfile("WAV", "PCM_16"))
    wav[40:44] = struct.pack("<I", 100_000)
    with pytest.raises(BadRequest, match="100000 bytes are declared, 352000 are there"):
        heard(bytes(wav))
    wav[40:44] = struct.pack("<I", 0)
    check_speech(heard(bytes(wav)))


def test_chunks_and_tags_behind_the_samples_of_a_wav_are_not_audio() -> None:
    wav = by_libsndfile("WAV", "PCM_16")
    listed = b"LIST" + struct.pack("<I", 4) + b"INFO"
    for behind in (listed, b"TAG" + bytes(125), bytes(5000), listed + b"id3 \x04\0\0\0abcd"):
        assert len(heard(wav + behind)) == 11 * RATE


def test_a_damaged_file_is_refused_with_how_much_of_it_is_damaged() -> None:
    data = bytearray(written("mp3", "libmp3lame"))
    noise = np.random.default_rng(0).bytes(len(data) // 2)
    data[len(data) // 3 : len(data) // 3 + len(noise)] = noise
    try:
        waveform = heard(bytes(data))
    except BadRequest as error:
        assert "MP3 is damaged" in str(error) or "ID3" in str(error)
    else:
        assert len(waveform)


# Video


def test_of_a_video_the_first_audio_track_is_heard() -> None:
    check_speech(heard(written("mp4", "aac", with_video=True, tracks=2)))
    check_speech(heard(written("matroska", "libopus", with_video=True, tracks=2, rate=48000)))


def test_a_video_without_audio_is_refused_as_that() -> None:
    with pytest.raises(BadRequest, match="MP4 has no audio track; it has video only"):
        heard(silent_film())


# Without a header


def raw(subtype: str, rate: int = 8000) -> bytes:
    return by_libsndfile("RAW", subtype, rate=rate)


def g722() -> bytes:
    wav = written("wav", "g722")
    return wav[wav.index(b"data") + 8 :]


HEADERLESS = [
    (raw("ULAW"), "mulaw", "headerless µ-law"),
    (raw("ALAW"), "alaw", "headerless A-law"),
    (raw("GSM610"), "gsm", "headerless GSM 06.10"),
    (raw("PCM_16"), "sln", "raw 16-bit PCM"),
    (g722(), "g722", "headerless G.722"),
]


@pytest.mark.parametrize(("data", "name", "label"), HEADERLESS)
def test_telephony_audio_is_heard_when_it_is_named(data: bytes, name: str, label: str) -> None:
    check_speech(heard(data, name), alike=0.94)
    kind = audio_formats.named(name)
    assert kind is not None
    for alias in (*kind.aliases, *kind.media_types):
        assert len(heard(data, alias)) == len(heard(data, name))


@pytest.mark.parametrize(("data", "name", "label"), HEADERLESS)
def test_telephony_audio_that_is_not_named_is_recognised_in_its_refusal(
    data: bytes, name: str, label: str
) -> None:
    send_as = "pcm" if name == "sln" else name
    with pytest.raises(BadRequest, match=f"it looks like {label}: send it with format={send_as}") as refused:
        heard(data)
    assert "wav" not in str(refused.value)  # a format that nobody named


def test_audio_basic_is_mu_law_with_the_header_of_au_or_without() -> None:
    check_speech(heard(raw("ULAW"), "audio/basic"))
    check_speech(heard(by_libsndfile("AU", "ULAW", rate=8000), "audio/basic"))


@pytest.mark.parametrize(
    ("name", "described", "reason"),
    [
        (
            "gsm",
            {"sample_rate": 16000},
            "sample_rate: 16000 is not possible for headerless GSM 06.10; 8000 is",
        ),
        ("g722", {"channels": 2}, "channels: 2 is not possible for headerless G.722, which has one"),
        ("basic", {"sample_rate": 44100}, "8000 is"),
        ("gsm", {}, "32 bytes of headerless GSM 06.10 are not a whole number of frames of 33 bytes"),
    ],
)
def test_what_a_coding_cannot_be_is_refused(name: str, described: dict[str, int], reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        heard(raw("GSM610")[:32], name, **described)


def test_mu_law_and_a_law_have_the_rate_and_the_channels_that_are_named() -> None:
    stereo = np.stack([speech(rate=16000)] * 2, axis=1)
    check_speech(heard(by_libsndfile("RAW", "ALAW", stereo), "alaw", sample_rate=16000, channels=2))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"%PDF-1.7" + bytes(100), "PDF"),
        (b"PK\x03\x04" + bytes(100), "a ZIP archive"),
        (b"MThd" + bytes(100), "MIDI"),
        (b"#EXTM3U\nhttp://127.0.0.1/x.ts\n", "a playlist, which names recordings and holds none"),
        (b"\x06\x0e\x2b\x34" + bytes(100), "MXF"),
        (b"UklGRiQAAABXQVZFZm10IBAAAAABAAEA" * 20, "it looks like text, not audio; base64 goes into"),
    ],
)
def test_what_is_no_recording_is_refused_by_its_name(data: bytes, what: str) -> None:
    with pytest.raises(BadRequest, match=what):
        heard(data, "wav")


# Bounds


@pytest.mark.parametrize(("container", "codec"), [("ipod", "aac"), ("wav", "pcm_s24le"), ("voc", "pcm_u8")])
def test_what_is_too_long_is_refused(container: str, codec: str) -> None:
    with pytest.raises(TooLarge, match="at most 5 s are allowed"):
        decode(Recording(written(container, codec)), Limits(5))


def test_only_the_waveform_is_held_and_a_budget_may_refuse_it() -> None:
    held: list[int] = []
    audio = decode(Recording(written("flac", "flac", rate=192_000)), Limits(60, hold=held.append))
    assert held == sorted(held)
    # 16 kHz float32 and ten seconds of room.
    assert audio.samples.nbytes <= held[-1] <= audio.samples.nbytes + 4 * 10 * RATE

    def refuse(size: int) -> None:
        raise Busy("no room")

    with pytest.raises(Busy, match="no room"):
        decode(Recording(written("ipod", "aac")), Limits(60, hold=refuse))


@pytest.mark.parametrize("container", ["ipod", "flac", "wav", "voc"])
def test_decoding_stops_where_it_is_told(container: str) -> None:
    codec = {"ipod": "aac", "flac": "flac", "wav": "pcm_s24le", "voc": "pcm_u8"}[container]
    data = written(container, codec, np.tile(speech(), 20))
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise BadRequest("stop")

    with pytest.raises(BadRequest, match="stop"):
        decode(Recording(data), Limits(600, check=check))
    assert calls == 3


def test_more_channels_than_players_have_are_heard() -> None:
    channels = np.stack([speech()] * 12, axis=1)
    check_speech(heard(by_libsndfile("WAV", "PCM_16", channels)))
    check_speech(heard(by_libsndfile("FLAC", "PCM_16", channels[:, :8])))


def test_a_recording_that_crashes_its_decoder_is_refused_and_the_next_one_is_heard(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No file is known that still crashes one, so the process is killed while it decodes."""
    whole = isolated.Decoder

    def killed(job: Job) -> isolated.Decoder:
        decoder = whole(job)
        assert decoder._handle is not None
        signal.pidfd_send_signal(decoder._handle, signal.SIGSEGV)
        return decoder

    monkeypatch.setattr(isolated, "Decoder", killed)
    with pytest.raises(BadRequest, match="MP4 is damaged: it makes the decoder fail"):
        heard(written("ipod", "aac"))
    assert "a decoder process ended without an answer" in caplog.text
    monkeypatch.undo()
    check_speech(heard(written("ipod", "aac")))


async def test_a_client_that_leaves_ends_the_decoding() -> None:
    hour = by_libsndfile("FLAC", "PCM_16", np.tile(speech(), 300))
    work = asyncio.create_task(decode_beside_the_loop(Recording(hour), Limits(4000)))
    while not (running := decoding()):  # noqa: ASYNC110 - a process has no event to wait for
        await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    while set(decoding()) & set(running):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def decoding() -> list[int]:
    """The processes that decode a recording of this process."""
    return [
        child.pid
        for parent in psutil.Process().children()
        if "inference_service.audio.decoder_process" in parent.cmdline()
        for child in parent.children()
    ]


def test_recordings_are_heard_again_after_the_decoders_parent_was_killed() -> None:
    check_speech(heard(written("ipod", "aac")))
    for child in psutil.Process().children():
        if "inference_service.audio.decoder_process" in child.cmdline():
            child.kill()
    check_speech(heard(written("ipod", "aac")))


def test_an_mp4_that_declares_billions_of_samples_is_refused_before_ffmpeg_allocates_them() -> None:
    data = bytearray(written("ipod", "aac"))
    at = data.index(b"stsz") + 8
    data[at : at + 8] = struct.pack(">II", 1, 0xF0000000)  # one size for all of so many samples
    with pytest.raises(BadRequest, match="MP4 declares more than 4000000 frames"):
        heard(bytes(data))


# Threads


def test_recordings_are_decoded_in_several_threads_at_once() -> None:
    data = [written("ipod", "aac"), written("mp3", "libmp3lame"), written("flac", "flac")]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for each in data:
                check_speech(heard(each))
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures


@pytest.mark.parametrize(
    "whole",
    [
        lambda: written("ipod", "aac"),
        lambda: written("webm", "libopus", rate=48000),
        lambda: written("mp3", "libmp3lame"),
        lambda: by_libsndfile("OGG", "VORBIS"),
        lambda: written("flac", "flac"),
        lambda: written("asf", "wmav2"),
        lambda: by_libsndfile("AIFF", "PCM_16"),
    ],
)
def test_damaged_bytes_are_audio_or_refused(whole: Callable[[], bytes]) -> None:
    data = whole()
    random = np.random.default_rng(len(data))
    for _ in range(40):
        mutated = bytearray(data[: random.integers(1, len(data))])
        for at in random.integers(0, min(len(mutated), 2000), random.integers(1, 20)):
            mutated[at] = random.integers(256)
        try:
            assert isinstance(decode(Recording(bytes(mutated)), Limits(60)), Audio)
        except ServiceError as error:
            assert str(error)
