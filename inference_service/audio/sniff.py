"""Recognises the format of a recording by its content.

The answer is certain: signatures of four bytes and more, or several frame headers in a row. What has neither
is left to its name, and to `guess`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Buffer = bytes | bytearray | memoryview

#: Which decoder reads a format.
Reader = Literal["wav", "libsndfile", "ffmpeg", "none"]


@dataclass(frozen=True, slots=True)
class Content:
    """What a recording is. `label` names it in messages. `reader` "none": it is not audio that is read here.
    `demuxer`: FFmpeg's name for it, where its signature tells."""

    label: str
    reader: Reader = "ffmpeg"
    demuxer: str | None = None


_MOV = "mov,mp4,m4a,3gp,3g2,mj2"
_MATROSKA = "matroska,webm"

MP3 = Content("MP3", demuxer="mp3")
MP4 = Content("MP4", demuxer=_MOV)
WEBM = Content("WebM", demuxer=_MATROSKA)
MATROSKA = Content("Matroska", demuxer=_MATROSKA)
OGG = Content("Ogg", demuxer="ogg")
FLAC = Content("FLAC", demuxer="flac")
WAV = Content("WAV", "wav", "wav")
#: A WAV that holds anything but plain samples.
COMPRESSED_WAV = Content("WAV", demuxer="wav")
AAC = Content("AAC", demuxer="aac")
AU = Content("AU", "libsndfile", "au")

#: Signatures: where they begin, their bytes, and what they mean. The first that fits holds.
_SIGNATURES: tuple[tuple[int, bytes, Content], ...] = (
    (0, b"fLaC", FLAC),
    (0, b"OggS", OGG),
    (0, b".snd", AU),
    (0, b"dns.", AU),
    (0, b"caff", Content("CAF", "libsndfile", "caf")),
    (0, b"RF64", Content("RF64", "libsndfile", "wav")),
    (0, b"BW64", Content("BW64", "libsndfile", "wav")),
    (0, b"RIFX", Content("RIFX", "libsndfile")),
    (0, bytes.fromhex("726966662e91cf11a5d628db04c10000"), Content("W64", demuxer="w64")),
    (0, b"#!AMR\n", Content("AMR", demuxer="amr")),
    (0, b"#!AMR-WB\n", Content("AMR-WB", demuxer="amr")),
    (0, bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), Content("WMA (ASF)", demuxer="asf")),
    (0, b"wvpk", Content("WavPack", demuxer="wv")),
    (0, b"MAC ", Content("Monkey's Audio", demuxer="ape")),
    (0, b"TTA1", Content("TTA", demuxer="tta")),
    (0, b"tBaK", Content("TAK", demuxer="tak")),
    (0, b"MPCK", Content("Musepack", demuxer="mpc8")),
    (0, b"MP+\x07", Content("Musepack", demuxer="mpc")),
    (0, b"FLV\x01", Content("FLV", demuxer="flv")),
    (0, b"Creative Voice File\x1a", Content("VOC", "libsndfile", "voc")),
    (0, b"NIST_1A\n", Content("NIST SPHERE", "libsndfile", "nistsphere")),
    (0, b"DSD ", Content("DSF", demuxer="dsf")),
    (0, b"\x00\x00\x01\xba", Content("MPEG program stream", demuxer="mpeg")),
    (0, b"\x7f\xfe\x80\x01", Content("DTS", demuxer="dts")),
    (0, b"nut/multimedia container\0", Content("NUT", demuxer="nut")),
    (0, b"MMMD", Content("MMF", demuxer="mmf")),
    (0, b".SoX", Content("SoX", demuxer="sox")),
    (0, b"XoS.", Content("SoX", demuxer="sox")),
    (0, b" paf", Content("PAF", "libsndfile")),
    (0, b"fap ", Content("PAF", "libsndfile")),
    (0, b"PVF1\n", Content("PVF", "libsndfile")),
    (0, b"ALawSoundFile**\0", Content("Psion WVE", "libsndfile")),
    (0, b"\x64\xa3\x01\x00", Content("IRCAM", "libsndfile")),
    (0, b"\x64\xa3\x02\x00", Content("IRCAM", "libsndfile")),
    (0, b"\x64\xa3\x03\x00", Content("IRCAM", "libsndfile")),
    (0, b"\x00\x01\xa3\x64", Content("IRCAM", "libsndfile")),
    (0, b"\x00\x02\xa3\x64", Content("IRCAM", "libsndfile")),
    (0, b"\x06\x0e\x2b\x34", Content("MXF", "none")),
    (0, b"\xb7\xd8\x00\x20\x37\x49\xda\x11", Content("WTV", "none")),
    (0, b"\x00\x00\x00\x00\x01\xbc", Content("GXF", "none")),
    (4, b"\xf8\x72\x6f\xba", Content("TrueHD", "none")),
    (4, b"\xf8\x72\x6f\xbb", Content("MLP", "none")),
    (0, b"\x72\xf8\x1f\x4e", Content("S/PDIF", "none")),
    (0, b"EA3\x01", Content("OpenMG", "none")),
    (0, b"ea3\x03", Content("OpenMG", "none")),
    (0, b"FWS", Content("Flash", "none")),
    (0, b"CWS", Content("Flash", "none")),
    (0, b"Extended Instrument: ", Content("XI (an instrument)", "none")),
    (65, b"FSSD", Content("HCOM", "none")),
    (0, b".ra\xfd", Content("RealAudio", "none")),
    (0, b".RMF", Content("RealMedia", "none")),
    (0, b"#!SILK_V3", Content("SILK", "none")),
    (1, b"#!SILK_V3", Content("SILK", "none")),
    (0, b"MThd", Content("MIDI (notes, not a recording)", "none")),
    (0, b"#EXTM3U", Content("a playlist, which names recordings and holds none", "none")),
    (0, b"%PDF", Content("PDF", "none")),
    (0, b"PK\x03\x04", Content("a ZIP archive", "none")),
    (0, b"\x1f\x8b\x08", Content("a gzip archive", "none")),
    (0, b"\x89PNG", Content("a PNG picture", "none")),
    (0, b"\xff\xd8\xff\xe0", Content("a JPEG picture", "none")),
    (0, b"\xff\xd8\xff\xe1", Content("a JPEG picture", "none")),
    (0, b"GIF8", Content("a GIF picture", "none")),
)

#: RIFF and IFF files by the type that follows their size.
_RIFF = {
    b"WAVE": WAV,
    b"AVI ": Content("AVI", demuxer="avi"),
    b"QLCM": Content("QCP", demuxer="qcp"),
    b"WEBP": Content("a WebP picture", "none"),
}
_FORM = {
    b"AIFF": Content("AIFF", "libsndfile", "aiff"),
    b"AIFC": Content("AIFF", "libsndfile", "aiff"),
    b"8SVX": Content("8SVX", "libsndfile", "iff"),
    b"16SV": Content("16SV", "libsndfile", "iff"),
}

#: Boxes with which MP4 and QuickTime files begin.
_MP4_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"free", b"styp", b"moof"})

#: So many frames in a row do not happen by chance.
_FRAMES = 4

_TS_PACKET = 188


def sniff(data: Buffer) -> Content | None:
    """Return what the recording is by its first bytes, None if that is not certain."""
    head = bytes(data[:128])
    if head.startswith(b"ID3"):
        return _behind_id3(data)
    for start, signature, content in _SIGNATURES:
        if head.startswith(signature, start):
            return content
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if head.startswith(b"FORM"):
        return _FORM.get(head[8:12])
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return WEBM if b"webm" in head else MATROSKA
    if head[4:8] in _MP4_BOXES and int.from_bytes(head[:4], "big") not in range(2, 8):
        return MP4
    if (
        len(data) > 4 * _TS_PACKET
        and data[1] != 0x47
        and all(data[_TS_PACKET * at] == 0x47 for at in range(4))
    ):
        return Content("MPEG transport stream", demuxer="mpegts")
    return _by_frames(data)


def _behind_id3(data: Buffer) -> Content:
    """What follows the tag, which is mostly MP3 and may be AAC or FLAC."""
    size = 0
    for byte in data[6:10]:
        size = size << 7 | (byte & 0x7F)
    following = memoryview(data)[10 + size :]
    inner = None if following[:3] == b"ID3" else sniff(following)
    return inner if inner in (AAC, FLAC, MP3) else Content("a file with an ID3 tag")


def _by_frames(data: Buffer) -> Content | None:
    for content, size in _FRAMED:
        position = 0
        for _ in range(_FRAMES):
            length = size(bytes(data[position : position + 8]))
            if not length:
                break
            position += length
            if position == len(data):
                return content
        else:
            return content
    return None


_MP3_KBITS = (
    (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),  # MPEG-1 layer I
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),  # MPEG-1 layer II
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG-1 layer III
    (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),  # MPEG-2 layer I
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG-2 layers II and III
)
_MP3_RATES = (44100, 48000, 32000)
_MPEG_1, _LAYER_I, _LAYER_III = 3, 3, 1


def _mp3_frame(head: bytes) -> int:
    """Return the bytes of the MPEG audio frame with this header, 0 if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or bits in (0, 15) or rate == 3:
        return 0
    row = 3 - layer if version == _MPEG_1 else 3 if layer == _LAYER_I else 4
    hertz = _MP3_RATES[rate] >> {_MPEG_1: 0, 2: 1, 0: 2}[version]
    padding = head[2] >> 1 & 1
    kbits = _MP3_KBITS[row][bits - 1]
    if layer == _LAYER_I:
        return (12_000 * kbits // hertz + padding) * 4
    slots = 72_000 if layer == _LAYER_III and version != _MPEG_1 else 144_000
    return slots * kbits // hertz + padding


def _adts_frame(head: bytes) -> int:
    """Return the bytes of the AAC frame with this ADTS header, 0 if it is none."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length > 7 else 0


def _latm_frame(head: bytes) -> int:
    """Return the bytes of the AAC frame in LATM (LOAS) with this header, 0 if it is none."""
    if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return 0
    return 3 + ((head[1] & 0x1F) << 8 | head[2])


def _eac3_frame(head: bytes) -> int:
    """Return the bytes of the E-AC-3 frame with this header, 0 if it is none."""
    if len(head) < 6 or head[:2] != b"\x0b\x77" or not 10 < head[5] >> 3 <= 16:
        return 0
    return 2 * (((head[2] & 7) << 8 | head[3]) + 1)


_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AC3_RATES = (48000, 44100, 32000)


def _ac3_frame(head: bytes) -> int:
    """Return the bytes of the AC-3 frame with this header, 0 if it is none."""
    if len(head) < 6 or head[:2] != b"\x0b\x77" or head[5] >> 3 > 10 or head[4] >> 6 == 3:
        return 0
    size, hertz = head[4] & 63, _AC3_RATES[head[4] >> 6]
    if size >= 2 * len(_AC3_KBITS):
        return 0
    words = 96_000 * _AC3_KBITS[size // 2] // hertz
    return 2 * (words + (size & 1 if hertz == 44100 else 0))


_FRAMED: tuple[tuple[Content, Callable[[bytes], int]], ...] = (
    (AAC, _adts_frame),
    (MP3, _mp3_frame),
    (Content("AAC (LATM)", demuxer="loas"), _latm_frame),
    (Content("AC-3", demuxer="ac3"), _ac3_frame),
    (Content("E-AC-3", demuxer="eac3"), _eac3_frame),
)
