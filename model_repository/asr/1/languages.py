"""Whisper's languages by code and by English name."""

from __future__ import annotations

from collections.abc import Collection

# Codes as in the multilingual vocabularies; `yue` came with large-v3.
_NAMES = """
en english | zh chinese | de german | es spanish | ru russian | ko korean | fr french | ja japanese |
pt portuguese | tr turkish | pl polish | ca catalan | nl dutch | ar arabic | sv swedish | it italian |
id indonesian | hi hindi | fi finnish | vi vietnamese | he hebrew | uk ukrainian | el greek | ms malay |
cs czech | ro romanian | da danish | hu hungarian | ta tamil | no norwegian | th thai | ur urdu |
hr croatian | bg bulgarian | lt lithuanian | la latin | mi maori | ml malayalam | cy welsh | sk slovak |
te telugu | fa persian | lv latvian | bn bengali | sr serbian | az azerbaijani | sl slovenian | kn kannada |
et estonian | mk macedonian | br breton | eu basque | is icelandic | hy armenian | ne nepali | mn mongolian |
bs bosnian | kk kazakh | sq albanian | sw swahili | gl galician | mr marathi | pa punjabi | si sinhala |
km khmer | sn shona | yo yoruba | so somali | af afrikaans | oc occitan | ka georgian | be belarusian |
tg tajik | sd sindhi | gu gujarati | am amharic | yi yiddish | lo lao | uz uzbek | fo faroese |
ht haitian creole | ps pashto | tk turkmen | nn nynorsk | mt maltese | sa sanskrit | lb luxembourgish |
my myanmar | bo tibetan | tl tagalog | mg malagasy | as assamese | tt tatar | haw hawaiian | ln lingala |
ha hausa | ba bashkir | jw javanese | su sundanese | yue cantonese |
my burmese | ca valencian | nl flemish | ht haitian | lb letzeburgesch | ps pushto | pa panjabi |
ro moldavian | ro moldovan | si sinhalese | es castilian | zh mandarin | jw jv | tl fil | no nb | he iw
"""
CODES: dict[str, str] = {
    name: code
    for entry in _NAMES.replace("\n", " ").split("|")
    for code, name in [entry.strip().split(" ", 1)]
}


def language_code(asked: str | None, known: Collection[str]) -> str | None:
    """The code of the language `asked` for: a code (`en`), a tag (`en-US`) or an English name (`Spanish`).

    `known` are the codes that the weights know. Returns None where the language is to be detected: nothing or
    `auto` was asked and there are several. Raises `ValueError` for a language that the weights do not know.
    """
    name = (asked or "").strip().lower()
    if name in ("", "auto"):
        return None if len(known) > 1 else next(iter(known))
    tag = name.replace("_", "-").split("-")[0]
    code = CODES.get(name) or CODES.get(tag) or tag
    if code not in known:
        raise ValueError(
            f"language: the loaded Whisper model does not know {asked!r}, only {', '.join(sorted(known))}"
        )
    return code
