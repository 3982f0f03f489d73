"""Word error rates and languages of the default weights on recorded prompts, beside faster-whisper.

The prompts are those of Debian's packages asterisk-core-sounds-{en,es,fr,it,ru} (the texts) and -wav (8 kHz
recordings).

    .venv/bin/python -m tests.bench.words --prompts 40    # of each language
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jiwer
from numpy.typing import NDArray

from tests.bench.row import Row, show
from tests.bench.speech import both, read

LANGUAGES = ("en", "es", "fr", "it", "ru")
SOUNDS = Path("/usr")


def words(count: int = 20) -> list[Row]:
    """For each language the word error rate minus faster-whisper's; the share of languages that are right.

    The language is not given. Without the packages there are no rows.
    """
    try:
        spoken = {language: prompts(SOUNDS, language, count) for language in LANGUAGES}
    except ValueError:
        print("no word error rates: they need Debian's asterisk-core-sounds-{en,es,fr,it,ru} and -wav")
        return []
    rows, right = [], 0
    with both("base") as (model, other):
        for language in LANGUAGES:
            clips, texts = zip(*spoken[language], strict=True)
            # Both at once: nothing is timed here.
            with ThreadPoolExecutor(5) as pool:
                beside = pool.submit(other.transcribe, clips, None)
                heard, languages, _ = zip(*pool.map(model.transcribe, clips), strict=True)
                theirs, their_languages, _ = beside.result()
            rate, their_rate = word_error_rate(texts, heard), word_error_rate(texts, theirs)
            right += languages.count(language)
            known = f"language {languages.count(language)}/{len(clips)} ({their_languages.count(language)})"
            rows.append(
                Row(
                    f"base: word error rate over faster-whisper's, {language}",
                    f"{rate:.3f} ({their_rate:.3f}), {known}",
                    rate - their_rate,
                    0.01,
                    "less",
                )
            )
    total = sum(map(len, spoken.values()))
    rows.append(
        Row("base: share of languages that are right", f"{right}/{total}", right / total, 0.9, "more")
    )
    return rows


def word_error_rate(texts: tuple[str, ...], heard: tuple[str, ...] | list[str]) -> float:
    return float(jiwer.wer([plain(text) for text in texts], [plain(text) for text in heard]))


def prompts(sounds: Path, language: str, count: int) -> list[tuple[NDArray, str]]:
    """`count` recorded prompts of some length and what is said in them, the same at each run."""
    (index,) = (sounds / "share" / "doc").glob(f"*-{language}/core-sounds-{language}.txt.gz")
    folders = list((sounds / "share" / "asterisk" / "sounds").glob(f"{language}*"))
    found = []
    for line in gzip.decompress(index.read_bytes()).decode(errors="replace").splitlines():
        name, _, text = line.partition(":")
        wanted = len(text.split()) >= 6 and not re.search(r"[\[\](<>;]|\d", line)
        path = next((f / f"{name}.wav" for f in folders if (f / f"{name}.wav").is_file()), None)
        if wanted and path is not None:
            found.append((path, text.strip()))
    chosen = random.Random(1).sample(found, min(count, len(found)))
    return [(read(path), text) for path, text in chosen]


def plain(text: str) -> str:
    """Words alone: no case, no punctuation."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text.lower())).strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.words", description=__doc__)
    parser.add_argument("--prompts", type=int, default=20, help="prompts of each language")
    show(words(parser.parse_args().prompts))
