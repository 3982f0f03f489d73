"""Names of audio formats: in the field `format`, as media types and as endings of file names.

A name never decides how a recording with a header is read: its content does. Only headerless formats need
their name. The table holds names alone, so that the client and the API's description can use it without the
decoders.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """A format by its `name` in the field `format`, and its other names. `label` is its name in messages."""

    name: str
    label: str
    aliases: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Headerless(AudioFormat):
    """A format without a header. `rates` are the sample rates (Hz) that may be named, empty for any. `mono`:
    the coding has one channel only."""

    default_rate: int = 8000
    rates: tuple[int, ...] = ()
    mono: bool = True


#: Raw 16-bit little-endian samples.
PCM = Headerless(
    "pcm",
    "raw 16-bit PCM",
    ("pcm16", "pcm_s16le", "s16le", "raw", "linear16", "slin16"),
    ("application/octet-stream", "audio/pcm", "audio/x-pcm", "audio/l16"),
    ("pcm", "raw", "sln16"),
    default_rate=16000,
    mono=False,
)
#: The same at the rate of telephones, as Asterisk calls it.
SLN = Headerless("sln", "raw 16-bit PCM", ("slin",), (), ("sln",), mono=False)
MULAW = Headerless(
    "mulaw",
    "headerless µ-law",
    ("ulaw", "mu-law", "u-law", "pcmu", "pcm_mulaw", "g711u"),
    ("audio/pcmu", "audio/mulaw", "audio/x-mulaw", "audio/x-ulaw", "audio/g711-mulaw"),
    ("ulaw", "ul", "mulaw", "mu", "pcmu"),
    mono=False,
)
ALAW = Headerless(
    "alaw",
    "headerless A-law",
    ("a-law", "pcma", "pcm_alaw", "g711a"),
    ("audio/pcma", "audio/alaw", "audio/x-alaw", "audio/g711-alaw"),
    ("alaw", "al", "pcma"),
    mono=False,
)
GSM = Headerless(
    "gsm",
    "headerless GSM 06.10",
    ("gsm610", "gsm-fr"),
    ("audio/gsm", "audio/x-gsm", "audio/gsm-fr"),
    ("gsm",),
    rates=(8000,),
)
G722 = Headerless(
    "g722",
    "headerless G.722",
    ("g.722",),
    ("audio/g722", "audio/x-g722"),
    ("g722",),
    default_rate=16000,
    # RFC 3551 gives the RTP clock of G.722 as 8000 by mistake, and clients copy it.
    rates=(16000, 8000),
)
G729 = Headerless(
    "g729", "headerless G.729", ("g.729",), ("audio/g729", "audio/x-g729"), ("g729",), rates=(8000,)
)
#: RFC 2046: 8 kHz µ-law with one channel and no header. Sun's .au files are sent under the same name.
BASIC = Headerless("basic", "µ-law of audio/basic", (), ("audio/basic",), (), rates=(8000,))

HEADERLESS = (PCM, SLN, MULAW, ALAW, GSM, G722, G729, BASIC)

#: Formats with a header, the commonest first.
WITH_HEADER = (
    AudioFormat(
        "wav",
        "WAV",
        ("wave", "rf64", "bwf", "w64"),
        ("audio/wav", "audio/wave", "audio/x-wav", "audio/vnd.wave", "audio/x-pn-wav"),
        ("wav", "wave", "w64", "rf64", "bwf"),
    ),
    AudioFormat("flac", "FLAC", (), ("audio/flac", "audio/x-flac"), ("flac",)),
    AudioFormat(
        "mp3",
        "MP3",
        ("mpeg", "mpga", "mp2"),
        ("audio/mpeg", "audio/mp3", "audio/x-mp3", "audio/mpeg3", "audio/x-mpeg", "audio/mpga"),
        ("mp3", "mpga", "mp2", "mpa"),
    ),
    AudioFormat(
        "ogg",
        "Ogg",
        ("oga", "opus", "vorbis", "speex", "spx"),
        ("audio/ogg", "application/ogg", "audio/opus", "audio/vorbis", "audio/speex", "video/ogg"),
        ("ogg", "oga", "opus", "spx", "ogv"),
    ),
    AudioFormat(
        "mp4",
        "MP4",
        ("m4a", "m4b", "mov", "quicktime", "alac"),
        ("audio/mp4", "audio/m4a", "audio/x-m4a", "audio/mp4a-latm", "video/mp4", "video/quicktime"),
        ("m4a", "mp4", "m4b", "m4v", "mov"),
    ),
    AudioFormat(
        "webm",
        "WebM or Matroska",
        ("matroska", "mkv", "mka"),
        ("audio/webm", "video/webm", "audio/x-matroska", "video/x-matroska"),
        ("webm", "weba", "mka", "mkv"),
    ),
    AudioFormat(
        "aac", "AAC", ("adts",), ("audio/aac", "audio/x-aac", "audio/aacp", "audio/x-hx-aac-adts"), ("aac",)
    ),
    AudioFormat(
        "3gp",
        "3GP",
        ("3gpp", "3g2"),
        ("audio/3gpp", "audio/3gpp2", "video/3gpp", "video/3gpp2"),
        ("3gp", "3g2", "3gpp"),
    ),
    AudioFormat(
        "amr",
        "AMR",
        ("amr-nb", "amr-wb", "awb"),
        ("audio/amr", "audio/amr-wb", "audio/amr-nb"),
        ("amr", "awb"),
    ),
    AudioFormat(
        "wma",
        "WMA",
        ("asf", "wmv"),
        ("audio/x-ms-wma", "video/x-ms-wmv", "video/x-ms-asf", "audio/x-ms-asf"),
        ("wma", "wmv", "asf"),
    ),
    AudioFormat("aiff", "AIFF", ("aif", "aifc"), ("audio/aiff", "audio/x-aiff"), ("aiff", "aif", "aifc")),
    AudioFormat("au", "AU", ("snd",), ("audio/x-au",), ("au", "snd")),
    AudioFormat("caf", "CAF", (), ("audio/x-caf",), ("caf",)),
    AudioFormat("ac3", "AC-3", ("eac3",), ("audio/ac3", "audio/eac3", "audio/x-ac3"), ("ac3", "eac3")),
    AudioFormat("voc", "VOC", (), ("audio/x-voc",), ("voc",)),
    AudioFormat("wavpack", "WavPack", ("wv",), ("audio/x-wavpack",), ("wv",)),
    AudioFormat("ape", "Monkey's Audio", (), ("audio/x-ape", "audio/ape"), ("ape",)),
    AudioFormat("tta", "TTA", (), ("audio/x-tta",), ("tta",)),
    AudioFormat("avi", "AVI", (), ("video/x-msvideo", "video/avi"), ("avi",)),
    AudioFormat("flv", "FLV", (), ("video/x-flv",), ("flv",)),
    AudioFormat(
        "mpegts", "MPEG", ("ts", "mpg", "vob"), ("video/mp2t", "video/mpeg"), ("ts", "mts", "mpg", "mpeg")
    ),
)

FORMATS: tuple[AudioFormat, ...] = (*WITH_HEADER, *HEADERLESS)

_BY_NAME = {name: each for each in FORMATS for name in (each.name, *each.aliases)}
_BY_MEDIA_TYPE = {kind: each for each in FORMATS for kind in each.media_types}
_BY_SUFFIX = {suffix: each for each in FORMATS for suffix in each.suffixes}

#: Every media type that is known to be audio, or a video's sound.
MEDIA_TYPES = tuple(_BY_MEDIA_TYPE)


def named(name: str) -> AudioFormat | None:
    """Return the format with this name, alias or media type, in any case, or None.

    A media type may have parameters, as `audio/webm;codecs=opus`, which browsers call a recorder's type.
    """
    key = name.partition(";")[0].strip().lower()
    return _BY_NAME.get(key) or _BY_MEDIA_TYPE.get(key)


def of_media_type(kind: str) -> AudioFormat | None:
    """Return the format of a media type in lower case, or None."""
    return _BY_MEDIA_TYPE.get(kind)


def of_file_name(name: str) -> AudioFormat | None:
    """Return the format that the ending of a file's name tells, or None."""
    return _BY_SUFFIX.get(name.rpartition(".")[2].lower())


def names() -> str:
    """Return the names of all formats, for messages."""
    return ", ".join(each.name for each in FORMATS)


#: The fields that describe a recording, for the API's description.
FIELD = (
    f"A header in the audio goes before it. Without a header: {', '.join(each.name for each in HEADERLESS)}. "
    f"With one: {', '.join(each.name for each in WITH_HEADER)}"
)
RATE_FIELD = "Hz of audio without a header; default 16000 for pcm, 8000 for mulaw, alaw and sln"
CHANNELS_FIELD = "Channels of audio without a header; default 1"
